"""OpenAI without a network: uploads are links to files, batches have ended at once, and answers are files too.

Everything but the transport is the adapter's own.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from datetime import datetime
from functools import cache
from itertools import cycle
from pathlib import Path

import orjson

from nightbatch.core.models import (
    Counts,
    FoundBatch,
    ListedBatch,
    ProviderState,
    ResultLine,
    Submission,
    UnreadableLine,
)
from nightbatch.providers import openai, openai_results
from nightbatch.providers.wire import lines

_CHUNK = 1 << 16
_DIMENSIONS = ("clarity", "relevance", "emotion", "originality", "call_to_action")


class OfflineOpenAI(openai.OpenAIBatches):
    """What was submitted lies in the folder as ``<id>.requests``; `answer` writes ``<id>.answers``, which ends the batch."""

    def __init__(self, folder: Path) -> None:
        super().__init__(api_key="bench")
        self._folder = folder

    def upload(self, submission: Submission, path: Path) -> str:
        os.link(path, self._folder / f"{submission.tag}.requests")
        return submission.tag

    def submit(self, submission: Submission, path: Path) -> str:
        return submission.tag

    def find_submission(self, submission: Submission) -> list[FoundBatch]:
        return []

    def list_batches(self, since: datetime) -> Iterator[ListedBatch]:
        return iter(())

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        counts = Counts(*orjson.loads((self._folder / f"{provider_batch_id}.counts").read_bytes()))
        return ProviderState(provider_batch_id, "ended", "completed", counts)

    def iter_results(self, provider_batch_id: str, known: Container[int] = ()) -> Iterator[ResultLine | UnreadableLine]:
        with (self._folder / f"{provider_batch_id}.answers").open("rb") as file:
            for line in lines(iter(lambda: file.read(_CHUNK), b""), known):
                yield openai_results.read(line)

    def delete_files(self, submission: Submission, provider_batch_id: str | None) -> None:
        for path in self._folder.glob(f"{submission.tag}.*"):
            path.unlink()


def answer(folder: Path, name: str) -> None:
    """Answer every request of a file in full, about 2.2 kB each, with 0.02 % of the lines garbled on the provider's side."""
    bodies = cycle(_bodies())
    garbled = succeeded = 0
    with (folder / f"{name}.requests").open("rb") as asked, (folder / f"{name}.answers").open("wb") as file:
        for number, line in enumerate(asked, start=1):
            custom_id = line[line.index(b'"custom_id":') + 12 :].split(b'"', 2)[1]
            text = b'{"id":"batch_req_%d","custom_id":"%b","response":%b,"error":null}' % (
                number,
                custom_id,
                next(bodies),
            )
            if number % 5_000 == 0:
                garbled += 1
                text = text[:-40]
            else:
                succeeded += 1
            file.write(text + b"\n")
    (folder / f"{name}.counts").write_bytes(orjson.dumps([succeeded + garbled, succeeded, garbled]))


@cache
def _bodies() -> list[bytes]:
    return [orjson.dumps(_response(number)) for number in range(97)]


def _response(number: int) -> dict[str, object]:
    """https://platform.openai.com/docs/api-reference/responses/object"""
    reason = "It names what the reader gets, and asks – once, not twice – for what comes next. " * 2
    scores = {name: {"score": 1 + (number + place) % 10, "reason": reason} for place, name in enumerate(_DIMENSIONS)}
    text = orjson.dumps(scores | {"overall": 1 + number % 100, "verdict": "revise"}).decode()
    content = [{"type": "output_text", "annotations": [], "text": text}]
    message = {"type": "message", "id": f"msg_{number}", "status": "completed", "role": "assistant", "content": content}
    usage = {
        "input_tokens": 500 + number,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 200 + number,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 700 + 2 * number,
    }
    body = {
        "id": f"resp_{number}", "object": "response", "created_at": 1_790_000_000, "status": "completed", "error": None,
        "incomplete_details": None, "model": "gpt-6-luna", "output": [message], "parallel_tool_calls": True,
        "temperature": 1.0, "text": {"format": {"type": "json_schema", "name": "creative_score", "strict": True}},
        "usage": usage, "metadata": {},
    }  # fmt: skip
    return {"status_code": 200, "request_id": f"req_{number}", "body": body}

"""Requests for the three providers and clients of their SDKs."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Self, TypeVar

import anthropic
import httpx
import openai
from google import genai
from google.genai import types
from openai.types import Batch

from nightbatch_local.emulator.process import EmulatorProcess

T = TypeVar("T")
Json = dict[str, Any]

CHAT: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
EMBEDDINGS: Final = "/v1/embeddings"
CHAT_MODEL, CLAUDE, GEMINI = "gpt-5-mini", "claude-haiku-4-5", "gemini-2.5-flash"
SCORE_SCHEMA: Json = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 10}, "reason": {"type": "string"}},
    "required": ["score", "reason"],
    "additionalProperties": False,
}


def wait_for(read: Callable[[], T], done: Callable[[T], bool], seconds: float = 20) -> T:
    """Reads until it is done. Fails loudly after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done(found := read()):
        assert time.monotonic() < deadline, f"still {found}"
        time.sleep(0.02)
    return found


def jsonl(lines: Iterable[Json]) -> bytes:
    return "\n".join(json.dumps(line) for line in lines).encode()


def read_jsonl(body: bytes | str) -> list[Json]:
    return [json.loads(line) for line in body.splitlines()]


def chat_line(custom_id: str, text: str = "Rate the headline", **more: Any) -> Json:
    body = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": text}], **more}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}


def claude_request(custom_id: str, text: str = "Rate the headline", **more: Any) -> Any:
    params = {"model": CLAUDE, "max_tokens": 500, "messages": [{"role": "user", "content": text}], **more}
    return {"custom_id": custom_id, "params": params}


def gemini_line(key: str, text: str = "Rate the headline", **config: Any) -> Json:
    request: Json = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return {"key": key, "request": request | ({"generationConfig": config} if config else {})}


class Account:
    """An account with SDK clients that never retry."""

    def __init__(self, emulator: EmulatorProcess, name: str) -> None:
        self.emulator, self.name, self.key = emulator, name, f"emu-{name}"
        self.openai = openai.OpenAI(base_url=emulator.openai_url, api_key=self.key, max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=emulator.anthropic_url, api_key=self.key, max_retries=0)
        self.options = types.HttpOptions(base_url=emulator.gemini_url, api_version="v1beta")
        self.gemini = genai.Client(api_key=self.key, http_options=self.options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.openai.close()
        self.anthropic.close()
        self.gemini.close()

    def fault(self, provider: str, operation: str, fault: str, **details: Any) -> None:
        """A fault for this account only."""
        self.emulator.fault(provider, operation, fault, account=self.name, **details)

    def bill(self) -> list[Json]:
        """What this account was charged for."""
        return [row for row in self.emulator.billing() if row["account"] == self.name]

    def billed_ids(self) -> list[str]:
        """The charged requests, sorted."""
        return sorted(row["custom_id"] for row in self.bill())

    # -- OpenAI

    def upload(self, lines: Iterable[Json] | bytes) -> str:
        body = lines if isinstance(lines, bytes) else jsonl(lines)
        return self.openai.files.create(file=("in.jsonl", body), purpose="batch").id

    def send(self, lines: Iterable[Json] | bytes, endpoint: Any = CHAT, **more: Any) -> Batch:
        file_id = self.upload(lines)
        return self.openai.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h", **more)

    def ended(self, batch_id: str) -> Batch:
        final = ("completed", "failed", "expired", "cancelled")
        return wait_for(lambda: self.openai.batches.retrieve(batch_id), lambda batch: batch.status in final)

    def lines_of(self, file_id: str | None) -> dict[str, Json]:
        """Result lines by custom_id; none for no file."""
        text = self.openai.files.content(file_id).text if file_id else ""
        return {line["custom_id"]: line for line in read_jsonl(text)}

    # -- Anthropic

    def send_claude(self, requests: list[Any]) -> str:
        return self.anthropic.messages.batches.create(requests=requests).id

    def claude_ended(self, batch_id: str) -> Any:
        batches = self.anthropic.messages.batches
        return wait_for(lambda: batches.retrieve(batch_id), lambda batch: batch.processing_status == "ended")

    def claude_results(self, batch_id: str) -> dict[str, Any]:
        results = self.anthropic.messages.batches.results(batch_id)
        return {line.custom_id: line.result for line in results}

    # -- Gemini

    def upload_gemini(self, lines: Iterable[Json] | bytes, name: str | None = None) -> types.File:
        body = lines if isinstance(lines, bytes) else jsonl(lines)
        config = types.UploadFileConfig(name=name, display_name=name, mime_type="application/jsonl")
        return self.gemini.files.upload(file=io.BytesIO(body), config=config)

    def send_gemini(self, lines: Iterable[Json] | bytes, model: str = GEMINI) -> str:
        file = self.upload_gemini(lines)
        assert file.name
        batch = self.gemini.batches.create(model=model, src=file.name, config={"display_name": "tag"})
        assert batch.name
        return batch.name

    def operation(self, name: str) -> Json:
        """The raw operation: the SDK leaves out `error` and `batchStats`."""
        answer = httpx.get(f"{self.emulator.gemini_url}/v1beta/{name}", headers={"x-goog-api-key": self.key})
        answer.raise_for_status()
        return dict(answer.json())

    def gemini_ended(self, name: str) -> Json:
        return wait_for(lambda: self.operation(name), lambda operation: operation["done"])

    def gemini_lines(self, operation: Json) -> dict[str, Json]:
        body = self.gemini.files.download(file=operation["metadata"]["output"]["responsesFile"])
        return {line["key"]: line for line in read_jsonl(body)}

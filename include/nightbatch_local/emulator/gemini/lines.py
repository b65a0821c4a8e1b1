"""Answer Gemini's batch lines: `{"key", "request"}` in a file, `{"request", "metadata"}` inline."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import orjson

from nightbatch_local.emulator.dialect import Checked, Result
from nightbatch_local.emulator.errors import ApiError, google_rpc_code
from nightbatch_local.emulator.gemini.bodies import embed_content, generate
from nightbatch_local.emulator.gemini.files import usable_file
from nightbatch_local.emulator.prompt import EXPIRE_MARKER, Answered
from nightbatch_local.emulator.state import Batch, Outcome, State

EMBED = "asyncBatchEmbedContent"
_PLAIN = orjson.OPT_SERIALIZE_NUMPY


class GeminiLines:
    """Gemini's `dialect.Dialect`. A batch that expired, failed or was cancelled has nothing to fetch."""

    splits_errors = False
    keeps_partial = False
    reports_failure = True

    def check(self, state: State, batch: Batch, lines: Iterable[bytes]) -> Checked:
        """Count the lines; one that cannot be read fails the batch."""
        total = expiring = 0
        errors: list[dict[str, Any]] = []
        for number, raw in enumerate(lines, start=1):
            total += 1
            expiring += EXPIRE_MARKER in raw
            if not errors and not _readable(raw):
                errors.append({"code": 3, "message": f"Failed to parse line {number} of the input file as a request."})
        if not total:
            errors.append({"code": 3, "message": "The input file has no requests."})
        return Checked(total, expiring, errors=errors)

    def answer(self, state: State, batch: Batch, raw: bytes, *, seed: int, at: float) -> Result:
        """Return a response, or an error without a charge, under the request's key."""
        line = orjson.loads(raw)
        key = _key(line)
        try:
            answered = _answered(state, batch, line["request"], seed)
        except ApiError as error:
            fault = {"code": google_rpc_code(error.status), "message": error.message}
            return Result(key, _line(line, {"error": fault}), ok=False)
        shown = _line(line, {"response": answered.body})
        return Result(key, shown, ok=True, model=answered.model, usage=answered.usage)

    def unfinished(self, batch: Batch, raw: bytes, outcome: Outcome) -> Result:
        """Raise `AssertionError`: such a batch has no results, so this is never asked for."""
        raise AssertionError(f"A Gemini batch that is {outcome} has no result lines.")


def _answered(state: State, batch: Batch, body: dict[str, Any], seed: int) -> Answered:
    if batch.endpoint == EMBED:
        return embed_content(batch.model or "", body, seed=seed)
    return generate(batch.model or "", body, seed=seed, find=partial(usable_file, state, batch.account))


def _readable(raw: bytes) -> bool:
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return isinstance(line, dict) and isinstance(line.get("request"), dict)


def _key(line: dict[str, Any]) -> str | None:
    found = line.get("key") or (line.get("metadata") or {}).get("key")
    return None if found is None else str(found)


def _line(line: dict[str, Any], result: dict[str, Any]) -> bytes:
    kept = {name: line[name] for name in ("key", "metadata") if name in line}
    return orjson.dumps(kept | result, option=_PLAIN)

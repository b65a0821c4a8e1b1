"""Change what a provider answers, as faults do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson

_UNKNOWN_STATUS = "emulator_unheard_of"


def unknown_status(body: bytes) -> bytes:
    """Give every batch in the answer a status that nobody has heard of."""
    return _each_batch(body, _set_unknown)


def blank_error_file(body: bytes) -> bytes:
    """Write OpenAI's `error_file_id` as "" instead of null, as users have reported."""
    return _each_batch(body, lambda batch: batch.update(error_file_id=batch.get("error_file_id") or ""))


def hide_younger(body: bytes, seconds: float, now: float) -> bytes:
    """Leave out of a list the batches that were created less than `seconds` ago."""
    answer = orjson.loads(body)
    for name in ("data", "operations"):
        if name in answer:
            answer[name] = [batch for batch in answer[name] if now - _created_at(batch) >= seconds]
    return orjson.dumps(answer)


def corrupt(body: bytes) -> bytes:
    """Break every fifth line, the first one included."""
    lines = body.splitlines()
    return _joined(
        [line[: len(line) // 2] + b"\x00\xff~" if place % 5 == 0 else line for place, line in enumerate(lines)]
    )


def duplicate_line(body: bytes) -> bytes:
    """Repeat the first line at the end."""
    lines = body.splitlines()
    return _joined([*lines, *lines[:1]])


def missing_line(body: bytes) -> bytes:
    """Leave the first line out."""
    return _joined(body.splitlines()[1:])


def unknown_line(body: bytes) -> bytes:
    """Add one more line, for a request that nobody sent."""
    lines = body.splitlines()
    if not lines:
        return body
    stranger = orjson.loads(lines[0])
    stranger["key" if "key" in stranger else "custom_id"] = "j0_a0_unknown"
    return _joined([*lines, orjson.dumps(stranger)])


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _each_batch(body: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    answer = orjson.loads(body)
    for batch in answer.get("data") or answer.get("operations") or [answer]:
        change(batch)
    return orjson.dumps(answer)


def _set_unknown(batch: dict[str, Any]) -> None:
    if "metadata" in batch and "state" in (batch["metadata"] or {}):
        batch["metadata"]["state"] = f"BATCH_STATE_{_UNKNOWN_STATUS.upper()}"
        batch["done"] = False
    elif "processing_status" in batch:
        batch["processing_status"] = _UNKNOWN_STATUS
    else:
        batch["status"] = _UNKNOWN_STATUS


def _created_at(batch: dict[str, Any]) -> float:
    given = batch.get("created_at") or batch["metadata"]["createTime"]
    return float(given) if isinstance(given, int | float) else datetime.fromisoformat(given).timestamp()

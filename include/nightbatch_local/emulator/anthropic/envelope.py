"""Take the body of a batch creation, up to 256 MB of requests, apart without holding them all as objects."""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Any

import msgspec
import orjson

from nightbatch_local.emulator.errors import ApiError

MOST_BYTES = 256 * 10**6
_MAX_REQUESTS = 100_000
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Envelope(msgspec.Struct):
    """The body of a batch creation; its requests stay undecoded parts of it."""

    requests: list[msgspec.Raw]


def split_requests(body: Path, lines: Path) -> None:
    """Write each request of `body` as a line. Raises `ApiError` 400 for what the API refuses at once."""
    requests = _decode(body)
    if not requests:
        raise ApiError(400, "requests: List should have at least 1 item after validation, not 0")
    if len(requests) > _MAX_REQUESTS:
        count = f"{_MAX_REQUESTS} items after validation, not {len(requests)}"
        raise ApiError(400, f"requests: List should have at most {count}")
    seen: set[str] = set()
    with lines.open("wb") as out:
        for index, raw in enumerate(requests):
            request = orjson.loads(memoryview(raw))
            _refuse_faults(request, index, seen)
            out.write(orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE))


def _decode(body: Path) -> list[msgspec.Raw]:
    if not body.stat().st_size:
        raise ApiError(400, "The request body is empty.")
    with body.open("rb") as file:
        try:
            return msgspec.json.decode(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), type=Envelope).requests
        except msgspec.ValidationError:
            raise ApiError(400, "requests: Field required") from None
        except msgspec.DecodeError:
            raise ApiError(400, "The request body is not valid JSON.") from None


def _refuse_faults(request: Any, index: int, seen: set[str]) -> None:
    if not isinstance(request, dict):
        raise ApiError(400, f"requests.{index}: Input should be a valid dictionary")
    custom_id = request.get("custom_id")
    if custom_id is None:
        raise ApiError(400, f"requests.{index}.custom_id: Field required")
    if not isinstance(custom_id, str) or not _CUSTOM_ID.fullmatch(custom_id):
        raise ApiError(400, f"requests.{index}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
    if custom_id in seen:
        raise ApiError(400, f"requests.{index}.custom_id: custom_id '{custom_id}' is used more than once")
    seen.add(custom_id)
    if not isinstance(request.get("params"), dict):
        raise ApiError(400, f"requests.{index}.params: Field required")

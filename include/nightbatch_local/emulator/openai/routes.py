"""Serve files, batches and the realtime endpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from shutil import copyfileobj
from typing import Any, TypeVar
from uuid import uuid4

import orjson
from starlette.datastructures import UploadFile
from starlette.responses import FileResponse, Response

from nightbatch_local.emulator.errors import ApiError
from nightbatch_local.emulator.http import Call, Endpoint, in_thread, json_response
from nightbatch_local.emulator.openai.bodies import answer
from nightbatch_local.emulator.openai.lines import ENDPOINTS
from nightbatch_local.emulator.openai.views import batch_view, file_view
from nightbatch_local.emulator.state import Batch, File

_MAX_BYTES = 200 * 10**6
_OVERHEAD = 64 << 10  # of multipart around the file
_WINDOW = 86400.0
_SHORTEST_LIFE, _MAX_LIFE = 3600, 2592000
_CANCEL_SECONDS = 1.0  # the real one takes up to ten minutes

T = TypeVar("T", File, Batch)


async def upload_file(call: Call) -> Response:
    """Answer `POST /files`, multipart; a batch file may hold 200 MB."""
    call.refuse_larger_than(_MAX_BYTES + _OVERHEAD)
    async with call.request.form(max_files=1) as form:
        upload, purpose = form.get("file"), form.get("purpose")
        if not isinstance(upload, UploadFile) or not isinstance(purpose, str):
            raise ApiError(400, "'file' and 'purpose' are required properties.", param="file")
        path = call.state.new_path("files")
        size, digest = await in_thread(partial(_store, upload, path))
        life = _life(form.get("expires_after[anchor]"), form.get("expires_after[seconds]"))
    file = _new_file(call, upload.filename or "upload.jsonl", purpose, size, digest, path, life)
    call.state.add_file(file)
    return json_response(file_view(file))


async def list_files(call: Call) -> Response:
    """Answer `GET /files?purpose&order&limit&after`."""
    files = call.state.files("openai", call.account)
    if call.query("order") == "asc":
        files.reverse()
    wanted = [file for file in files if call.query("purpose") in (None, file.purpose)]
    return _page(call, wanted, file_view, default=10_000, most=10_000)


async def get_file(call: Call) -> Response:
    """Answer `GET /files/{id}`."""
    return json_response(file_view(_file(call, call.path("id"))))


async def delete_file(call: Call) -> Response:
    """Answer `DELETE /files/{id}`."""
    file = _file(call, call.path("id"))
    call.state.delete_file(file)
    return json_response({"id": file.id, "object": "file", "deleted": True})


async def file_content(call: Call) -> Response:
    """Answer `GET /files/{id}/content`."""
    return FileResponse(_file(call, call.path("id")).path, media_type="application/octet-stream")


async def create_batch(call: Call) -> Response:
    """Answer `POST /batches`: only what is wrong with the call itself is refused here, the content is checked later."""
    body = await call.json()
    endpoint, file_id = body.get("endpoint"), body.get("input_file_id")
    if body.get("completion_window") != "24h":
        raise ApiError(400, "Invalid value for 'completion_window': must be '24h'.", param="completion_window")
    if endpoint not in ENDPOINTS:
        raise ApiError(400, f"Invalid value for 'endpoint': {endpoint!r}.", param="endpoint", code="invalid_value")
    _refuse_metadata(body.get("metadata"))
    file = call.state.file("openai", call.account, str(file_id))
    if file is None or file.purpose != "batch":
        message = f"No file with purpose 'batch' found with id '{file_id}'."
        raise ApiError(400, message, param="input_file_id", code="invalid_request")
    batch = _new_batch(call, body, file)
    call.add_batch(batch)
    return json_response(batch_view(batch, call.state.now()))


async def get_batch(call: Call) -> Response:
    """Answer `GET /batches/{id}`."""
    return json_response(batch_view(_batch(call), call.state.now()))


async def list_batches(call: Call) -> Response:
    """Answer `GET /batches?limit&after`, newest first."""
    batches = call.state.batches("openai", call.account)
    now = call.state.now()
    return _page(call, batches, lambda batch: batch_view(batch, now), default=20, most=100)


async def cancel_batch(call: Call) -> Response:
    """Answer `POST /batches/{id}/cancel`: what is done by now stays done, and paid."""
    batch, now = _batch(call), call.state.now()
    if batch.outcome is not None:
        raise ApiError(409, f"Cannot cancel a batch with status '{batch_view(batch, now)['status']}'.")
    if batch.cancelling_at is None:
        ending = {"ending": "cancelled", "finished": batch.progress(now), "cancelling_at": now}
        call.state.update_batch(batch.id, {**ending, "due_at": min(batch.due_at, now + _CANCEL_SECONDS)})
        call.emulator.worker.wake()
    return json_response(batch_view(_batch(call), now))


async def realtime(url: str, call: Call) -> Response:
    """Answer at once, at the full price."""
    body = await call.json()
    at = call.state.now()
    return call.charge("openai", await in_thread(partial(answer, url, body, seed=call.emulator.settings.seed, at=at)))


ROUTES = [
    Endpoint("file_upload", "POST", "/files", upload_file),
    Endpoint("file_list", "GET", "/files", list_files),
    Endpoint("file_get", "GET", "/files/{id}", get_file),
    Endpoint("file_delete", "DELETE", "/files/{id}", delete_file),
    Endpoint("file_download", "GET", "/files/{id}/content", file_content),
    Endpoint("batch_create", "POST", "/batches", create_batch),
    Endpoint("batch_list", "GET", "/batches", list_batches),
    Endpoint("batch_get", "GET", "/batches/{id}", get_batch),
    Endpoint("batch_cancel", "POST", "/batches/{id}/cancel", cancel_batch),
    *(Endpoint("realtime", "POST", url.removeprefix("/v1"), partial(realtime, url)) for url in ENDPOINTS),
]


def _store(upload: UploadFile, path: Path) -> tuple[int, str]:
    """Copy the spooled upload to its place, and return its size and hash."""
    digest = sha256()
    with path.open("wb") as out:
        copyfileobj(upload.file, out, 1 << 20)
    with path.open("rb") as stored:
        while chunk := stored.read(1 << 20):
            digest.update(chunk)
    return path.stat().st_size, digest.hexdigest()


def _life(anchor: Any, seconds: Any) -> float | None:
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at" or not str(seconds).isdigit() or not _SHORTEST_LIFE <= int(seconds) <= _MAX_LIFE:
        raise ApiError(400, "Invalid value for 'expires_after'.", param="expires_after")
    return float(seconds)


def _new_file(call: Call, name: str, purpose: str, size: int, digest: str, path: Path, life: float | None) -> File:
    now = call.state.now()
    return File(
        id=f"file-{uuid4().hex[:24]}",
        provider="openai",
        account=call.account,
        label=name,
        purpose=purpose,
        mime="application/octet-stream",
        bytes=size,
        sha256=digest,
        path=str(path),
        created_at=now,
        expires_at=None if life is None else now + life,
    )


def _new_batch(call: Call, body: dict[str, Any], file: File) -> Batch:
    now = call.state.now()
    kept = body.get("output_expires_after") or {}
    return Batch(
        id=f"batch_{uuid4().hex}",
        provider="openai",
        account=call.account,
        endpoint=body["endpoint"],
        model=None,
        label=orjson.dumps(body["metadata"]).decode() if body.get("metadata") else None,
        input_file=file.id,
        input_path=str(call.state.link_input(file)),
        created_at=now,
        due_at=call.emulator.next_due_at(now),
        expires_at=now + _WINDOW,
        tokens=file.bytes // 4,
        output_kept=kept.get("seconds"),
    )


def _refuse_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or len(metadata) > 16:
        raise ApiError(400, "Invalid 'metadata': too many properties. Expected at most 16.", param="metadata")
    for key, value in metadata.items():
        if len(key) > 64 or not isinstance(value, str) or len(value) > 512:
            raise ApiError(400, f"Invalid 'metadata.{key[:64]}': key or value too long.", param="metadata")


def _file(call: Call, file_id: str) -> File:
    file = call.state.file("openai", call.account, file_id)
    if file is None:
        raise ApiError(404, f"No such File object: {file_id}", param="id")
    return file


def _batch(call: Call) -> Batch:
    batch = call.state.batch("openai", call.account, call.path("id"))
    if batch is None:
        raise ApiError(404, f"No batch found with id '{call.path('id')}'.")
    return batch


def _page(call: Call, found: Sequence[T], view: Callable[[T], dict[str, Any]], *, default: int, most: int) -> Response:
    limit, after = call.number("limit", default, 1, most), call.query("after")
    ids = [one.id for one in found]
    if after is not None and after not in ids:
        raise ApiError(400, f"No object found with id '{after}'.", param="after")
    start = 0 if after is None else ids.index(after) + 1
    page = [view(one) for one in found[start : start + limit]]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return json_response({"object": "list", "data": page, "has_more": start + limit < len(found), **ends})

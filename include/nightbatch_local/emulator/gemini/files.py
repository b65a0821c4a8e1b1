"""Serve the Files API: resumable upload, get, list, delete, download."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.responses import FileResponse, Response

from nightbatch_local.emulator.errors import ApiError
from nightbatch_local.emulator.gemini.bodies import field
from nightbatch_local.emulator.http import Call, Endpoint, in_thread, json_response
from nightbatch_local.emulator.media import is_video
from nightbatch_local.emulator.state import File, State, Upload

_MAX_BYTES = 2 << 30
_KEPT = 48 * 3600.0
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_MAX_NAME = 40
_PROCESSING_SECONDS = 0.5
_YOUTUBE = ("https://www.youtube.com/watch?v=", "https://youtu.be/")


async def upload(call: Call) -> Response:
    """Answer `POST /upload/{v}/files`, and posts to the URL that it gives: start, upload, finalize, query."""
    commands = [part.strip() for part in call.request.headers.get("x-goog-upload-command", "").split(",")]
    if "start" in commands:
        return await _start(call)
    found = call.state.upload(call.query("upload_id") or "")
    if found is None:
        raise ApiError(404, "The upload does not exist or has ended.")
    if "upload" in commands:
        await _receive(call, found)
    if "finalize" in commands:
        return await _finalize(call, found)
    received = Path(found.path).stat().st_size
    return Response(headers=_upload_headers("active") | {"X-Goog-Upload-Size-Received": str(received)})


async def get_file(call: Call) -> Response:
    """Answer `GET /{v}/files/{name}`."""
    return json_response(_view(call, _file(call)))


async def list_files(call: Call) -> Response:
    """Answer `GET /{v}/files?pageSize&pageToken`, newest first."""
    files = [file for file in call.state.files("gemini", call.account) if file.purpose != "inline"]
    page, token = page_of(call, files, default=10, most=100)
    shown: dict[str, Any] = {"files": [_view(call, file) for file in page]} if page else {}
    return json_response(shown | ({"nextPageToken": token} if token else {}))


async def delete_file(call: Call) -> Response:
    """Answer `DELETE /{v}/files/{name}`."""
    call.state.delete_file(_file(call))
    return json_response({})


async def download(call: Call) -> Response:
    """Answer `GET /{v}/files/{name}:download?alt=media`, for files that the service has made."""
    file = call.state.file("gemini", call.account, call.path("name"))
    if file is None:
        raise _missing(call)
    if file.purpose == "uploaded":
        raise ApiError(400, "Only generated files can be downloaded.")
    return FileResponse(file.path, media_type=file.mime)


UPLOAD_ROUTES = [Endpoint("file_upload", "POST", "/files", upload)]
ROUTES = [
    Endpoint("file_download", "GET", "/files/{name}:download", download),
    Endpoint("file_list", "GET", "/files", list_files),
    Endpoint("file_get", "GET", "/files/{name}", get_file),
    Endpoint("file_delete", "DELETE", "/files/{name}", delete_file),
]


def page_of(call: Call, found: list[Any], *, default: int, most: int) -> tuple[list[Any], str | None]:
    """Return one page by `pageSize` and `pageToken`, and the next page's token. A token names the last item's place."""
    size, token = call.number("pageSize", default, 1, most), call.query("pageToken")
    try:
        before = int(base64.urlsafe_b64decode(token)) if token else None
    except ValueError:
        raise ApiError(400, "Invalid page token.") from None
    rest = [one for one in found if before is None or one.seq < before]
    page = rest[:size]
    more = len(rest) > size
    return page, base64.urlsafe_b64encode(str(page[-1].seq).encode()).decode() if more else None


async def _start(call: Call) -> Response:
    given = (await call.json()).get("file") or {}
    name = str(given.get("name") or f"files/{uuid4().hex[:12]}").removeprefix("files/")
    if not _NAME.fullmatch(name):
        message = "* CreateFileRequest.file.name: File name can only contain 40 lower-case letters, digits and dashes."
        raise ApiError(400, message)
    _refuse_taken(call, name)
    size = int(call.request.headers.get("x-goog-upload-header-content-length") or 0)
    if size > _MAX_BYTES:
        raise ApiError(413, f"The file is larger than {_MAX_BYTES} bytes.")
    mime = call.request.headers.get("x-goog-upload-header-content-type") or field(given, "mimeType") or ""
    label, path = str(field(given, "displayName") or ""), str(call.state.new_path("uploads"))
    begun = Upload(uuid4().hex, call.account, name, label, mime, size, path)
    call.state.add_upload(begun)
    url = f"{call.base_url()}{call.request.url.path}?upload_id={begun.id}&upload_protocol=resumable"
    return json_response({}, headers={"X-Goog-Upload-URL": url, **_upload_headers("active")})


async def _receive(call: Call, upload: Upload) -> None:
    path = Path(upload.path)
    offset, received = int(call.request.headers.get("x-goog-upload-offset") or 0), path.stat().st_size
    if offset != received:
        headers = _upload_headers("active") | {"X-Goog-Upload-Size-Received": str(received)}
        raise ApiError(400, f"Expected offset {received}, not {offset}.", headers=headers)
    await call.save_body(path, _MAX_BYTES)


async def _finalize(call: Call, upload: Upload) -> Response:
    path = Path(upload.path)
    if upload.bytes and path.stat().st_size != upload.bytes:
        raise ApiError(400, f"Expected {upload.bytes} bytes, got {path.stat().st_size}.")
    _refuse_taken(call, upload.name)
    now = call.state.now()
    file = File(
        id=upload.name,
        provider="gemini",
        account=upload.account,
        label=upload.label,
        purpose="uploaded",
        mime=upload.mime,
        bytes=path.stat().st_size,
        sha256=await in_thread(partial(_sha256, path)),
        path=upload.path,
        created_at=now,
        expires_at=now + _KEPT,
    )
    with call.state.transaction():
        call.state.add_file(file)
        call.state.end_upload(upload)
    return json_response({"file": _view(call, file)}, headers=_upload_headers("final"))


def _upload_headers(status: str) -> dict[str, str]:
    return {"X-Goog-Upload-Status": status}


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as body:
        while chunk := body.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _refuse_taken(call: Call, name: str) -> None:
    if call.state.file("gemini", call.account, name) is not None:
        raise ApiError(409, f"Requested entity already exists: files/{name}")


def _file(call: Call) -> File:
    """Return the file. Produced files have names that this call refuses, as in python-genai #1759."""
    if len(call.path("name")) > _MAX_NAME:
        raise ApiError(400, f"* GetFileRequest.name: the name may have at most {_MAX_NAME} characters")
    file = call.state.file("gemini", call.account, call.path("name"))
    if file is None or file.purpose == "inline":
        raise _missing(call)
    return file


def _missing(call: Call) -> ApiError:
    """Return the error for a file that is not there.

    The real service answers 403 to hide whether a file exists; the emulator says plainly that there is none.
    """
    return ApiError(404, f"File {call.path('name')} does not exist or you have no permission to access it.")


def _view(call: Call, file: File) -> dict[str, Any]:
    version = call.request.url.path.removeprefix("/gemini/upload").removeprefix("/gemini").split("/")[1]
    uri = f"{call.base_url()}/gemini/{version}/files/{file.id}"
    shown = {
        "name": f"files/{file.id}",
        "displayName": file.label,
        "mimeType": file.mime,
        "sizeBytes": str(file.bytes),
        "createTime": rfc3339(file.created_at),
        "updateTime": rfc3339(file.created_at),
        "expirationTime": rfc3339(file.expires_at) if file.expires_at else None,
        "sha256Hash": base64.b64encode(file.sha256.encode()).decode(),
        "uri": uri,
        "state": state_of(file, call.state.now()),
        "source": "UPLOADED" if file.purpose == "uploaded" else "GENERATED",
    }
    return shown if file.purpose == "uploaded" else shown | {"downloadUri": f"{uri}:download?alt=media"}


def state_of(file: File, now: float) -> str:
    """Return the state of a file: a video is looked at for a moment first, and one that is none fails."""
    if file.purpose != "uploaded" or not file.mime.startswith("video/"):
        return "ACTIVE"
    if now < file.created_at + _PROCESSING_SECONDS:
        return "PROCESSING"
    return "ACTIVE" if is_video(Path(file.path)) else "FAILED"


def usable_file(state: State, account: str, uri: str) -> File | None:
    """Return the file that a request refers to, None for a video of YouTube. Raises `ApiError` as the service answers."""
    if uri.startswith(_YOUTUBE):
        return None
    before, _, name = uri.rpartition("files/")
    if not name or not before.startswith("http"):
        raise ApiError(400, "Invalid or unsupported file uri: " + uri[:200])
    file = state.file("gemini", account, name)
    if file is None or file.purpose != "uploaded":
        raise ApiError(403, f"You do not have permission to access the File {name} or it may not exist.")
    if state_of(file, state.now()) != "ACTIVE":
        raise ApiError(400, f"The File {name} is not in an ACTIVE state and usage is not allowed.")
    return file


def rfc3339(at: float) -> str:
    """Write seconds since 1970 as Google writes a time."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

"""Gemini's Batch API on the Developer API.

https://ai.google.dev/gemini-api/docs/batch-api
"""

from __future__ import annotations

import secrets
import time
import warnings
from collections.abc import Collection, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx2
import orjson
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from nightbatch.core.allowed_hosts import is_own_host
from nightbatch.core.certainty import Call, Said
from nightbatch.core.errors import Absent, NotNamed, Refused, Rejected, Transient
from nightbatch.core.models import (
    Counts,
    Endpoint,
    FoundBatch,
    ListedBatch,
    ProviderName,
    ProviderState,
    Request,
    ResultLine,
    Submission,
    UnreadableLine,
    UploadedMedia,
)
from nightbatch.providers.extras import PLAIN, Wire
from nightbatch.providers.gemini_requests import line as _line
from nightbatch.providers.gemini_results import is_of_the_account, names_the_account, rpc_error
from nightbatch.providers.gemini_results import read as _read
from nightbatch.providers.http import checked_key, home_of
from nightbatch.providers.way import tls
from nightbatch.providers.wire import (
    HOOKS,
    MOST_RESUMED,
    Download,
    LineWriter,
    PerLoop,
    any_of_ours,
    download_with_resume,
    fingerprint,
    fresh,
    gone_is_fine,
    lines,
    of_tag,
    quiet,
    refusal,
    require_id,
    still_kept,
    translated,
    wait_for_the_line,
)

# The SDK defaults to v1. Google documents batches, and the files that they read and write, for v1beta only:
# https://ai.google.dev/api/batch-api
_VERSION = "v1beta"
_SDK_TIMEOUT_MS = 300_000  # for one call
_PIECE = 8 << 20
_ACTIVE_SECONDS = 120.0
_VIDEO_SECONDS = 1800.0  # a long video is worked on for minutes
_FILE_KEPT = timedelta(hours=48)  # https://ai.google.dev/gemini-api/docs/files
_RUNNING = {"PENDING", "RUNNING", "QUEUED", "UPDATING", "PAUSED", "CANCELLING"}
_WITH_RESULTS = {"SUCCEEDED", "PARTIALLY_SUCCEEDED"}
_ENDED = {*_WITH_RESULTS, "CANCELLED", "EXPIRED"}
_NO_CREDIT = ("spending cap", "spend cap", "prepay", "credits are depleted", "limit: 0")
# "billing" stands in the 429 of every quota too
_NOT_SERVED = (
    *("api key not valid", "api key expired", "billing", "location is not supported", "not available in your country"),
    *("region is not supported", "country is not supported"),
)

warnings.filterwarnings("ignore", category=genai_errors.ExperimentalWarning, message=r"batches\.create_embeddings")


_LINES = LineWriter(_line)


class GeminiBatches:
    """One Google AI project.

    Operations are read raw, past the SDK: its `BatchJob` drops ``error`` and ``batchStats``, and its downloads stand whole
    in memory.
    """

    name: ProviderName = "gemini"

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        account: str | None = None,
        allowed: Collection[str] | None = None,
        wire: Wire = PLAIN,
    ) -> None:
        quiet()
        self._key = api_key = checked_key(self.name, api_key)
        home = home_of(self.name, base_url, allowed, wire)
        self._root = root = str(home.url).rstrip("/")
        # The client is kept: a chained temporary fails with "client has been closed".
        self._client = genai.Client(
            api_key=api_key,
            vertexai=False,
            http_options=types.HttpOptions(
                base_url=root,
                api_version=_VERSION,
                timeout=_SDK_TIMEOUT_MS,
                headers=dict(wire.headers),
                httpx_client=home.client(event_hooks=HOOKS),
                # the SDK makes one, and nobody asks it; without `ssl` it reads all certificates again, 40 ms for each client
                async_client_args={"verify": tls(wire.ca_file), "ssl": tls(wire.ca_file), "trust_env": False},
                retry_options=types.HttpRetryOptions(attempts=1),  # the first try included: a create is sent once
            ),
        )
        headers = {**wire.headers, "x-goog-api-key": api_key}
        raw: dict[str, Any] = {"base_url": f"{root}/{_VERSION}/", "headers": headers}
        self._http = home.client(event_hooks=HOOKS, **raw)
        self._downloads = home.client(whole=False, **raw)
        self._async = PerLoop(lambda: home.async_client(**raw))
        self._own_host = is_own_host(root)
        self.shows_tags = self._own_host
        self.account = fingerprint(account, self.name, root, api_key, *wire.payers())

    def render(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> bytes:
        return _LINES.write(custom_id, model, endpoint, request)

    def upload(self, submission: Submission, path: Path) -> str:
        """Upload the input, named after the tag and never twice the same: a late upload must not bring a fenced file back.

        It costs nothing, and expires within two days if nobody uses it.
        """
        name = f"{submission.tag}-{secrets.token_hex(2)}"  # 40 characters, the most that Gemini takes
        with self._errors("upload"):
            file = self._until_active(self._upload(name, path), _ACTIVE_SECONDS)
            if file.state == types.FileState.FAILED:
                raise Refused("Gemini could not process the uploaded file.")
            return require_id(file.name)

    def upload_media(self, path: Path, mime_type: str, sha256: str) -> UploadedMedia:
        """Upload a media file, named after its content and four characters more, as `upload` does for an input."""
        name = f"nbm-{sha256[:24]}-{secrets.token_hex(2)}"
        with self._errors("media"):
            file = self._until_active(self._upload(name, path, mime_type), _VIDEO_SECONDS)
            if file.state == types.FileState.FAILED:
                raise Rejected("Gemini could not process the uploaded file.")
            expires_at = file.expiration_time or datetime.now(UTC) + _FILE_KEPT
            return UploadedMedia(require_id(file.name), require_id(file.uri), expires_at)

    def has_media(self, file_name: str) -> bool:
        try:
            with self._errors():
                return self._client.files.get(name=file_name).state == types.FileState.ACTIVE
        except Absent:
            return False

    def delete_media(self, file_name: str) -> None:
        with gone_is_fine(), self._errors():
            self._client.files.delete(name=file_name)

    def submit(self, submission: Submission, path: Path) -> str:
        name = submission.input_file
        if name is None:
            raise Absent("the input was never uploaded")
        with self._errors("create"):
            if submission.endpoint == "embeddings":
                job = self._client.batches.create_embeddings(
                    model=submission.model,
                    src=types.EmbeddingsBatchJobSource(file_name=name),
                    config=types.CreateEmbeddingsBatchJobConfig(display_name=submission.tag),
                )
            else:
                job = self._client.batches.create(
                    model=submission.model,
                    src=types.BatchJobSource(file_name=name),
                    config=types.CreateBatchJobConfig(display_name=submission.tag),
                )
            self._note_tag(job.display_name)
            return require_id(job.name)

    def _note_tag(self, display_name: Any) -> None:
        if str(display_name).startswith("nb-"):
            self.shows_tags = True

    def find_submission(self, submission: Submission) -> list[FoundBatch]:
        with fresh(submission.asked_at) as seen:
            listed = list(self.list_batches(datetime.min.replace(tzinfo=UTC)))
        self.shows_tags = self.shows_tags or any_of_ours(listed)
        return seen.proven("Gemini", of_tag(listed, submission.tag))

    def list_batches(self, since: datetime) -> Iterator[ListedBatch]:
        """Yield the batches since then from the whole list: nothing says in which order batches are listed."""
        token = ""
        while True:
            page = self._get("batches", pageSize="100", pageToken=token)
            if page.keys() - {"operations", "nextPageToken"}:  # ``unreachable``, or the words of somebody else
                raise Transient("Gemini's list of batches may not be whole: it could not be read.")
            with self._errors():
                listed = [_listed(operation) for operation in page.get("operations") or ()]
            yield from (batch for batch in listed if batch.created_at is None or batch.created_at >= since)
            token = page.get("nextPageToken") or ""
            if not token:
                return

    def fence(self, submission: Submission) -> bool:
        """Delete the input. Only a file that is gone fences: any other refusal of the delete is raised."""
        if submission.input_file:
            with gone_is_fine(), self._errors():
                self._client.files.delete(name=submission.input_file)
        return True

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        with self._errors():
            return _state(_object(await self._async.client().get(provider_batch_id)))

    async def list_states(self, ids: Collection[str], *, since: datetime, pages: int) -> dict[str, ProviderState]:
        """Return the states that the list shows; nothing says in which order batches are listed, so ``since`` ends nothing."""
        found: dict[str, ProviderState] = {}
        token = ""
        with self._errors("list"):
            for _ in range(pages):
                asked = {"pageSize": "100", "pageToken": token}
                page = _object(await self._async.client().get("batches", params=asked))
                operations = page.get("operations") or ()
                found |= {operation["name"]: _state(operation) for operation in operations if operation["name"] in ids}
                token = page.get("nextPageToken") or ""
                if not token or len(found) == len(ids):
                    break
        return found

    def iter_results(self, provider_batch_id: str, known: Container[int] = ()) -> Iterator[ResultLine | UnreadableLine]:
        """Yield the results; an expired or cancelled batch has none, unless it counts a success: its file may be named later."""
        operation = self._get(provider_batch_id)
        with self._errors():
            require_id(operation.get("name"))
            name, state = _responses_file(operation), _state(operation)
            done = state.counts is not None and state.counts.succeeded > 0
            if not name and (done or state.status in _WITH_RESULTS):
                raise NotNamed("Gemini does not name the results of this batch, or does not any more.", status=410)
        if not name:
            return
        with still_kept(), self._errors():
            for line in lines(download_with_resume(partial(self._download, name)), known):
                yield _read(line)

    @contextmanager
    def _download(self, name: str, headers: dict[str, str]) -> Iterator[Download]:
        """Open the download, which alone may be redirected, as the SDK has it; to the same host only."""
        path, media = f"{name}:download", {"alt": "media"}
        with self._downloads.stream("GET", path, params=media, headers=headers) as response:
            there = response.next_request if response.has_redirect_location else None
            if there is None:
                yield _downloaded(response)
                return
            if there.url.origin != response.url.origin:
                raise Transient("Gemini's answer leads to another host, which is not called.")
        with self._downloads.stream("GET", there.url, headers=headers) as response:
            yield _downloaded(response)

    def ask(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> ResultLine | UnreadableLine:
        line = orjson.loads(self.render(custom_id, model, endpoint, request))
        verb = "embedContent" if endpoint == "embeddings" else "generateContent"
        with self._errors("ask"):
            answer = _object(self._http.post(f"models/{model.removeprefix('models/')}:{verb}", json=line["request"]))
        return _read(orjson.dumps({"key": custom_id, "response": answer}))

    def cancel(self, provider_batch_id: str) -> None:
        with self._errors():
            self._client.batches.cancel(name=provider_batch_id)

    def delete_files(self, submission: Submission, provider_batch_id: str | None) -> None:
        """Delete only the input: Gemini refuses to delete the output, whose name is too long for it, and lets it expire."""
        if submission.input_file:
            with suppress(Refused), self._errors():  # what cannot be deleted expires
                self._client.files.delete(name=submission.input_file)

    def check(self) -> None:
        self._get("batches", pageSize="1")

    def _upload(self, name: str, path: Path, mime_type: str = "jsonl") -> types.File:
        """Upload a file in pieces, as the SDK does, but go on after a broken connection, which ends the SDK's loop."""
        size = path.stat().st_size
        url = self._start_upload(name, size, mime_type)
        offset = broken = 0
        with path.open("rb") as content:
            while True:
                content.seek(offset)
                try:
                    offset = self._send_piece(url, content.read(_PIECE), offset, size)
                except (httpx2.TransportError, genai_errors.APIError) as error:
                    given_up = isinstance(error, genai_errors.ClientError) and not broken
                    if given_up or broken == MOST_RESUMED:
                        raise
                    broken += 1
                    wait_for_the_line(broken)
                    offset = self._received(url, size)
                if offset >= size:
                    return self._arrived(name, size)

    def _arrived(self, name: str, size: int) -> types.File:
        """Return the file as it is there: the answer to its last piece may be lost. Raises `Transient` if it is not whole."""
        try:
            file = self._client.files.get(name=f"files/{name}")
        except genai_errors.ClientError as error:
            if error.code not in (403, 404):
                raise
            raise Transient("The upload to Gemini broke off.") from None
        if file.size_bytes != size:
            raise Transient("Gemini has another file than was uploaded.")
        return file

    def _start_upload(self, name: str, size: int, mime_type: str) -> httpx2.URL:
        """Return where the pieces go: at the host of the connection, as the SDK has it."""
        headers = {
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": str(size),
            "X-Goog-Upload-Header-Content-Type": mime_type,
        }
        described = {"name": f"files/{name}", "displayName": name, "mimeType": mime_type, "sizeBytes": str(size)}
        response = self._http.post(f"{self._root}/upload/{_VERSION}/files", json={"file": described}, headers=headers)
        genai_errors.APIError.raise_for_response(response)
        home = httpx2.URL(self._root)
        told = httpx2.URL(response.headers["x-goog-upload-url"])
        return told.copy_with(scheme=home.scheme, host=home.host, port=home.port)

    def _send_piece(self, url: httpx2.URL, piece: bytes, offset: int, size: int) -> int:
        """Send a piece and return how many bytes have arrived."""
        arrived = offset + len(piece)
        command = "upload, finalize" if arrived == size else "upload"
        headers = {"X-Goog-Upload-Command": command, "X-Goog-Upload-Offset": str(offset)}
        genai_errors.APIError.raise_for_response(self._post_without_key(url, headers, piece))
        return arrived

    def _post_without_key(self, url: httpx2.URL, headers: dict[str, str], content: bytes = b"") -> httpx2.Response:
        """Send a request without the key, as the SDK does: the address itself is the right to upload."""
        request = self._http.build_request("POST", url, headers=headers, content=content)
        del request.headers["x-goog-api-key"]
        return self._http.send(request)

    def _received(self, url: httpx2.URL, size: int) -> int:
        """Return how many bytes had arrived before a break: all, where the upload has ended and only its answer was lost."""
        response = self._post_without_key(url, {"X-Goog-Upload-Command": "query"})
        if response.is_client_error or response.headers.get("x-goog-upload-status") == "final":
            return size  # the address is no more: whether the file is there, `_arrived` sees
        genai_errors.APIError.raise_for_response(response)
        return int(response.headers["x-goog-upload-size-received"])

    def _until_active(self, file: types.File, seconds: float) -> types.File:
        deadline = time.monotonic() + seconds
        while file.state == types.FileState.PROCESSING:
            if time.monotonic() > deadline:
                raise Transient("Gemini is still processing the uploaded file.")
            time.sleep(1)
            file = self._client.files.get(name=file.name or "")
        return file

    def _get(self, path: str, **params: str) -> dict[str, Any]:
        with self._errors("list" if path == "batches" else "item"):
            return _object(self._http.get(path, params=params or None))

    @contextmanager
    def _errors(self, call: Call = "item") -> Iterator[None]:
        with translated("Gemini", call, genai_errors.APIError):
            try:
                yield
            except genai_errors.APIError as error:
                response: Any = error.response
                raise refusal(response, _said, call=call, own_host=self._own_host, secret=self._key) from None


def _downloaded(response: httpx2.Response) -> httpx2.Response:
    if response.status_code != 206:  # which the SDK takes for an error
        genai_errors.APIError.raise_for_response(response)
    return response


def _said(body: Any, status: int) -> Said | None:
    """Return what Gemini's error envelope says, None for any other body: ``{"error": {code, message, status, details?}}``.

    https://cloud.google.com/apis/design/errors#http_mapping
    """
    error = body["error"]
    if body.keys() != {"error"} or error["code"] != status:
        return None
    word, message = require_id(error["status"]), require_id(error["message"])
    details = [detail for detail in error.get("details") or () if isinstance(detail, dict)]
    fault: Literal["account", "content", "absent"] | None = None
    if (status == 403 and "may not exist" in message) or (status == 404 and "models/" not in message):
        fault = "absent"  # the first is how Gemini says of a file that it is not there
    elif _is_the_account(word, message, details):
        fault = "account"
    elif status == 404:
        fault = "content"
    return Said(f"{word}: {message}", fault, retry_after=_retry_info(details))


def _is_the_account(word: str, message: str, details: list[dict[str, Any]]) -> bool:
    """Return whether key, billing, spending cap or region are refused, at 400 and 429 too.

    https://ai.google.dev/gemini-api/docs/troubleshooting, https://ai.google.dev/gemini-api/docs/billing
    """
    if names_the_account(details):
        return True
    words = _NO_CREDIT if word == "RESOURCE_EXHAUSTED" else (*_NO_CREDIT, *_NOT_SERVED)
    return any(part in message.lower() for part in words)


def _retry_info(details: list[dict[str, Any]]) -> float | None:
    """Return the seconds that Gemini asks to wait, which stand in its body as "37s" (google.rpc.RetryInfo)."""
    for detail in details:
        with suppress(KeyError, ValueError):
            return min(max(float(str(detail["retryDelay"]).removesuffix("s")), 0.0), 86_400.0)
    return None


def _object(response: httpx2.Response) -> dict[str, Any]:
    genai_errors.APIError.raise_for_response(response)
    found = orjson.loads(response.content)
    if not isinstance(found, dict):
        raise TypeError
    return found


def _listed(operation: dict[str, Any]) -> ListedBatch:
    metadata = operation.get("metadata") or {}
    ended = _state(operation).phase != "running"
    return ListedBatch(
        require_id(operation.get("name")), metadata.get("displayName"), _time(metadata.get("createTime")), ended=ended
    )


def _state(operation: dict[str, Any]) -> ProviderState:
    metadata = operation.get("metadata") or {}
    word = str(metadata.get("state") or "").removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    error = operation.get("error") or {}
    if word in ("", "UNSPECIFIED") and operation.get("done"):
        word = "FAILED" if error else "SUCCEEDED"
    phase: Literal["running", "ended", "failed"] = "running"
    if word in _ENDED:
        phase = "ended"
    elif word == "FAILED":
        # As a rule nothing was run; where something was, it is billed.
        done = _responses_file(operation) or _succeeded(metadata)
        phase = "ended" if done else "failed"
    return ProviderState(
        provider_batch_id=require_id(operation.get("name")),
        phase=phase,
        status=word,
        counts=_counts(metadata.get("batchStats") or {}),
        error=rpc_error(error) if error else None,
        fault=_fault(error),
        unknown=word not in {*_RUNNING, *_ENDED, "FAILED"},
        created_at=_time(metadata.get("createTime")),
        ended_at=_time(metadata.get("endTime")),
    )


def _counts(stats: Mapping[str, Any]) -> Counts | None:
    """Return the counts of a batch. Numbers come as strings, and one that is 0 is left out; None without any of them."""
    if not stats:
        return None
    total = int(stats.get("requestCount") or 0)
    return Counts(total, int(stats.get("successfulRequestCount") or 0), int(stats.get("failedRequestCount") or 0))


def _succeeded(metadata: dict[str, Any]) -> int:
    return int((metadata.get("batchStats") or {}).get("successfulRequestCount") or 0)


def _responses_file(operation: dict[str, Any]) -> str | None:
    places = (operation.get("response") or {}, (operation.get("metadata") or {}).get("output") or {})
    return next((place["responsesFile"] for place in places if place.get("responsesFile")), None)


def _fault(error: Mapping[str, Any]) -> Literal["requests", "account", "provider"]:
    """Return whose fault it is that nothing of a batch was run; no code, or an unknown one, says nothing of the requests."""
    code, message = error.get("code"), str(error.get("message") or "")
    if is_of_the_account(code, message):
        return "account"
    return "requests" if code in (3, 400) or (code in (5, 404) and "model" in message) else "provider"


def _time(text: str | None) -> datetime | None:
    """Return the moment of an RFC 3339 text with up to nine digits of a second."""
    if not text:
        return None
    with suppress(ValueError):
        return datetime.fromisoformat(text).astimezone(UTC)
    return datetime.fromisoformat(text.split(".")[0] + "+00:00")

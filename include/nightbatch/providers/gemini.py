"""Gemini's Batch API on the Developer API: https://ai.google.dev/gemini-api/docs/batch-api"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx
import httpx2
import orjson
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from nightbatch import planning
from nightbatch.errors import Rejected, Transient
from nightbatch.models import (
    Answer,
    Counts,
    EmbeddingInput,
    Endpoint,
    FoundBatch,
    Limits,
    Prompt,
    ProviderName,
    ProviderState,
    Request,
    ResultLine,
    Submission,
    UnreadableLine,
)
from nightbatch.providers.wire import (
    CONNECT_SECONDS,
    READ_SECONDS,
    fingerprint,
    lines,
    read_object,
    render_line,
    translate,
    usage,
    why_unusable,
)

# Said once per create otherwise; the lock file pins the version that was tested.
warnings.filterwarnings("ignore", message=r"batches\.create_embeddings\(\) is experimental")

# The SDK defaults to v1; batches and files are documented, and complete, in v1beta only.
_VERSION = "v1beta"
_BASE_URL = "https://generativelanguage.googleapis.com"
_ACTIVE_SECONDS = 120.0
_PREFIXES = ("BATCH_STATE_", "JOB_STATE_")
_RUNNING = {"PENDING", "RUNNING", "QUEUED", "UPDATING", "PAUSED", "CANCELLING"}
_ENDED = {"SUCCEEDED", "PARTIALLY_SUCCEEDED", "CANCELLED", "EXPIRED"}
_REFUSING = {
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "OTHER", "IMAGE_SAFETY",
}  # fmt: skip


class GeminiBatches:
    """One Google AI project."""

    name: ProviderName = "gemini"

    def __init__(self, *, api_key: str, base_url: str | None = None, account: str | None = None) -> None:
        self._key = api_key
        self._base_url = (base_url or _BASE_URL).rstrip("/")
        # No retry options: the SDK then sends every request once (`google.genai._api_client.retry_args`).
        # The client is kept: a chained temporary fails with "client has been closed".
        self._client = genai.Client(
            api_key=api_key,
            vertexai=False,
            http_options=types.HttpOptions(
                base_url=self._base_url, api_version=_VERSION, timeout=int(READ_SECONDS * 1000)
            ),
        )
        self.account = fingerprint("gemini", account, self._base_url, api_key)

    def limits(self, endpoint: Endpoint) -> Limits:
        return planning.limits("gemini")

    def render(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> bytes:
        """The model stands in the create's URL."""
        body = _embedding(request) if isinstance(request, EmbeddingInput) else _content(request)
        return render_line({"key": custom_id, "request": body})

    def upload(self, submission: Submission, path: Path) -> str:
        """The file's name is made from the tag, so an upload that was repeated finds the first one."""
        name = f"files/{submission.tag}"
        with _errors():
            try:
                file = self._upload(submission.tag, path)
            except genai_errors.APIError as error:
                if error.code != 409:
                    raise
                file = self._client.files.get(name=name)
                if file.size_bytes != path.stat().st_size:  # cut short by a crash
                    self._delete(name)
                    file = self._upload(submission.tag, path)
            self._wait_until_active(file)
        return name

    def submit(self, submission: Submission, path: Path) -> str:
        name = submission.input_file
        with _errors():
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
        if not job.name:
            raise Transient("Gemini accepted the batch without naming it")
        return job.name

    def find_submission(self, submission: Submission) -> list[FoundBatch]:
        """The raw operations: the list is short (100 batches run at once), and is read to its end."""
        found = []
        token = ""
        while True:
            page = self._get(f"batches?pageSize=100&pageToken={quote(token)}")
            for operation in page.get("operations", ()):
                metadata = operation.get("metadata") or {}
                if metadata.get("displayName") == submission.tag:
                    found.append(
                        FoundBatch(operation["name"], certain=True, created_at=_time(metadata.get("createTime")))
                    )
            token = page.get("nextPageToken") or ""
            if not token:
                return found

    def fence(self, submission: Submission) -> bool:
        if submission.input_file:
            self._delete(submission.input_file)
        return True

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        """The raw operation: the SDK's own `BatchJob` drops ``error`` and ``batchStats``."""
        with _errors():
            response = await self._client.aio._api_client.async_request("get", provider_batch_id, {}, None)
        return _state(orjson.loads(response.body or "{}"))

    def iter_results(self, provider_batch_id: str) -> Iterator[ResultLine | UnreadableLine]:
        """An expired batch has nothing to fetch. Streamed past the SDK, which holds a whole file in memory."""
        operation = self._get(provider_batch_id)
        name = _responses_file(operation)
        if not name:
            return
        url = f"{self._base_url}/{_VERSION}/{quote(name)}:download?alt=media"
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        with _errors(), httpx.stream("GET", url, headers={"x-goog-api-key": self._key}, timeout=timeout) as response:
            if response.status_code != 200:
                response.read()
                raise genai_errors.APIError(response.status_code, _json(response.content))
            for line in lines(response.iter_bytes()):
                yield _read(line)

    def cancel(self, provider_batch_id: str) -> None:
        with _errors():
            self._client.batches.cancel(name=provider_batch_id)

    def delete_files(self, submission: Submission, provider_batch_id: str | None) -> None:
        """Only the input: output files have names too long for the SDK to delete, and expire by themselves."""
        if submission.input_file:
            self._delete(submission.input_file)

    def check(self) -> None:
        self._get("batches?pageSize=1")

    def _upload(self, tag: str, path: Path) -> types.File:
        return self._client.files.upload(
            file=path, config=types.UploadFileConfig(name=tag, display_name=tag, mime_type="jsonl")
        )

    def _wait_until_active(self, file: types.File) -> None:
        deadline = time.monotonic() + _ACTIVE_SECONDS
        while file.state == types.FileState.PROCESSING:
            if time.monotonic() > deadline:
                raise Transient("Gemini is still processing the uploaded file")
            time.sleep(1)
            file = self._client.files.get(name=file.name or "")
        if file.state == types.FileState.FAILED:
            raise Rejected("Gemini could not process the uploaded file")

    def _delete(self, name: str) -> None:
        with suppress(Rejected), _errors():  # gone already
            self._client.files.delete(name=name)

    def _get(self, path: str) -> dict[str, Any]:
        with _errors():
            return _json(self._client._api_client.request("get", path, {}, None).body)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except genai_errors.APIError as error:
        headers = getattr(error.response, "headers", None) or {}
        text = error.message or "no message"
        status = 401 if error.code == 400 and "API key not valid" in text else error.code
        raise translate(
            f"{error.status}: {text}" if error.status else text,
            status,
            in_its_own_words=bool(error.status),
            retry_after=headers.get("retry-after"),
        ) from None
    except (httpx.HTTPError, httpx2.HTTPError, TimeoutError) as error:
        raise Transient(f"Gemini did not answer: {type(error).__name__}") from None


def _json(body: Any) -> dict[str, Any]:
    try:
        found = orjson.loads(body or "{}")
    except orjson.JSONDecodeError:
        raise Transient("Gemini's answer is no JSON") from None
    if not isinstance(found, dict):
        raise Transient("Gemini's answer is no JSON object")
    return found


def _embedding(request: EmbeddingInput) -> dict[str, Any]:
    if len(request.texts) != 1:
        raise Rejected("Gemini takes one text per embedding request: give each text a job of its own")
    body: dict[str, Any] = {"content": {"parts": [{"text": request.texts[0]}]}}
    return body | ({"outputDimensionality": request.dimensions} if request.dimensions else {})


def _content(prompt: Prompt) -> dict[str, Any]:
    config: dict[str, Any] = {"maxOutputTokens": prompt.max_tokens}
    if prompt.schema:
        # responseJsonSchema gives degenerate answers in batches; responseSchema does not.
        definitions = prompt.schema.get("$defs") or {}
        config |= {"responseMimeType": "application/json", "responseSchema": _gemini_schema(prompt.schema, definitions)}
    body: dict[str, Any] = {
        "contents": [{"role": "user", "parts": [{"text": prompt.user}]}],
        "generationConfig": config,
    }
    if prompt.system:
        body["systemInstruction"] = {"parts": [{"text": prompt.system}]}
    return body


_KEPT = (
    "type", "description", "enum", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "required",
)  # fmt: skip


def _gemini_schema(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema in Gemini's OpenAPI subset: references in place, ``null`` as ``nullable``, nothing it refuses."""
    if "$ref" in node:
        return _gemini_schema(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    schema = {key: node[key] for key in _KEPT if key in node}
    if "const" in node:
        schema |= {"type": "string", "enum": [str(node["const"])]}
    if "properties" in node:
        schema["properties"] = {name: _gemini_schema(child, definitions) for name, child in node["properties"].items()}
        schema["propertyOrdering"] = list(node["properties"])
    if "items" in node:
        schema["items"] = _gemini_schema(node["items"], definitions)
    if "anyOf" in node:
        choices = [_gemini_schema(child, definitions) for child in node["anyOf"] if child.get("type") != "null"]
        nullable = {"nullable": True} if len(choices) < len(node["anyOf"]) else {}
        return schema | nullable | (choices[0] if len(choices) == 1 else {"anyOf": choices})
    return schema


def _state(operation: dict[str, Any]) -> ProviderState:
    metadata = operation.get("metadata") or {}
    status = str(metadata.get("state") or "")
    word = status
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    phase: Literal["running", "ended", "failed"] = "running"
    if word in _ENDED:
        phase = "ended"
    elif word == "FAILED":
        phase = "failed"
    error = operation.get("error") or {}
    return ProviderState(
        provider_batch_id=operation.get("name", ""),
        phase=phase,
        status=word,
        counts=_counts(word, operation, metadata.get("batchStats") or {}),
        error=f"{error.get('status') or error.get('code')}: {error.get('message')}"[:300] if error else None,
        unknown=word not in {*_RUNNING, *_ENDED, "FAILED"},
        created_at=_time(metadata.get("createTime")),
        ended_at=_time(metadata.get("endTime")),
    )


def _counts(word: str, operation: dict[str, Any], stats: Mapping[str, Any]) -> Counts | None:
    """Numbers come as strings, and may be missing. A batch without a file of responses has none that succeeded."""
    total = int(stats.get("requestCount") or 0)
    if word in ("EXPIRED", "CANCELLED") and not _responses_file(operation):
        return Counts(total, 0, total)
    if not stats:
        return None
    return Counts(total, int(stats.get("successfulRequestCount") or 0), int(stats.get("failedRequestCount") or 0))


def _responses_file(operation: dict[str, Any]) -> str | None:
    places = (operation.get("response") or {}, (operation.get("metadata") or {}).get("output") or {})
    return next((place["responsesFile"] for place in places if place.get("responsesFile")), None)


def _time(text: str | None) -> datetime | None:
    """RFC 3339 with up to nine digits of a second."""
    if not text:
        return None
    with suppress(ValueError):
        return datetime.fromisoformat(text).astimezone(UTC)
    return datetime.fromisoformat(text.split(".")[0] + "+00:00")


def _read(line: bytes) -> ResultLine | UnreadableLine:
    found = read_object(line)
    if isinstance(found, UnreadableLine):
        return found
    try:
        return _result(line, found)
    except (KeyError, TypeError, IndexError, AttributeError):
        return UnreadableLine(line, "the line does not have the shape of a Gemini result")


def _result(line: bytes, found: dict[str, Any]) -> ResultLine:
    key = found["key"]
    if not isinstance(key, str):
        raise TypeError
    if found.get("error"):
        code = found["error"].get("code")
        error = f"{code}: {found['error'].get('message')}"
        retryable = code in (4, 8, 13, 14, 429) or (isinstance(code, int) and code >= 500)
        return ResultLine(key, "errored", line, billed=False, error=error, retryable=retryable)
    response = found["response"]
    tokens = response.get("usageMetadata") or {}
    total, cached = tokens.get("promptTokenCount"), tokens.get("cachedContentTokenCount")
    if "embedding" in response:
        answer = Answer("succeeded", embeddings=(tuple(response["embedding"]["values"]),))
        return ResultLine(key, "succeeded", line, billed=True, answer=answer, usage=usage(total, 0))
    answer = _answer(response)
    output = (tokens.get("candidatesTokenCount") or 0) + (tokens.get("thoughtsTokenCount") or 0)
    counted = usage(total, output, cached)
    return ResultLine(key, answer.outcome, line, billed=True, answer=answer, usage=counted, error=why_unusable(answer))


def _answer(response: dict[str, Any]) -> Answer:
    """A candidate may come without parts, and a blocked prompt without candidates."""
    blocked = (response.get("promptFeedback") or {}).get("blockReason")
    candidate = (response.get("candidates") or [{}])[0]
    parts = (candidate.get("content") or {}).get("parts") or []
    text = "".join(part.get("text", "") for part in parts if not part.get("thought")) or None
    reason = blocked or candidate.get("finishReason")
    outcome: Literal["succeeded", "refused", "truncated"] = "succeeded"
    if reason == "MAX_TOKENS":
        outcome = "truncated"
    elif blocked or reason in _REFUSING or text is None:
        outcome = "refused"
    return Answer(outcome, text, None, reason or "no candidate", response.get("modelVersion"))

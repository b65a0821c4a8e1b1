"""OpenAI's Batch API: https://platform.openai.com/docs/guides/batch"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import httpx2
import openai
from openai.types import Batch

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
    Usage,
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

_URLS: Mapping[Endpoint, Literal["/v1/chat/completions", "/v1/responses", "/v1/embeddings"]] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
}
_TAG = "nightbatch_tag"
_RUNNING = {"validating", "in_progress", "finalizing", "cancelling"}
_ENDED = {"completed", "expired", "cancelled"}
_TIMEOUT = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)


class OpenAIBatches:
    """One OpenAI project or organisation."""

    name: ProviderName = "openai"

    def __init__(self, *, api_key: str, base_url: str | None = None, account: str | None = None) -> None:
        self._key, self._base_url = api_key, base_url
        self._client = openai.OpenAI(api_key=api_key, base_url=base_url, timeout=_TIMEOUT)
        self._async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, openai.AsyncOpenAI] = WeakKeyDictionary()
        self.account = fingerprint("openai", account, str(self._client.base_url), api_key, self._client.organization)

    def limits(self, endpoint: Endpoint) -> Limits:
        return planning.limits("openai")

    def render(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> bytes:
        return render_line(
            {"custom_id": custom_id, "method": "POST", "url": _URLS[endpoint], "body": _body(model, endpoint, request)}
        )

    def upload(self, submission: Submission, path: Path) -> str:
        """An upload costs nothing and expires: one that is repeated only leaves a file behind."""
        with _errors(), path.open("rb") as file:
            return self._client.files.create(
                file=(f"{submission.tag}.jsonl", file),
                purpose="batch",
                expires_after={"anchor": "created_at", "seconds": 7 * 86_400},
            ).id

    def submit(self, submission: Submission, path: Path) -> str:
        if submission.input_file is None:
            raise Rejected("the input was never uploaded")
        once = self._client.with_options(max_retries=0)
        with _errors():
            return once.batches.create(
                input_file_id=submission.input_file,
                endpoint=_URLS[submission.endpoint],
                completion_window="24h",
                metadata={_TAG: submission.tag, "nightbatch_batch": str(submission.batch_id)},
            ).id

    def find_submission(self, submission: Submission) -> list[FoundBatch]:
        """The list has no filters and is newest first: pages wholly from before the intent end it."""
        since = (submission.intent_at or datetime.fromtimestamp(0, UTC)) - timedelta(days=1)
        found = []
        with _errors():
            page = self._client.batches.list(limit=100)
            while True:
                for batch in page.data:
                    if (batch.metadata or {}).get(_TAG) == submission.tag:
                        found.append(FoundBatch(batch.id, certain=True, created_at=_time(batch.created_at)))
                if not page.has_next_page() or all(batch.created_at < since.timestamp() for batch in page.data):
                    return found
                page = page.get_next_page()

    def fence(self, submission: Submission) -> bool:
        if submission.input_file:
            self._delete(submission.input_file)
        return True

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        with _errors():
            return _state(await self._async_client().batches.retrieve(provider_batch_id))

    def iter_results(self, provider_batch_id: str) -> Iterator[ResultLine | UnreadableLine]:
        """Successes stand in the output file and failures in the error file; either may be missing, also as ``""``."""
        with _errors():
            batch = self._client.batches.retrieve(provider_batch_id)
            for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
                with self._client.files.with_streaming_response.content(file_id) as response:
                    for line in lines(response.iter_bytes()):
                        yield _read(line)

    def cancel(self, provider_batch_id: str) -> None:
        with _errors():
            self._client.batches.cancel(provider_batch_id)

    def delete_files(self, submission: Submission, provider_batch_id: str | None) -> None:
        files = [submission.input_file]
        if provider_batch_id:
            with _errors():
                batch = self._client.batches.retrieve(provider_batch_id)
            files += [batch.output_file_id, batch.error_file_id]
        for file_id in filter(None, files):
            self._delete(file_id)

    def check(self) -> None:
        with _errors():
            self._client.batches.list(limit=1)

    def _delete(self, file_id: str) -> None:
        with suppress(Rejected), _errors():  # gone already
            self._client.files.delete(file_id)

    def _async_client(self) -> openai.AsyncOpenAI:
        """One per event loop, without idle connections: those would outlive the loop that opened them."""
        loop = asyncio.get_running_loop()
        if loop not in self._async_clients:
            http = openai.DefaultAsyncHttpxClient(limits=httpx2.Limits(max_keepalive_connections=0), timeout=_TIMEOUT)
            self._async_clients[loop] = openai.AsyncOpenAI(api_key=self._key, base_url=self._base_url, http_client=http)
        return self._async_clients[loop]


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except openai.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        raise translate(
            f"{body['code']}: {body.get('message')}" if body.get("code") else str(body.get("message") or error.message),
            error.status_code,
            in_its_own_words="message" in body,
            retry_after=error.response.headers.get("retry-after"),
            account=body.get("code") in ("insufficient_quota", "billing_hard_limit_reached"),
        ) from None
    except (openai.APIConnectionError, httpx2.HTTPError) as error:
        raise Transient(f"OpenAI did not answer: {type(error).__name__}") from None


def _body(model: str, endpoint: Endpoint, request: Request) -> dict[str, Any]:
    match request:
        case EmbeddingInput():
            body = {"model": model, "input": list(request.texts), "encoding_format": "float"}
            return body | ({"dimensions": request.dimensions} if request.dimensions else {})
        case Prompt() if endpoint == "responses":
            return _responses_body(model, request)
        case Prompt():
            return _chat_body(model, request)


def _chat_body(model: str, prompt: Prompt) -> dict[str, Any]:
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    body: dict[str, Any] = {
        "model": model,
        "messages": [*system, {"role": "user", "content": prompt.user}],
        "max_completion_tokens": prompt.max_tokens,
    }
    if prompt.schema:
        named = {"name": prompt.schema_name, "strict": True, "schema": prompt.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def _responses_body(model: str, prompt: Prompt) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "input": prompt.user, "max_output_tokens": prompt.max_tokens}
    if prompt.system:
        body["instructions"] = prompt.system
    if prompt.schema:
        format_ = {"type": "json_schema", "name": prompt.schema_name, "strict": True, "schema": prompt.schema}
        body["text"] = {"format": format_}
    return body


def _state(batch: Batch) -> ProviderState:
    phase: Literal["running", "ended", "failed"] = "running"
    if batch.status in _ENDED:
        phase = "ended"
    elif batch.status == "failed":
        phase = "failed"
    errors = (batch.errors.data or []) if batch.errors else []
    counts = batch.request_counts
    ended = batch.completed_at or batch.expired_at or batch.cancelled_at or batch.failed_at
    return ProviderState(
        provider_batch_id=batch.id,
        phase=phase,
        status=batch.status,
        counts=Counts(counts.total, counts.completed, counts.failed) if counts else None,
        error="; ".join(f"{error.code}: {error.message}" for error in errors)[:300] or None,
        unknown=batch.status not in {*_RUNNING, *_ENDED, "failed"},
        created_at=_time(batch.created_at),
        ended_at=_time(ended),
        expires_at=_time(batch.expires_at),
        rejected_requests={error.line: f"{error.code}: {error.message}" for error in errors if error.line},
    )


def _time(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _read(line: bytes) -> ResultLine | UnreadableLine:
    found = read_object(line)
    if isinstance(found, UnreadableLine):
        return found
    try:
        return _result(line, found)
    except (KeyError, TypeError, IndexError, AttributeError):
        return UnreadableLine(line, "the line does not have the shape of an OpenAI result")


def _result(line: bytes, found: dict[str, Any]) -> ResultLine:
    custom_id, response = found["custom_id"], found.get("response")
    if not isinstance(custom_id, str):
        raise TypeError
    if response is None:
        return _late(line, custom_id, found["error"])
    status, body = response["status_code"], response["body"]
    if status != 200:
        error = f"{status}: {body['error']['message']}"
        retryable = status >= 500 or status in (408, 409, 429)
        return ResultLine(custom_id, "errored", line, billed=False, error=error, retryable=retryable)
    answer, tokens = _answer(body)
    return ResultLine(
        custom_id, answer.outcome, line, billed=True, answer=answer, usage=tokens, error=why_unusable(answer)
    )


def _late(line: bytes, custom_id: str, error: dict[str, Any]) -> ResultLine:
    outcomes: dict[str, Literal["expired", "cancelled"]] = {
        "batch_expired": "expired",
        "batch_cancelled": "cancelled",
    }
    text = f"{error['code']}: {error['message']}"
    outcome = outcomes.get(error["code"])
    return ResultLine(custom_id, outcome or "errored", line, billed=False, error=text, retryable=True)


def _answer(body: dict[str, Any]) -> tuple[Answer, Usage | None]:
    tokens = body.get("usage") or {}
    match body.get("object"):
        case "chat.completion":
            details = tokens.get("prompt_tokens_details") or {}
            counted = usage(tokens.get("prompt_tokens"), tokens.get("completion_tokens"), details.get("cached_tokens"))
            return _chat_answer(body), counted
        case "response":
            details = tokens.get("input_tokens_details") or {}
            counted = usage(tokens.get("input_tokens"), tokens.get("output_tokens"), details.get("cached_tokens"))
            return _responses_answer(body), counted
        case "list":
            ordered = sorted(body["data"], key=lambda item: item["index"])
            vectors = tuple(tuple(item["embedding"]) for item in ordered)
            answer = Answer("succeeded", embeddings=vectors, model=body.get("model"))
            return answer, usage(tokens.get("prompt_tokens"), 0)
        case _:
            raise KeyError("object")


def _chat_answer(body: dict[str, Any]) -> Answer:
    choice = body["choices"][0]
    message, reason = choice["message"], choice.get("finish_reason")
    outcome: Literal["succeeded", "refused", "truncated"] = "succeeded"
    if message.get("refusal") or reason == "content_filter":
        outcome = "refused"
    elif reason == "length":
        outcome = "truncated"
    return Answer(outcome, message.get("content") or message.get("refusal"), None, reason, body.get("model"))


def _responses_answer(body: dict[str, Any]) -> Answer:
    parts = [part for item in body["output"] if item["type"] == "message" for part in item["content"]]
    refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
    reason = (body.get("incomplete_details") or {}).get("reason") or body.get("status")
    outcome: Literal["succeeded", "refused", "truncated"] = "succeeded"
    if refusals or reason == "content_filter":
        outcome = "refused"
    elif body.get("status") == "incomplete":
        outcome = "truncated"
    text = "".join(part["text"] for part in parts if part["type"] == "output_text") or "".join(refusals) or None
    return Answer(outcome, text, None, "refusal" if refusals else reason, body.get("model"))

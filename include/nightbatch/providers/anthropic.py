"""Anthropic's Message Batches API: https://docs.anthropic.com/en/docs/build-with-claude/batch-processing"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import anthropic
import httpx2
from anthropic.lib._parse._transform import transform_schema
from anthropic.types.messages import MessageBatch

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

_SKEW = timedelta(minutes=2)  # between the database's clock and Anthropic's
_TIMEOUT = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
_REQUEST = re.compile(r"\brequests\.(\d+)\b")
_ENDED_BY_LIMIT = {"max_tokens", "model_context_window_exceeded", "pause_turn"}


class AnthropicBatches:
    """One Anthropic workspace."""

    name: ProviderName = "anthropic"

    def __init__(self, *, api_key: str, base_url: str | None = None, account: str | None = None) -> None:
        self._key, self._base_url = api_key, base_url
        self._client = anthropic.Anthropic(api_key=api_key, base_url=base_url, timeout=_TIMEOUT)
        self._async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, anthropic.AsyncAnthropic] = (
            WeakKeyDictionary()
        )
        self.account = fingerprint("anthropic", account, str(self._client.base_url), api_key)

    def limits(self, endpoint: Endpoint) -> Limits:
        return planning.limits("anthropic")

    def render(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> bytes:
        if isinstance(request, EmbeddingInput):
            raise Rejected("Anthropic has no embeddings")
        return render_line({"custom_id": custom_id, "params": _params(model, request)})

    def upload(self, submission: Submission, path: Path) -> None:
        """There are no files: the create carries the requests."""

    def submit(self, submission: Submission, path: Path) -> str:
        once = self._client.with_options(max_retries=0)
        with tempfile.TemporaryFile(dir=path.parent) as body, _errors():
            _join(path, body)
            return once.post(
                "/v1/messages/batches",
                cast_to=MessageBatch,
                content=body,
                options={"headers": {"Content-Type": "application/json"}},
            ).id

    def find_submission(self, submission: Submission) -> list[FoundBatch]:
        """Candidates by time and count; the list is newest first, and pages wholly from before the intent end it."""
        since = (submission.intent_at or datetime.fromtimestamp(0, UTC)) - _SKEW
        found = []
        with _errors():
            page = self._client.messages.batches.list(limit=1000)
            while True:
                for batch in page.data:
                    if batch.created_at >= since and _total(batch) == submission.job_count:
                        found.append(FoundBatch(batch.id, certain=False, created_at=batch.created_at))
                if not page.has_next_page() or all(batch.created_at < since for batch in page.data):
                    return found
                page = page.get_next_page()

    def fence(self, submission: Submission) -> bool:
        return False

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        with _errors():
            return _state(await self._async_client().messages.batches.retrieve(provider_batch_id))

    def iter_results(self, provider_batch_id: str) -> Iterator[ResultLine | UnreadableLine]:
        with _errors(), self._client.messages.batches.with_streaming_response.results(provider_batch_id) as response:
            for line in lines(response.iter_bytes()):
                yield _read(line)

    def cancel(self, provider_batch_id: str) -> None:
        with _errors():
            self._client.messages.batches.cancel(provider_batch_id)

    def delete_files(self, submission: Submission, provider_batch_id: str | None) -> None:
        """Results stay for 29 days; deleting a batch would also take it out of the list that proves what was sent."""

    def check(self) -> None:
        with _errors():
            self._client.messages.batches.list(limit=1)

    def _async_client(self) -> anthropic.AsyncAnthropic:
        """One per event loop, without idle connections: those would outlive the loop that opened them."""
        loop = asyncio.get_running_loop()
        if loop not in self._async_clients:
            http = anthropic.DefaultAsyncHttpxClient(
                limits=httpx2.Limits(max_keepalive_connections=0), timeout=_TIMEOUT
            )
            self._async_clients[loop] = anthropic.AsyncAnthropic(
                api_key=self._key, base_url=self._base_url, http_client=http
            )
        return self._async_clients[loop]


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except anthropic.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        inner = body.get("error") or {}
        message = str(inner.get("message") or error.message)
        raise translate(
            f"{inner.get('type')}: {message}" if inner else message,
            error.status_code,
            in_its_own_words=body.get("type") == "error",
            retry_after=error.response.headers.get("retry-after"),
            account=error.status_code == 400 and ("credit balance" in message or "spend limit" in message),
            requests=tuple(int(place) for place in _REQUEST.findall(message)),
        ) from None
    except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
        raise Transient(f"Anthropic did not answer: {type(error).__name__}") from None
    except anthropic.AnthropicError as error:
        raise Transient(str(error)[:300]) from None  # the results are not there yet


def _params(model: str, prompt: Prompt) -> dict[str, Any]:
    params: dict[str, Any] = {
        "model": model,
        "max_tokens": prompt.max_tokens,
        "messages": [{"role": "user", "content": prompt.user}],
    }
    if prompt.system:
        params["system"] = prompt.system
    if prompt.schema:
        # The SDK moves the keywords that Anthropic refuses (minimum, maxLength, ...) into descriptions.
        params["output_config"] = {"format": {"type": "json_schema", "schema": transform_schema(prompt.schema)}}
    return params


def _join(path: Path, body: Any) -> None:
    """``{"requests": [line, line, ...]}`` without reading a line as JSON again."""
    body.write(b'{"requests":[')
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number:
                body.write(b",")
            body.write(line.rstrip(b"\n"))
    body.write(b"]}")
    body.seek(0)


def _total(batch: MessageBatch) -> int:
    counts = batch.request_counts
    return counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired


def _state(batch: MessageBatch) -> ProviderState:
    """The counts other than ``processing`` are 0 until the whole batch has ended."""
    ended = batch.processing_status == "ended"
    return ProviderState(
        provider_batch_id=batch.id,
        phase="ended" if ended else "running",
        status=batch.processing_status,
        counts=Counts(_total(batch), batch.request_counts.succeeded, batch.request_counts.errored) if ended else None,
        unknown=batch.processing_status not in ("in_progress", "canceling", "ended"),
        created_at=batch.created_at,
        ended_at=batch.ended_at,
        expires_at=batch.expires_at,
    )


def _read(line: bytes) -> ResultLine | UnreadableLine:
    found = read_object(line)
    if isinstance(found, UnreadableLine):
        return found
    try:
        return _result(line, found["custom_id"], found["result"])
    except (KeyError, TypeError, AttributeError):
        return UnreadableLine(line, "the line does not have the shape of an Anthropic result")


def _result(line: bytes, custom_id: str, result: dict[str, Any]) -> ResultLine | UnreadableLine:
    match result["type"]:
        case "succeeded":
            return _succeeded(line, custom_id, result["message"])
        case "errored":
            inner = result["error"]["error"]
            error = f"{inner['type']}: {inner['message']}"
            retryable = inner["type"] in ("api_error", "overloaded_error", "rate_limit_error", "timeout_error")
            return ResultLine(custom_id, "errored", line, billed=False, error=error, retryable=retryable)
        case "canceled":
            return ResultLine(
                custom_id, "cancelled", line, billed=False, error="the batch was cancelled", retryable=True
            )
        case "expired":
            return ResultLine(custom_id, "expired", line, billed=False, error="the batch expired", retryable=True)
        case unknown:
            return UnreadableLine(line, f"Anthropic sent a result of the unknown type {str(unknown)[:50]}")


def _succeeded(line: bytes, custom_id: str, message: dict[str, Any]) -> ResultLine:
    reason = message.get("stop_reason")
    outcome: Literal["succeeded", "refused", "truncated"] = "succeeded"
    if reason == "refusal":
        outcome = "refused"
    elif reason in _ENDED_BY_LIMIT:
        outcome = "truncated"
    text = "".join(block["text"] for block in message["content"] if block["type"] == "text") or None
    tokens = message.get("usage") or {}
    cached = tokens.get("cache_read_input_tokens") or 0
    fresh = tokens.get("input_tokens")
    total = fresh + cached + (tokens.get("cache_creation_input_tokens") or 0) if isinstance(fresh, int) else None
    answer = Answer(outcome, text, None, reason, message.get("model"))
    return ResultLine(
        custom_id,
        outcome,
        line,
        billed=True,
        answer=answer,
        usage=usage(total, tokens.get("output_tokens"), cached),
        error=why_unusable(answer),
    )

"""Anthropic's Message Batches API.

https://docs.anthropic.com/en/docs/build-with-claude/batch-processing
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import orjson
from anthropic.types.messages import MessageBatch

from nightbatch.core.allowed_hosts import is_own_host
from nightbatch.core.certainty import Call, Said
from nightbatch.core.errors import Absent, Transient
from nightbatch.core.models import (
    Endpoint,
    FoundBatch,
    ListedBatch,
    ProviderName,
    ProviderState,
    Request,
    ResultLine,
    Submission,
    UnreadableLine,
)
from nightbatch.providers.anthropic_requests import line as _line
from nightbatch.providers.anthropic_results import is_of_the_account
from nightbatch.providers.anthropic_results import read as _read
from nightbatch.providers.extras import PLAIN, Wire
from nightbatch.providers.http import checked_key, home_of
from nightbatch.providers.wire import (
    HOOKS,
    Download,
    LineWriter,
    PerLoop,
    download_with_resume,
    fingerprint,
    fresh,
    lines,
    quiet,
    refusal,
    require_id,
    still_kept,
    to_counts,
    translated,
)

_SKEW = timedelta(minutes=2)  # between the database's clock and Anthropic's
_REQUEST = re.compile(r"\brequests\.(\d+)\b")
_CHUNK = 1 << 20


_LINES = LineWriter(_line)


class AnthropicBatches:
    """One Anthropic workspace."""

    name: ProviderName = "anthropic"
    shows_tags = False

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
        given: dict[str, Any] = {"api_key": api_key, "base_url": str(home.url), "default_headers": wire.headers}
        self._client = anthropic.Anthropic(**given, http_client=home.client(event_hooks=HOOKS))
        self._downloads = self._client.with_options(http_client=home.client(whole=False))
        self._async = PerLoop(lambda: anthropic.AsyncAnthropic(**given, http_client=home.async_client()))
        self._own_host = is_own_host(str(self._client.base_url))
        self.account = fingerprint(account, self.name, str(self._client.base_url), api_key, *wire.payers())

    def render(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> bytes:
        return _LINES.write(custom_id, model, endpoint, request)

    def upload(self, submission: Submission, path: Path) -> None:
        """Do nothing: there are no files, and the create carries the requests."""

    def submit(self, submission: Submission, path: Path) -> str:
        once = self._client.with_options(max_retries=0)
        length, body = _create_body(path)
        with self._errors("create"):
            batch = once.post(
                "/v1/messages/batches",
                cast_to=MessageBatch,
                content=body,
                options={
                    "headers": {"Content-Type": "application/json", "Content-Length": str(length)},
                    "follow_redirects": False,
                },
            )
            return require_id(batch.id)

    def find_submission(self, submission: Submission) -> list[FoundBatch]:
        """Return the batches that may be this submission, by time and count."""
        since = (submission.intent_at or datetime(1970, 1, 2, tzinfo=UTC)) - _SKEW
        with fresh(submission.asked_at) as seen:
            listed = list(self.list_batches(since))
        found = [
            FoundBatch(batch.provider_batch_id, certain=False, created_at=batch.created_at)
            for batch in listed
            if batch.created_at and batch.created_at >= since and batch.requests == submission.job_count
        ]
        return seen.proven("Anthropic", found)

    def list_batches(self, since: datetime) -> Iterator[ListedBatch]:
        """Yield the list, newest first, to a page wholly from before ``since``; nothing in it says whose a batch is."""
        with self._errors("list"):
            page = self._client.messages.batches.list(limit=1000)
            while True:
                yield from map(_listed, page.data)
                if page.has_more is False or (page.data and all(batch.created_at < since for batch in page.data)):
                    return
                if not page.has_more or not page.last_id:
                    raise Transient("Anthropic's list of batches does not say where it ends: it could not be read.")
                page = page.get_next_page()

    def fence(self, submission: Submission) -> bool:
        return False

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        with self._errors():
            return _state(await self._async.client().messages.batches.retrieve(provider_batch_id))

    async def list_states(self, ids: Collection[str], *, since: datetime, pages: int) -> dict[str, ProviderState]:
        found: dict[str, ProviderState] = {}
        with self._errors("list"):
            page = await self._async.client().messages.batches.list(limit=min(1000, 100 * pages))
            for left in reversed(range(pages)):
                found |= {batch.id: _state(batch) for batch in page.data if batch.id in ids}
                past = bool(page.data) and all(batch.created_at < since for batch in page.data)
                if not left or past or len(found) == len(ids) or not page.has_next_page():
                    break
                page = await page.get_next_page()
        return found

    def iter_results(self, provider_batch_id: str, known: Container[int] = ()) -> Iterator[ResultLine | UnreadableLine]:
        """Yield results from the raw lines: the SDK's objects take a result of an unknown type for one that succeeded."""
        with self._errors():
            batch = self._client.messages.batches.retrieve(provider_batch_id)
            if batch.archived_at:
                raise Absent("Anthropic does not keep the results any more: they are archived.", status=410)
        with still_kept(), self._errors():
            for line in lines(download_with_resume(partial(self._download, provider_batch_id)), known):
                yield _read(line)

    def _download(self, provider_batch_id: str, headers: dict[str, str]) -> AbstractContextManager[Download]:
        """Open the download at the connection's own host, whichever one ``results_url`` names: `http.Home` sees to that."""
        return self._downloads.messages.batches.with_streaming_response.results(
            provider_batch_id, extra_headers=headers
        )

    def ask(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> ResultLine | UnreadableLine:
        line = orjson.loads(self.render(custom_id, model, endpoint, request))
        once = self._client.with_options(max_retries=0)
        with self._errors("ask"):
            message = once.post(
                "/v1/messages", body=line["params"], cast_to=object, options={"follow_redirects": False}
            )
        return _read(orjson.dumps({"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}))

    def cancel(self, provider_batch_id: str) -> None:
        with self._errors():
            self._client.messages.batches.cancel(provider_batch_id)

    def delete_files(self, submission: Submission, provider_batch_id: str | None) -> None:
        """Do nothing: results stay for 29 days, and without a batch the list would not prove any more that it was sent."""

    def check(self) -> None:
        with self._errors("list"):
            self._client.messages.batches.list(limit=1)

    @contextmanager
    def _errors(self, call: Call = "item") -> Iterator[None]:
        with translated("Anthropic", call, anthropic.AnthropicError):
            try:
                yield
            except anthropic.APIStatusError as error:
                raise refusal(error.response, _said, call=call, own_host=self._own_host, secret=self._key) from None


def _said(body: Any, _: int) -> Said | None:
    """Return what Anthropic's error envelope says, None for any other body.

    The envelope is ``{"type": "error", "error": {type, message, details?}, "request_id"?}``:
    https://docs.claude.com/en/api/errors
    """
    if body["type"] != "error" or not body.keys() <= {"type", "error", "request_id"}:
        return None
    error = body["error"]
    kind, message = require_id(error["type"]), require_id(error["message"])
    text = f"{kind}: {message}"
    if is_of_the_account(error):
        return Said(text, "account")
    if kind == "not_found_error" and message.startswith("model:"):
        return Said(text, "content")
    return Said(text, requests=tuple(int(place) for place in _REQUEST.findall(message)))


def _create_body(path: Path) -> tuple[int, Iterator[bytes]]:
    """Return the length in bytes and the chunks of ``{"requests":[line,line,...]}``, without reading a line as JSON again.

    A line break is never part of a rendered line, and is as long as a comma.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - 1, 0))
        size -= file.read(1) == b"\n"
    start, end = b'{"requests":[', b"]}"

    def body() -> Iterator[bytes]:
        yield start
        left = size
        with path.open("rb") as file:
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                yield chunk.replace(b"\n", b",")
        yield end

    return len(start) + size + len(end), body()


def _total(batch: MessageBatch) -> int:
    counts = batch.request_counts
    return counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired


def _listed(batch: MessageBatch) -> ListedBatch:
    # The SDK checks nothing, and a batch without a moment is not one that is absent.
    if not isinstance(batch.created_at, datetime) or batch.created_at.tzinfo is None:
        raise Transient("Anthropic's list has a batch without a time: it could not be read.")
    ended = batch.processing_status == "ended"
    return ListedBatch(require_id(batch.id), None, batch.created_at, requests=_total(batch), ended=ended)


def _state(batch: MessageBatch) -> ProviderState:
    """Return the state of a batch; its counts other than ``processing`` are 0 until the whole batch has ended."""
    ended = batch.processing_status == "ended"
    return ProviderState(
        provider_batch_id=require_id(batch.id),
        phase="ended" if ended else "running",
        status=require_id(batch.processing_status),
        counts=to_counts(_total(batch), batch.request_counts.succeeded, batch.request_counts.errored)
        if ended
        else None,
        unknown=batch.processing_status not in ("in_progress", "canceling", "ended"),
        created_at=batch.created_at,
        ended_at=batch.ended_at,
        expires_at=batch.expires_at,
    )

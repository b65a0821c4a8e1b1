"""OpenAI's Batch API.

https://platform.openai.com/docs/guides/batch
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import openai
import orjson
from openai.types import Batch

from nightbatch.core.allowed_hosts import is_own_host
from nightbatch.core.certainty import Call, Said
from nightbatch.core.errors import Absent, NotNamed, Refused, Transient
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
from nightbatch.providers.extras import PLAIN, Wire
from nightbatch.providers.http import checked_key, home_of
from nightbatch.providers.openai_requests import URLS
from nightbatch.providers.openai_requests import line as _line
from nightbatch.providers.openai_results import is_of_the_account
from nightbatch.providers.openai_results import read as _read
from nightbatch.providers.wire import (
    HOOKS,
    Download,
    LineWriter,
    PerLoop,
    any_of_ours,
    brief,
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
    to_counts,
    translated,
    usage,
)

_TAG = "nightbatch_tag"
_RUNNING = {"validating", "in_progress", "finalizing", "cancelling"}
_ENDED = {"completed", "expired", "cancelled"}
_INPUT_DAYS = (
    14  # OpenAI takes up to 30, Azure 14 to 30: learn.microsoft.com/en-us/azure/ai-foundry/openai/how-to/batch
)
_LONG_AGO = datetime(1970, 1, 3, tzinfo=UTC)
# Of OpenAI itself, whatever request it met first: the same page
_OWN_CODES = {"server_error", "internal_error", "rate_limit_exceeded", "service_unavailable", "timeout"}


_LINES = LineWriter(_line)


class OpenAIBatches:
    """One OpenAI project or organisation."""

    name: ProviderName = "openai"

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
        given |= {"organization": wire.organization, "project": wire.project}
        self._client = openai.OpenAI(**given, http_client=home.client(event_hooks=HOOKS))
        # For the create: the SDK's retries must not send it a second time.
        self._once = self._client.with_options(max_retries=0)
        self._downloads = self._client.with_options(http_client=home.client(whole=False))
        self._async = PerLoop(lambda: openai.AsyncOpenAI(**given, http_client=home.async_client()))
        who = self._client
        self._own_host = is_own_host(str(who.base_url))
        self.shows_tags = self._own_host
        self.account = fingerprint(account, self.name, str(who.base_url), api_key, who.organization, who.project)

    def render(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> bytes:
        return _LINES.write(custom_id, model, endpoint, request)

    def upload(self, submission: Submission, path: Path) -> str:
        """Upload the input; it costs nothing and expires, so one that is repeated only leaves a file behind."""
        with self._errors("upload"), path.open("rb") as file:
            uploaded = self._client.files.create(
                file=(f"{submission.tag}.jsonl", file),
                purpose="batch",
                expires_after={"anchor": "created_at", "seconds": _INPUT_DAYS * 86_400},
            )
            return require_id(uploaded.id)

    def submit(self, submission: Submission, path: Path) -> str:
        if submission.input_file is None:
            raise Absent("the input was never uploaded")
        with self._errors("create"):
            batch = self._once.batches.create(
                input_file_id=submission.input_file,
                endpoint=URLS[submission.endpoint],
                completion_window="24h",
                metadata={_TAG: submission.tag, "nightbatch_batch": str(submission.batch_id)},
            )
            self.shows_tags = self.shows_tags or any_of_ours([_listed(batch)])
            return require_id(batch.id)

    def find_submission(self, submission: Submission) -> list[FoundBatch]:
        since = (submission.intent_at or _LONG_AGO) - timedelta(days=1)
        with fresh(submission.asked_at) as seen:
            listed = list(self.list_batches(since))
        self.shows_tags = self.shows_tags or any_of_ours(listed)
        return seen.proven("OpenAI", of_tag(listed, submission.tag))

    def list_batches(self, since: datetime) -> Iterator[ListedBatch]:
        """Yield the list, which has no filters and is newest first: a page wholly from before ``since`` ends it."""
        with self._errors("list"):
            page = self._client.batches.list(limit=100)
            while True:
                yield from map(_listed, page.data)
                if page.has_more is False or (page.data and all(_is_before(batch, since) for batch in page.data)):
                    return
                if not page.has_more or not page.data:
                    raise Transient("OpenAI's list of batches does not say where it ends: it could not be read.")
                page = page.get_next_page()

    def fence(self, submission: Submission) -> bool:
        """Delete the input. Only a file that is gone fences: any other refusal of the delete is raised."""
        if submission.input_file:
            with gone_is_fine(), self._errors():
                self._client.files.delete(submission.input_file)
        return True

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        with self._errors():
            return _state(await self._async.client().batches.retrieve(provider_batch_id))

    async def list_states(self, ids: Collection[str], *, since: datetime, pages: int) -> dict[str, ProviderState]:
        found: dict[str, ProviderState] = {}
        with self._errors("list"):
            page = await self._async.client().batches.list(limit=100)
            for left in reversed(range(pages)):
                found |= {batch.id: _state(batch) for batch in page.data if batch.id in ids}
                past = bool(page.data) and all(batch.created_at < since.timestamp() for batch in page.data)
                if not left or past or len(found) == len(ids) or not page.has_next_page():
                    break
                page = await page.get_next_page()
        return found

    def iter_results(self, provider_batch_id: str, known: Container[int] = ()) -> Iterator[ResultLine | UnreadableLine]:
        """Yield successes from the output file and failures from the error file; either may be missing, also as ``""``."""
        with self._errors():
            batch = self._client.batches.retrieve(provider_batch_id)
            require_id(batch.id)
            files = [file_id for file_id in (batch.output_file_id, batch.error_file_id) if file_id]
            if batch.request_counts and batch.request_counts.completed and not batch.output_file_id:
                raise NotNamed("OpenAI does not name the results of this batch, or does not any more.", status=410)
        for file_id in files:
            download = partial(self._download, file_id)
            with still_kept(), self._errors():
                for line in lines(download_with_resume(download), known):
                    yield _read(line)

    def _download(self, file_id: str, headers: dict[str, str]) -> AbstractContextManager[Download]:
        return self._downloads.files.with_streaming_response.content(file_id, extra_headers=headers)

    def ask(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> ResultLine | UnreadableLine:
        line = orjson.loads(self.render(custom_id, model, endpoint, request))
        with self._errors("ask"):
            body = self._once.post(line["url"].removeprefix("/v1"), body=line["body"], cast_to=object)
        response = {"status_code": 200, "body": body}
        return _read(orjson.dumps({"custom_id": custom_id, "response": response, "error": None}))

    def cancel(self, provider_batch_id: str) -> None:
        try:
            with self._errors():
                self._client.batches.cancel(provider_batch_id)
        except Transient as error:
            if error.status != 409:
                raise
            raise Refused(str(error), status=409) from None  # it has ended

    def delete_files(self, submission: Submission, provider_batch_id: str | None) -> None:
        files = [submission.input_file]
        if provider_batch_id:
            with suppress(Refused), self._errors():  # old batches vanish
                batch = self._client.batches.retrieve(provider_batch_id)
                files += [batch.output_file_id, batch.error_file_id]
        for file_id in filter(None, files):
            with suppress(Refused), self._errors():  # what cannot be deleted expires
                self._client.files.delete(file_id)

    def check(self) -> None:
        with self._errors("list"):
            self._client.batches.list(limit=1)

    @contextmanager
    def _errors(self, call: Call = "item") -> Iterator[None]:
        with translated("OpenAI", call, openai.OpenAIError):
            try:
                yield
            except openai.APIStatusError as error:
                raise refusal(error.response, _said, call=call, own_host=self._own_host, secret=self._key) from None


def _said(body: Any, _: int) -> Said | None:
    """Return what OpenAI's error envelope says, None for any other body: ``{"error": {message, type, param?, code?}}``.

    https://platform.openai.com/docs/api-reference/debugging-requests
    """
    error = body["error"]
    if body.keys() != {"error"}:
        return None
    code, kind, message, param = (
        error.get("code"),
        require_id(error["type"]),
        require_id(error["message"]),
        error.get("param"),
    )
    text = f"{code}: {message}" if code else message
    if is_of_the_account(code) or is_of_the_account(kind):
        return Said(text, "account")
    if code == "model_not_found":
        return Said(text, "content")
    return Said(text, "absent" if param == "input_file_id" or "No such File" in message else None)


def _state(batch: Batch) -> ProviderState:
    phase: Literal["running", "ended", "failed"] = "running"
    if batch.status in _ENDED:
        phase = "ended"
    elif batch.status == "failed":
        # As a rule nothing was run; where something was, it is billed and stands in the files.
        done = batch.output_file_id or batch.error_file_id or (batch.request_counts and batch.request_counts.completed)
        phase = "ended" if done else "failed"
    errors = (batch.errors.data or []) if batch.errors else []
    counts = batch.request_counts
    ended = batch.completed_at or batch.expired_at or batch.cancelled_at or batch.failed_at
    return ProviderState(
        provider_batch_id=require_id(batch.id),
        phase=phase,
        status=require_id(batch.status),
        # A batch that was run to its end has requests: counts of nothing are those of a server that does not count.
        counts=to_counts(counts.total, counts.completed, counts.failed)
        if counts and (counts.total or batch.status != "completed")
        else None,
        error=brief("; ".join(f"{error.code}: {error.message}" for error in errors)) or None,
        unknown=batch.status not in {*_RUNNING, *_ENDED, "failed"},
        created_at=_time(batch.created_at),
        ended_at=_time(ended),
        expires_at=_time(batch.expires_at),
        rejected_requests={
            error.line: brief(f"{error.code}: {error.message}")
            for error in errors
            if error.line and not is_of_the_account(error.code) and error.code not in _OWN_CODES
        },
        fault=_fault({error.code for error in errors}),
        tokens=_tokens(batch),
    )


def _fault(codes: set[str | None]) -> Literal["requests", "account", "provider"]:
    """Return whose fault it is that nothing of a batch was run; an undocumented code says nothing of the requests."""
    if any(map(is_of_the_account, codes)):
        return "account"
    return "requests" if any(code and "model" in code for code in codes) else "provider"


def _tokens(batch: Batch) -> tuple[int, int] | None:
    """Return input and output tokens of a batch, None where the numbers cannot be: the SDK does not check."""
    told = (batch.usage.input_tokens, batch.usage.output_tokens) if batch.usage else (None, None)
    found = usage(*told)
    return (found.input_tokens, found.output_tokens) if found else None


def _listed(batch: Batch) -> ListedBatch:
    ended = batch.status in _ENDED or batch.status == "failed"
    tag = (batch.metadata or {}).get(_TAG)
    return ListedBatch(require_id(batch.id), tag, _time(batch.created_at), ended=ended)


def _is_before(batch: Batch, since: datetime) -> bool:
    return batch.created_at < since.timestamp()


def _time(seconds: int | None) -> datetime | None:
    with suppress(OverflowError, OSError, ValueError):  # a time that cannot be is no reason to lose sight of a batch
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    return None

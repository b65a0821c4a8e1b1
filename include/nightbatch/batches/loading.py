"""Load an ended batch into result rows: in one transaction, and with every request accounted for once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import IO, Any

import orjson

from nightbatch.batches import home
from nightbatch.core.errors import Absent, NightbatchError, NotNamed, ReconciliationError, Transient
from nightbatch.core.ledger import Batch, Loaded
from nightbatch.core.models import (
    Answer,
    Outcome,
    ProviderState,
    RequestId,
    ResultLine,
    UnreadableLine,
    Usage,
    parse_custom_id,
)
from nightbatch.core.pricing import Rates, rates_for
from nightbatch.core.provider import BatchProvider
from nightbatch.job_types.base import JobType, OutputInvalid
from nightbatch.jobs import media
from nightbatch.planning import capacity
from nightbatch.postgres.store import RowsRefused, Store

Types = Mapping[str, JobType]
_Row = tuple[Any, ...]
_Copy = Callable[[Store, "_ResultReader", Iterable[ResultLine | UnreadableLine]], None]


class _NotOurs(Exception):
    """Every line of the results belongs to another attempt, ``owner``: the batch was adopted by mistake."""

    def __init__(self, owner: RequestId | None) -> None:
        super().__init__()
        self.owner = owner


def load_batch(store: Store, provider: BatchProvider, types: Types, batch_id: int) -> Loaded:
    """Write the results of one ended batch, whole or not at all; repeating it changes nothing.

    Raises `ReconciliationError` while the batch is still running, or when it turns out to be another attempt's, and the
    provider's errors when its results cannot be read.
    """
    home.require(store, to_load=True)
    batch = store.batch(batch_id)
    if batch.state != "submitted" or batch.provider_batch_id is None:
        return _figures(store, batch_id)
    state = asyncio.run(provider.get_state(batch.provider_batch_id))
    if state.phase == "running":
        raise ReconciliationError(f"Batch {batch_id} is still {state.status} at {batch.provider}; nothing was loaded.")
    if state.phase == "failed":
        return _close_failed(store, batch, state)
    try:
        try:
            all_read = _load(store, provider, types, batch, state, _copy)
        except RowsRefused:
            all_read = _load(store, provider, types, batch, state, _copy_one_by_one)
    except _NotOurs as other:
        _disown(store, batch, other.owner)
    except Absent as error:
        lately = _ended_lately(store, batch, state)
        if lately and isinstance(error, NotNamed):
            raise Transient(f"Batch {batch_id}: its results are not there yet ({error}).") from error
        if lately:
            raise
        give_results_up(store, batch_id, f"{batch.provider} does not keep its results any more ({error}).", state)
        return _figures(store, batch_id)
    if all_read:
        provider.delete_files(batch.submission, batch.provider_batch_id)
    media.delete_unused(store, provider)
    return _figures(store, batch_id)


def _figures(store: Store, batch_id: int) -> Loaded:
    return Loaded(batch_id, *store.loaded_figures(batch_id))


def _load(store: Store, provider: BatchProvider, types: Types, batch: Batch, state: ProviderState, copy: _Copy) -> bool:
    """Load the results, and say whether nothing is left at the provider that may be billed and was not read."""
    assert batch.provider_batch_id  # the schema says so for a submitted batch
    with store.transaction(), tempfile.TemporaryFile() as vectors, tempfile.TemporaryFile() as beside:
        if store.lock_batch(batch.id).state != "submitted":
            return False  # somebody else was quicker
        batch = store.date_submission(batch.id, state.created_at)
        rates = _rates(store, batch)
        sheet = _ResultReader(batch, store.members(batch.id), types, rates, store.vector_brackets(), vectors, beside)
        sheet.contexts = _contexts(store, sheet)
        _read_all(store, provider, sheet, state, copy)
        if not sheet.seen and not sheet.holds_all_of(state) and _ended_lately(store, batch, state):
            raise Transient(f"Batch {batch.id} is {state.status}, and {batch.provider} does not give its results yet.")
        _close(store, sheet, state)
        return not sheet.may_have_left(state)


def _rates(store: Store, batch: Batch) -> Rates | None:
    """Return the prices of the moment at which the batch was sent."""
    assert batch.submitted_at  # the schema says so for a submitted batch
    overrides, factors = store.price_overrides(), store.price_factors()
    return rates_for(
        batch.provider, batch.model, at=batch.submitted_at, overrides=overrides, factors=factors, mode=batch.mode
    )


def _read_all(store: Store, provider: BatchProvider, sheet: _ResultReader, state: ProviderState, copy: _Copy) -> None:
    """Read the results; twice where they do not add up with what the provider tells: a line may be lost on the way."""
    assert sheet.batch.provider_batch_id
    copy(store, sheet, provider.iter_results(sheet.batch.provider_batch_id))
    sheet.refuse_anothers()
    if sheet.may_have_left(state) or (sheet.unbilled and not sheet.holds_all_of(state)):
        sheet.rejects.clear()
        copy(store, sheet, provider.iter_results(sheet.batch.provider_batch_id, sheet.fingerprints))
        sheet.refuse_anothers()


def _copy(store: Store, sheet: _ResultReader, lines: Iterable[ResultLine | UnreadableLine]) -> None:
    with store.copy_results() as write:
        for line in lines:
            if row := sheet.row(line):
                write(row)


def _copy_one_by_one(store: Store, sheet: _ResultReader, lines: Iterable[ResultLine | UnreadableLine]) -> None:
    """Copy rows one by one where Postgres refused one among many: the refused row costs its own job and no other."""
    if not sheet.done:
        store.forget_embeddings(sheet.batch.id)
    for line in lines:
        start = sheet.vectors.tell()
        row = sheet.row(line)
        if row is None or isinstance(line, UnreadableLine):
            continue
        sheet.vectors.seek(start)
        why = store.why_refused(row, sheet.vectors.readlines())
        if why is not None:
            sheet.vectors.truncate(start)
            sheet.vectors.seek(start)
            row = sheet.unusable(row[0], line, why)
        with store.copy_results() as write:
            write(row)


def _contexts(store: Store, sheet: _ResultReader) -> dict[int, bytes]:
    """Return what the answers of some types are read with, by job id; equal contexts are kept once."""
    asking = [name for name in set(sheet.members.values()) if name in sheet.types and sheet.types[name].keeps_context]
    kept: dict[bytes, bytes] = {}
    contexts = {}
    for job in store.batch_inputs(sheet.batch.id, asking) if asking else ():
        kind = sheet.types[job.job_type]
        with suppress(Exception):  # its type has become stricter since it was sent, or fails: it is read without
            context = kind.context(kind.read_input(job.input))
            contexts[job.id] = kept.setdefault(context, context)
    return contexts


def load_answer(store: Store, types: Types, batch: Batch, line: ResultLine | UnreadableLine) -> Loaded:
    """Write the answer of a realtime attempt, whole or not at all. Raises `ReconciliationError` if it was closed before."""
    try:
        _load_answer(store, types, batch, line, _copy)
    except RowsRefused:
        _load_answer(store, types, batch, line, _copy_one_by_one)
    return _figures(store, batch.id)


def _load_answer(store: Store, types: Types, batch: Batch, line: ResultLine | UnreadableLine, copy: _Copy) -> None:
    answer = f"realtime-{batch.tag}"
    with store.transaction(), tempfile.TemporaryFile() as vectors, tempfile.TemporaryFile() as beside:
        sent = store.record_submission(batch.id, answer)
        if sent is None or sent.submitted_at is None:
            raise ReconciliationError(f"Attempt {batch.id} was closed before its answer came, which is paid for.")
        rates = _rates(store, sent)
        sheet = _ResultReader(sent, store.members(batch.id), types, rates, store.vector_brackets(), vectors, beside)
        sheet.contexts = _contexts(store, sheet)
        copy(store, sheet, [line])
        _close(store, sheet, ProviderState(answer, "ended", "answered"))


def _close(store: Store, sheet: _ResultReader, state: ProviderState) -> None:
    batch_id, kept = sheet.batch.id, not sheet.holds_all_of(state)
    keeps_unbilled = sheet.contradicts(state) or (kept and bool(sheet.rejects))
    again: dict[int, int | None] = {**sheet.again, **({} if keeps_unbilled else sheet.again_unbilled)}
    missing = sheet.missing
    with store.copy_results() as write:
        for row in sheet.unbilled.values():
            write(_kept(row) if keeps_unbilled else row)
    if missing:
        store.insert_missing(batch_id, missing, billed=kept, error=_MISSING[kept])
    if kept and (missing or sheet.rejects or (keeps_unbilled and sheet.unbilled)):
        store.raise_alert("missing_results", str(batch_id), _does_not_add_up(sheet, state))
    elif missing:
        again |= {job_id: sheet.attempts(job_id) for job_id in missing}
    elif state.tokens and sheet.tokens and state.tokens != tuple(sheet.tokens):
        store.raise_alert("usage_differs", str(batch_id), _other_usage(sheet, state.tokens))
    if sheet.account_trouble is not None:
        message = (
            f"{sheet.batch.provider} answered requests of batch {batch_id} with trouble of the account:"
            f" {sheet.account_trouble}. Their jobs are queued again and go with the next run: mend the account before."
        )
        store.raise_alert("account_refused", sheet.batch.account_fingerprint or sheet.batch.provider, message)
    elif sheet.billed:
        store.resolve_alert("batch_refused", sheet.batch.provider)
    if sheet.rejects:
        store.insert_rejects(batch_id, sheet.rejects)
    if sheet.batch.duplicate_of is None:
        sheet.beside.seek(0)
        store.copy_answers(sheet.beside)
        sheet.vectors.seek(0)
        store.copy_embeddings(batch_id, sheet.vectors)
    source = sheet.rates.describe() if sheet.rates else None
    store.close_loaded(
        batch_id, again, status=state.status, ended_at=state.ended_at, price_source=source, error=state.error
    )


_MISSING = {
    True: "No line came back, though the provider may have billed it; it is not sent again by itself.",
    False: "No line came back, and the provider did not bill it.",
}


def _kept(row: _Row) -> _Row:
    """Return the row of a line that says it was not billed, marked as billed: the provider may have billed it all the same."""
    error = f"{row[-1]}. The provider may have billed it all the same: it is not sent again by itself."
    return (*row[:3], True, *row[4:-1], error)


def _does_not_add_up(sheet: _ResultReader, state: ProviderState) -> str:
    counts = state.counts
    told = f"{sheet.batch.provider} counts {counts.succeeded} successes" if counts else "the provider gives no counts"
    message = (
        f"Batch {sheet.batch.id}: {told}, and {sheet.billed} were read; {len(sheet.missing)} of {len(sheet.members)} results"
        f" missing, {len(sheet.rejects)} lines in quarantine. What may have been billed is not sent again by itself."
    )
    if sheet.batch.mode == "realtime":
        return message
    return (
        f"{message} Nothing of it is deleted at the provider: `nightbatch load {sheet.batch.id}` reads it once more,"
        f" `nightbatch retry {sheet.batch.id}` asks again, at its price."
    )


def _other_usage(sheet: _ResultReader, told: tuple[int, int]) -> str:
    read = sheet.tokens or [0, 0]
    return (
        f"Batch {sheet.batch.id}: {sheet.batch.provider} tells of {told[0]:,} input and {told[1]:,} output tokens for all of"
        f" it, and its lines of {read[0]:,} and {read[1]:,}. Costs are reckoned from the lines; compare them with the bill."
    )


def load_again(store: Store, provider: BatchProvider, types: Types, batch_id: int) -> str:
    """Read the results of a loaded batch once more, fill in what was missing, and return a sentence about it.

    What was read before stays as it is, and nothing is sent again. Raises `NightbatchError` for a batch that was not loaded, and
    the provider's errors when the results cannot be read.
    """
    batch = store.batch(batch_id)
    if (
        batch.state != "loaded"
        or batch.provider_batch_id is None
        or batch.mode != "batch"
        or batch.duplicate_of is not None
    ):
        raise NightbatchError(
            f"Batch {batch_id} is {batch.state}: only a batch whose results were loaded is read once more."
        )
    state = asyncio.run(provider.get_state(batch.provider_batch_id))
    try:
        filled, left, all_read = _fill_in(store, provider, types, batch, state, _copy)
    except RowsRefused:
        filled, left, all_read = _fill_in(store, provider, types, batch, state, _copy_one_by_one)
    if all_read:
        for kind in ("missing_results", "lost_results"):
            store.resolve_alert(kind, str(batch_id))
        provider.delete_files(batch.submission, batch.provider_batch_id)
    return f"Batch {batch_id} was read once more: {filled} of {filled + left} missing results came, {left} are still missing."


def _fill_in(
    store: Store, provider: BatchProvider, types: Types, batch: Batch, state: ProviderState, copy: _Copy
) -> tuple[int, int, bool]:
    """Return how many missing results came, how many are still missing, and whether all that may be billed was read."""
    with store.transaction(), tempfile.TemporaryFile() as vectors, tempfile.TemporaryFile() as beside:
        store.lock_batch(batch.id)
        forgotten = store.forget_missing(batch.id)
        gone = {job_id: moment for job_id, moment, _ in forgotten}
        rates = _rates(store, batch)
        sheet = _ResultReader(batch, store.members(batch.id), types, rates, store.vector_brackets(), vectors, beside)
        sheet.contexts = _contexts(store, sheet)
        sheet.done = sheet.members.keys() - gone.keys()
        sheet.answered_later = {job_id for job_id, _, later in forgotten if later}
        sheet.seen, sheet.tokens, sheet.billed = dict.fromkeys(sheet.done, 0), None, store.billed_results(batch.id)
        _read_all(store, provider, sheet, state, copy)
        missing, kept = sheet.missing, not sheet.holds_all_of(state)
        with store.copy_results() as write:
            for row in sheet.unbilled.values():
                write(_kept(row) if kept else row)
        if missing:
            store.insert_missing(batch.id, missing, billed=kept, error=_MISSING[kept])
        store.keep_moments(batch.id, gone)
        store.insert_new_rejects(batch.id, sheet.rejects)
        sheet.beside.seek(0)
        store.copy_answers(sheet.beside)
        sheet.vectors.seek(0)
        store.copy_embeddings(batch.id, sheet.vectors, instead=False)
        store.sum_again(batch.id, sheet.rates.describe() if sheet.rates else None)
        return len(gone) - len(missing), len(missing), not sheet.may_have_left(state)


_GONE_AFTER = timedelta(hours=24)
"""A 404 for results is believed once the batch has been over for this long; before that it may be a provider's delay."""


def _ended_lately(store: Store, batch: Batch, state: ProviderState) -> bool:
    """Say whether results that are not there may still come: Gemini names them later than the state says, and counts lag."""
    over_since = state.ended_at or batch.submitted_at
    return over_since is not None and store.now() - over_since <= _GONE_AFTER


def give_results_up(store: Store, batch_id: int, reason: str, state: ProviderState | None = None) -> None:
    """Close a batch whose results cannot be had any more: its jobs count as paid for and are never sent again by themselves."""
    with store.transaction():
        batch = store.lock_batch(batch_id)
        if batch.state != "submitted":
            return
        missing = list(store.members(batch_id))
        store.insert_missing(batch_id, missing, billed=True, error=reason)
        status, ended_at = (state.status, state.ended_at) if state else ("given up", None)
        store.close_loaded(batch_id, {}, status=status, ended_at=ended_at, price_source=None, error=reason)
        message = (
            f"Batch {batch_id}: the results of {len(missing)} jobs are lost. {reason} They may have been billed, so they"
            " are not sent again by themselves; insert them as new jobs if you want them paid for again."
        )
        store.raise_alert("lost_results", str(batch_id), message)


def _close_failed(store: Store, batch: Batch, state: ProviderState) -> Loaded:
    """Close a batch that the provider took and did not run: the jobs that it names are rejected, the others are queued again.

    A failure that names no request, and no fault of content that all of them have, ends no job: the account or the provider is
    in trouble, and a person is told.
    """
    reason = state.error or f"{batch.provider} failed the batch without a reason"
    with store.transaction():
        if store.lock_batch(batch.id).state != "submitted":
            return _figures(store, batch.id)
        lines = sorted(store.members(batch.id))  # the input file was rendered in this order
        at_fault = {lines[line - 1]: why for line, why in state.rejected_requests.items() if 0 < line <= len(lines)}
        full = capacity.learn(store, batch, reason) or "RESOURCE_EXHAUSTED" in reason
        if state.fault == "requests":
            at_fault = dict.fromkeys(lines, reason)  # a batch has one model, so all of it is at fault
        store.close_failed(batch.id, state.status, reason)
        for job_id, why in at_fault.items():
            store.dismiss_members(batch.id, f"{batch.provider} refused the request: {why}", [job_id])
        store.free_members(batch.id, counts_as_attempt=not full and state.fault == "provider")
        if not at_fault and not full:
            _tell_of_failure(store, batch, state, reason)
    return Loaded(batch.id, 0, 0, 0, 0, 0)


def _tell_of_failure(store: Store, batch: Batch, state: ProviderState, reason: str) -> None:
    """Raise one alert for an account or a provider in trouble, however many of its batches fail."""
    account = batch.account_fingerprint or batch.provider
    if state.fault == "account":
        message = (
            f"{batch.provider} took batch {batch.id} and ran none of it, for the sake of the account: {reason}. Its jobs are"
            " queued again and go with the next run; mend the account, or they come back."
        )
        store.raise_alert("account_refused", account, message)
        return
    message = (
        f"{batch.provider} took batch {batch.id} and ran none of it: {reason}. It names no request, so its jobs are queued again"
        " and go with the next run. Nothing was billed. Look at the provider's status page if it goes on."
    )
    store.raise_alert("batch_refused", batch.provider, message)


def _disown(store: Store, batch: Batch, owner: RequestId | None) -> None:
    """Take a batch that was adopted by time and count alone, and is another's, from its attempt, which is in doubt again.

    Raises `ReconciliationError` always.
    """
    ours = owner if owner and _is_ours(store, owner) else None
    whose = "another attempt" if ours else "another installation that uses this account"
    message = f"Batch {batch.id}: {batch.provider_batch_id} holds the results of {whose}; it is in doubt again."
    store.disown(batch, ours.batch_id if ours else None, message)
    store.raise_alert("held", str(batch.id), message)
    raise ReconciliationError(message)


def _is_ours(store: Store, request: RequestId) -> bool:
    """Say whether the attempt that a request names is this database's, and not another's of the same number."""
    try:
        return store.batch(request.batch_id).nonce == request.nonce
    except LookupError:
        return False


@dataclass(slots=True)
class _ResultReader:
    """Reads the lines of one batch, and holds what was seen and what becomes of it."""

    batch: Batch
    members: dict[int, str]
    types: Types
    rates: Rates | None
    brackets: tuple[bytes, bytes]
    vectors: IO[bytes]
    beside: IO[bytes]
    """What of the answers their outputs do not hold."""
    contexts: dict[int, bytes] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)
    again: dict[int, int] = field(default_factory=dict)
    rejects: list[tuple[str, bytes]] = field(default_factory=list)
    billed: int = 0
    foreign: int = 0
    done: Set[int] = frozenset()
    """Jobs that an earlier load read: their lines are passed over."""
    answered_later: Set[int] = frozenset()
    """Jobs whose vectors are those of a later attempt."""
    unbilled: dict[int, _Row] = field(default_factory=dict)
    """Rows of lines that cost nothing, written last: another line of the same job may have been billed."""
    again_unbilled: dict[int, int | None] = field(default_factory=dict)
    account_trouble: str | None = None
    lines: dict[int, bytes] = field(default_factory=dict)
    """Of those in ``unbilled``, as they came."""
    counted: set[int] = field(default_factory=set)
    """Jobs whose line the provider counts among its successes, though it cost nothing."""
    tokens: list[int] | None = field(default_factory=lambda: [0, 0])
    """Input and output of what was billed; None when a line does not tell."""
    owner: RequestId | None = None
    mine: tuple[int, str | None] = field(init=False)
    """What stands behind the job in the ids of this attempt's requests."""

    def __post_init__(self) -> None:
        self.mine = (self.batch.sent_as or self.batch.duplicate_of or self.batch.id, self.batch.nonce)

    @property
    def missing(self) -> list[int]:
        """Return the jobs without a line; without looking at each job when there are none, as nearly always."""
        return [job for job in self.members if job not in self.seen] if len(self.seen) < len(self.members) else []

    @property
    def fingerprints(self) -> set[int]:
        """Return the fingerprints of the lines that need not be read again."""
        return set(self.seen.values())

    def holds_all_of(self, state: ProviderState) -> bool:
        """Return whether the provider tells of all requests, and counts no more successes than were read.

        What the provider does not tell proves nothing.
        """
        total = state.counts.total if state.counts else None
        told = total == len(self.members) or (total == 0 and not self.seen)  # ended before it was looked at
        return told and not self.contradicts(state)

    def contradicts(self, state: ProviderState) -> bool:
        """Return whether the provider says that more was done, or used, than was read."""
        read = self.billed + len(self.counted & self.unbilled.keys())
        if state.counts is not None and state.counts.succeeded > read:
            return True
        if state.tokens is None or self.tokens is None:
            return False
        return any(told > read for told, read in zip(state.tokens, self.tokens, strict=True))

    def may_have_left(self, state: ProviderState) -> bool:
        """Return whether something may be billed that was not read."""
        return self.contradicts(state) or (not self.holds_all_of(state) and bool(self.missing or self.rejects))

    def refuse_anothers(self) -> None:
        """Raise `_NotOurs` when there were lines, and none of them for this batch."""
        if self.foreign and not self.seen and not self.done:
            raise _NotOurs(self.owner)

    def row(self, line: ResultLine | UnreadableLine) -> _Row | None:
        """Return the row of ``result`` for a billed line, or None for a line that goes to quarantine or was passed over.

        A line that cost nothing also gives None: its row is kept in ``unbilled``.
        """
        if isinstance(line, UnreadableLine):
            self.rejects.append((line.reason, line.raw))
            return None
        ids = parse_custom_id(line.custom_id)
        if ids is None or ids.job_id not in self.members or ids[1:] != self.mine:
            self.foreign += 1
            self.owner = self.owner or ids
            self.rejects.append(("no job of this batch has its custom_id", line.raw))
            return None
        job_id, fingerprint = ids.job_id, hash(line.raw)
        if job_id in self.done:
            return None
        if job_id in self.seen and not (line.billed and job_id in self.unbilled):
            if self.seen[job_id] != fingerprint:
                self.rejects.append((f"a second, different line for job {job_id}", line.raw))
            return None
        self.seen[job_id] = fingerprint
        if line.billed:
            self._count(job_id, line)
            return self._safely(job_id, line)
        self.unbilled[job_id], self.lines[job_id] = self._safely(job_id, line), line.raw
        if line.counted:
            self.counted.add(job_id)
        if line.account:
            self.account_trouble = self.account_trouble or line.error or ""
            self.again_unbilled[job_id] = None  # it used none of the job's attempts up
        return None

    def _count(self, job_id: int, line: ResultLine) -> None:
        """Count a billed line; a line of the same job that cost nothing goes to quarantine."""
        self.billed += 1
        if line.usage is None:
            self.tokens = None
        elif self.tokens is not None:
            self.tokens[0] += line.usage.input_tokens
            self.tokens[1] += line.usage.output_tokens
        if job_id in self.unbilled:
            del self.unbilled[job_id]
            self.again_unbilled.pop(job_id, None)
            self.rejects.append((f"a second, different line for job {job_id}", self.lines.pop(job_id)))

    def _safely(self, job_id: int, line: ResultLine) -> _Row:
        try:
            return self._read(job_id, self.types.get(self.members[job_id]), line)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  whatever an answer does to us, the others are loaded
            return self.unusable(job_id, line, f"reading it failed with {type(error).__name__}")

    def unusable(self, job_id: int, line: ResultLine, reason: str) -> _Row:
        """Return the row of an answer that cannot be kept as it is: the line itself goes to quarantine."""
        for again in (self.again, self.again_unbilled):
            again.pop(job_id, None)
        self.rejects.append((f"job {job_id}: {reason}", line.raw))
        error = f"Its answer could not be kept: {reason}. The line is in quarantine."
        outcome: Outcome = "failed" if self.batch.duplicate_of is None else "duplicate"
        return (job_id, self.batch.id, outcome, line.billed, None, None, *self._money(line), error)

    def _read(self, job_id: int, kind: JobType | None, line: ResultLine) -> _Row:
        if self.batch.duplicate_of is not None:
            error = f"The same request as in batch {self.batch.duplicate_of}, which is the one that counts."
            return self._row(job_id, line, "duplicate", None, error)
        outcome: Outcome = line.outcome
        output: bytes | None = None
        reason, whole = line.error, False
        if kind is None and outcome == "succeeded":
            outcome, reason = "failed", f"The job type {self.members[job_id]} is gone; the raw answer is kept."
        elif kind is not None and outcome == "succeeded" and line.answer is not None:
            try:
                read = kind.read_answer(line.answer, self.contexts.get(job_id, b""))
            except OutputInvalid as misfit:
                outcome, reason = "failed", str(misfit)
                self._keep_unfitting(job_id, line.answer)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  a team's own type may fail in any way: nobody else's answers wait
                outcome, reason = "failed", f"The job type {kind.name} failed with {type(error).__name__} on it."
            else:
                output, whole = read.json, read.whole
                if read.vectors and job_id not in self.answered_later:
                    self._keep_vectors(job_id, read.vectors)
        if kind is not None and outcome != "succeeded" and (line.billed or line.retryable):
            again = self.again if line.billed else self.again_unbilled
            again[job_id] = kind.paid_attempts if line.billed else kind.attempts
        if line.answer is not None and line.answer.rest is not None and not whole:
            self._keep_beside(job_id, line.answer.rest)
        return self._row(job_id, line, outcome, output, reason)

    def _row(self, job_id: int, line: ResultLine, outcome: Outcome, output: bytes | None, error: str | None) -> _Row:
        answer = line.answer
        if output is None and answer is not None:
            output = _raw_text(answer)
        return (
            job_id, self.batch.id, outcome, line.billed, output, _storable(answer.finish_reason if answer else None),
            *self._money(line), _storable(error),
        )  # fmt: skip

    def attempts(self, job_id: int) -> int:
        """Return how often a job may be sent while it is not paid for; once, when its type is gone."""
        kind = self.types.get(self.members[job_id])
        return kind.attempts if kind else 1

    def _money(self, line: ResultLine) -> _Row:
        usage = line.usage
        if not line.billed or usage is None:
            return (None,) * 7
        tokens = (usage.input_tokens, usage.cached_tokens, usage.output_tokens)
        cost = self.rates.cost(usage) if self.rates else None
        if self.rates is None or cost is None:
            return (*tokens, None, None, None, _units(usage))
        # A realtime call would have been made, and paid for, once.
        realtime = cost.realtime_usd if self.batch.duplicate_of is None else Decimal(0)
        paid = cost.batch_usd if self.batch.mode == "batch" else cost.realtime_usd
        source = self.rates.source_of(usage) if usage.terms else self.rates.source
        return (*tokens, realtime, paid, source, _units(usage))

    def _keep_beside(self, job_id: int, rest: bytes) -> None:
        text = rest.replace(b"\\", rb"\\")  # JSON from the adapter holds no other byte that COPY would take otherwise
        self.beside.write(b"%d\t%d\t%b\n" % (job_id, self.batch.id, text))

    def _keep_unfitting(self, job_id: int, answer: Answer) -> None:
        """Keep vectors that do not fit their type: they are no embeddings, but they are paid for."""
        if answer.embeddings and answer.rest is None:
            self._keep_beside(job_id, orjson.dumps({"embeddings": answer.embeddings}))

    def _keep_vectors(self, job_id: int, vectors: tuple[tuple[float, ...], ...]) -> None:
        left, right = self.brackets
        for position, vector in enumerate(vectors):
            numbers = orjson.dumps(vector)[1:-1]
            self.vectors.write(b"%d\t%d\t%d\t%b%b%b\n" % (job_id, position, self.batch.id, left, numbers, right))


def _units(usage: Usage) -> bytes | None:
    """Return what was used beside the three plain units, and on which terms, as JSON; None if there is nothing to tell."""
    if not usage.units and not usage.terms:
        return None
    told = {name: count for name, count in usage.units if count} | ({"terms": usage.terms} if usage.terms else {})
    return orjson.dumps(told) if told else None


def _storable(text: str | None) -> str | None:
    """Return the text without the one character that Postgres does not keep: a paid batch is not lost for it."""
    return text.replace("\0", "") if text else text


def _raw_text(answer: Answer) -> bytes | None:
    """Return what an answer said although it cannot be used, as a JSON string; None if it has no text."""
    return orjson.dumps(answer.text) if answer.text else None

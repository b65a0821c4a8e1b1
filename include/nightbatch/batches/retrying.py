"""Ask again for what a batch did not answer usably: a person's decision, since some of it may be paid for again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from nightbatch.batches import decisions
from nightbatch.core.errors import NightbatchError
from nightbatch.postgres import lifecycle
from nightbatch.postgres.lifecycle import Ended, Unanswered
from nightbatch.postgres.store import Store


@dataclass(frozen=True, slots=True)
class Retry:
    """What asking again would send with the next run: jobs of the batch ``batch_id``, or, where it is None, that were chosen.

    ``rejected`` of the ``jobs`` were never sent, or were refused, and cost nothing so far. ``paid_again`` of them were billed the
    first time; ``price`` is what they cost then, in USD, and so about what they would cost again; None when that is not known.
    """

    batch_id: int | None
    jobs: int
    rejected: int
    paid_again: int
    price: Decimal | None

    def __str__(self) -> str:
        """Describe the retry for the person who decides."""
        if not self.jobs and self.batch_id is None:
            return "No such job ended without a usable answer, or it waits, is under way, or was erased."
        if not self.jobs:
            return f"Batch {self.batch_id} has no job to send again: those without a usable answer wait, or were sent since."
        source = "" if self.batch_id is None else f" of batch {self.batch_id}"
        sent = f"{self.jobs:,} jobs{source} go with the next run"
        if not self.paid_again:
            rejected = f", {self.rejected:,} of them rejected" if self.batch_id is None else ""
            return f"{sent}{rejected}. None of them was billed so far."
        cost = "an unknown price" if self.price is None else f"about {self.price:.6f} USD"
        return f"{sent}; {self.paid_again:,} of them were billed before and are paid for again, at {cost}."


def preview(store: Store, batch_id: int) -> Retry:
    """Return what `retry` would do now; changes nothing. Raises `NightbatchError` for a batch that was not loaded."""
    return _sum(_unanswered(store, batch_id), batch_id)


def _sum(found: Sequence[Unanswered | Ended], batch_id: int | None = None) -> Retry:
    paid = [row.batch_cost_usd for row in found if row.billed]
    known = [cost for cost in paid if cost is not None]
    rejected = sum(isinstance(row, Ended) and row.batch_id is None for row in found)
    price = sum(known, Decimal(0)) if len(known) == len(paid) else None
    return Retry(batch_id, len(found), rejected, len(paid), price)


def retry(store: Store, batch_id: int, *, by: str, reason: str) -> str:
    """Put the jobs of a loaded batch that have no usable answer back into the queue, once; return a sentence about it.

    The decision is recorded with who made it and why. Jobs that wait, that are under way, or whose input was erased are left
    alone. Raises `NightbatchError` for a batch that was not loaded, or when there is nothing to send again.
    """
    with store.transaction():
        _unanswered(store, batch_id)  # for its words, if there is no such batch
        store.lock_batch(batch_id)
        found = _unanswered(store, batch_id)
        planned = _sum(found, batch_id)
        if not planned.jobs:
            raise NightbatchError(str(planned))
        store.record_decision(batch_id, "retry", by, reason)
        lifecycle.reopen(store, batch_id, [row.job_id for row in found])
    return str(planned)


def _unanswered(store: Store, batch_id: int) -> list[Unanswered]:
    batch = decisions.find(store, batch_id)
    if batch.state != "loaded" or batch.duplicate_of is not None:
        raise NightbatchError(
            f"Batch {batch_id} is {batch.state}: only the jobs of a batch whose results are loaded can be sent again."
        )
    return lifecycle.unanswered(store, batch_id)


@dataclass(frozen=True, slots=True)
class Choice:
    """The ended jobs that are meant: by their ids, the run they ended in, and words of the reason; all that are given hold."""

    job_ids: tuple[int, ...] = ()
    run_id: str | None = None
    words: str | None = None

    def __str__(self) -> str:
        """Describe the choice in words; a list of many ids is cut."""
        shown = ", ".join(map(str, self.job_ids[:50])) + (", ..." if len(self.job_ids) > 50 else "")
        parts = (f"jobs {shown}" * bool(self.job_ids), f"run {self.run_id}" * bool(self.run_id), self._because())
        return "; ".join(filter(None, parts))[:2000]

    def _because(self) -> str:
        return f"ended with {self.words!r}" if self.words else ""


def preview_jobs(store: Store, choice: Choice) -> Retry:
    """Return what `retry_jobs` would do now; changes nothing. Raises `NightbatchError` when nothing is chosen."""
    return _sum(_chosen(store, choice))


def _chosen(store: Store, choice: Choice) -> list[Ended]:
    if not (choice.job_ids or choice.run_id or choice.words):
        raise NightbatchError("Say which jobs: by their ids, by a run, or by words of the reason that they ended with.")
    return lifecycle.ended(store, choice.job_ids, choice.run_id, choice.words)


def retry_jobs(store: Store, choice: Choice, *, by: str, reason: str) -> str:
    """Put jobs that ended without a usable answer back into the queue, rejected ones too; return a sentence about it.

    The decision is recorded, and so is what stood against each job. Raises `NightbatchError` when there is none.
    """
    with lifecycle.between_plans(store):
        found = _chosen(store, choice)
        planned = _sum(found)
        if not planned.jobs:
            raise NightbatchError(str(planned))
        lifecycle.reopen_ended(store, found, by=by, reason=reason, asked=str(choice))
    return str(planned)

"""Asking again for what a batch did not answer usably: a person's decision, since some of it may be paid for again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from nightbatch import decisions
from nightbatch.errors import NightbatchError
from nightbatch.postgres import lifecycle
from nightbatch.postgres.lifecycle import Unanswered
from nightbatch.postgres.store import Store


@dataclass(frozen=True, slots=True)
class Retry:
    """What a retry of a batch would send again with the next run.

    ``paid_again`` of the ``jobs`` were billed the first time; ``price`` is what they cost then, in USD, and so about what they
    would cost again; None when that is not known.
    """

    batch_id: int
    jobs: int
    paid_again: int
    price: Decimal | None

    def __str__(self) -> str:
        """In words, for whoever decides."""
        if not self.jobs:
            return f"Batch {self.batch_id} has no job to send again: those without a usable answer wait, or were sent since."
        if not self.paid_again:
            return f"{self.jobs:,} jobs of batch {self.batch_id} go with the next run. None of them was billed so far."
        cost = "an unknown price" if self.price is None else f"about {self.price:.6f} USD"
        return (
            f"{self.jobs:,} jobs of batch {self.batch_id} go with the next run; {self.paid_again:,} of them were billed"
            f" before and are paid for again, at {cost}."
        )


def preview(store: Store, batch_id: int) -> Retry:
    """What `retry` would do now; changes nothing. Raises `NightbatchError` for a batch that was not loaded."""
    return _sum(batch_id, _unanswered(store, batch_id))


def _sum(batch_id: int, found: Sequence[Unanswered]) -> Retry:
    paid = [row for row in found if row.billed]
    known = all(row.batch_cost_usd is not None for row in paid)
    cost = sum((row.batch_cost_usd or Decimal(0) for row in paid), Decimal(0)) if known else None
    return Retry(batch_id, len(found), len(paid), cost)


def retry(store: Store, batch_id: int, *, by: str, reason: str) -> str:
    """Put the jobs of a loaded batch that have no usable answer back into the queue, once; a sentence about what was done.

    The decision is recorded with who made it and why. Jobs that wait, that are under way, or whose input was erased are left
    alone. Raises `NightbatchError` for a batch that was not loaded, or when there is nothing to send again.
    """
    with store.transaction():
        _unanswered(store, batch_id)  # for its words, if there is no such batch
        store.lock_batch(batch_id)
        found = _unanswered(store, batch_id)
        planned = _sum(batch_id, found)
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

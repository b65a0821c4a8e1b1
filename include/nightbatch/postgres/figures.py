"""The figures of a run, and what waits, read from the reporting schema."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from nightbatch.postgres.store import Store


@dataclass(frozen=True, slots=True)
class Run:
    """A row of ``nightbatch_report.run_summary``, or several together: as far as they have come; money in USD.

    ``jobs`` are requests; they and ``succeeded`` hold the ``from_cache`` jobs too, which an earlier result answered.
    """

    run_id: str
    planned_at: datetime
    batches: int
    open_batches: int
    jobs: int
    succeeded: int
    failed: int
    requeued: int
    rejected: int
    from_cache: int
    unpriced: int
    paid_again: int
    realtime_cost_usd: Decimal
    batch_cost_usd: Decimal
    wasted_cost_usd: Decimal
    savings_usd: Decimal


@dataclass(frozen=True, slots=True)
class Part:
    """One provider's jobs of one type."""

    provider: str
    job_type: str
    sent: int
    succeeded: int
    failed: int
    requeued: int
    rejected: int
    unpriced: int
    realtime_cost_usd: Decimal
    batch_cost_usd: Decimal
    wasted_cost_usd: Decimal
    savings_usd: Decimal


@dataclass(frozen=True, slots=True)
class Reason:
    """Why jobs did not succeed; ``outcome`` is that of their results, or ``rejected``."""

    provider: str
    job_type: str
    outcome: str
    reason: str
    jobs: int


@dataclass(frozen=True, slots=True)
class Price:
    """What a model was priced with; ``source`` is None when its price is not known."""

    provider: str
    model: str
    source: str | None


def totals(store: Store, *run_ids: str) -> Run | None:
    """Return these runs together; None for runs that were never planned."""
    row = store.run("run_totals", {"run_ids": list(run_ids)}, file="figures").fetchone()
    return Run(*row) if row else None


def parts(store: Store, *run_ids: str) -> list[Part]:
    """Return the figures of these runs by provider and job type."""
    return [Part(*row) for row in store.run("run_breakdown", {"run_ids": list(run_ids)}, file="figures")]


def reasons(store: Store, *run_ids: str) -> list[Reason]:
    """Return why jobs of these runs did not succeed, the most frequent reason first, 30 at most."""
    return [Reason(*row) for row in store.run("run_reasons", {"run_ids": list(run_ids)}, file="figures")]


def prices(store: Store, *run_ids: str) -> list[Price]:
    """Return what every model of these runs was priced with that was loaded."""
    return [Price(*row) for row in store.run("run_prices", {"run_ids": list(run_ids)}, file="figures")]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Queued jobs of one kind."""

    provider: str
    job_type: str
    priority: int
    jobs: int
    oldest: datetime


def queue(store: Store) -> list[Waiting]:
    """Return what waits, the largest piles first."""
    return [Waiting(*row) for row in store.run("queue", file="figures")]

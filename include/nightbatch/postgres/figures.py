"""The figures of a run, read from the reporting schema."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from nightbatch.postgres.store import Store


@dataclass(frozen=True, slots=True)
class Totals:
    """A whole run, or several together: requests as jobs, money in USD. ``run_id`` names them all.

    ``sent`` and ``succeeded`` hold the ``from_cache`` jobs too, which an earlier result answered.
    """

    run_id: str
    planned_at: datetime
    batches: int
    open_batches: int
    sent: int
    succeeded: int
    failed: int
    requeued: int
    rejected: int
    unpriced: int
    paid_again: int
    realtime_cost_usd: Decimal
    batch_cost_usd: Decimal
    wasted_cost_usd: Decimal
    savings_usd: Decimal
    from_cache: int


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


def latest_run(store: Store) -> str | None:
    """The run that was planned last."""
    row = store.run("latest_run", file="reporting").fetchone()
    return str(row[0]) if row else None


def totals(store: Store, *run_ids: str) -> Totals | None:
    """None for runs that were never planned."""
    row = store.run("run_totals", {"run_ids": list(run_ids)}, file="reporting").fetchone()
    return Totals(*row) if row else None


def parts(store: Store, *run_ids: str) -> list[Part]:
    """By provider and job type."""
    return [Part(*row) for row in store.run("run_breakdown", {"run_ids": list(run_ids)}, file="reporting")]


def reasons(store: Store, *run_ids: str) -> list[Reason]:
    """The most frequent first, 30 at most."""
    return [Reason(*row) for row in store.run("run_reasons", {"run_ids": list(run_ids)}, file="reporting")]


def prices(store: Store, *run_ids: str) -> list[Price]:
    """Of every model that was loaded."""
    return [Price(*row) for row in store.run("run_prices", {"run_ids": list(run_ids)}, file="reporting")]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Queued jobs of one kind."""

    provider: str
    job_type: str
    priority: int
    jobs: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A row of ``nightbatch.result`` with what it belongs to."""

    job_id: int
    batch_id: int
    run_id: str
    job_type: str
    provider: str
    model: str
    outcome: str
    output: Any
    finish_reason: str | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    units: Any
    realtime_cost_usd: Decimal | None
    batch_cost_usd: Decimal | None
    price_source: str | None
    error: str | None
    finished_at: datetime


def queue(store: Store) -> list[Waiting]:
    """What waits, the largest piles first."""
    return [Waiting(*row) for row in store.run("queue", file="reporting")]


def results(store: Store, *, run_id: str | None, job_type: str | None, limit: int) -> list[ResultRow]:
    """The newest first."""
    values = {"run_id": run_id, "job_type": job_type, "limit": limit}
    return [ResultRow(*row) for row in store.run("results", values, file="reporting")]


def councils(store: Store) -> tuple[int, Decimal | None, str | None]:
    """How many verdicts are in, the widest spread in points, and the member that dissented in it."""
    count, spread, dissenter = store.run("councils", file="reporting").fetchone()  # type: ignore[misc]
    return count, spread, dissenter


def reprocessed(store: Store) -> tuple[int, Decimal, Decimal]:
    """How many answers stand beside a new one, and what the old and the new ones cost, in USD."""
    count, old, new = store.run("reprocessed", file="reporting").fetchone()  # type: ignore[misc]
    return count, old, new


def beyond_text(store: Store) -> tuple[int, int, int, int]:
    """Return calls of functions, tokens written into caches, read from them, and of thoughts, of the whole database."""
    calls, written, cached, thoughts = store.run("beyond_text", file="reporting").fetchone()  # type: ignore[misc]
    return calls, written, cached, thoughts


def vectors(store: Store) -> int:
    """Of all embedding jobs."""
    return int(store.run("vectors", file="reporting").fetchone()[0])  # type: ignore[index]

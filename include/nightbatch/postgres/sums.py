"""Figures over ranges of days; the sums are added up from the roll-ups, never from the results themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from nightbatch.core.days import span
from nightbatch.postgres.figures import Price, Reason, Run
from nightbatch.postgres.store import Store


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over requests; money in USD.

    ``jobs`` were sent and accounted for, or answered ``from_cache`` at no cost; ``requeued`` of them go again, so they count
    once more with their next attempt. ``realtime_jobs`` went through the realtime API at full price (the fallback).
    ``unpriced`` were billed, but their price or usage is not known: they are in no sum of money.
    """

    jobs: int
    succeeded: int
    failed: int
    requeued: int
    from_cache: int
    realtime_jobs: int
    paid_again: int
    unpriced: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    realtime_cost_usd: Decimal
    batch_cost_usd: Decimal
    wasted_cost_usd: Decimal
    savings_usd: Decimal

    @property
    def success_rate(self) -> Decimal | None:
        """Return the part of the ended jobs that succeeded: 0 to 1. None when none ended."""
        ended = self.succeeded + self.failed
        return Decimal(self.succeeded) / ended if ended else None

    @property
    def batched_share(self) -> Decimal | None:
        """Return the part of the sent jobs that went by batch: 0 to 1. None when none was sent."""
        sent = self.jobs - self.from_cache
        return Decimal(sent - self.realtime_jobs) / sent if sent else None


@dataclass(frozen=True, slots=True)
class Slice:
    """The figures of one day, provider, model (``provider/model``), job type or label (``name=value``)."""

    key: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Turnaround:
    """How long batches took from their submission to their end, in seconds: percentiles over batches, not jobs."""

    provider: str
    model: str
    batches: int
    p50_seconds: float
    p90_seconds: float
    p99_seconds: float
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """One attempt. ``typical_seconds``: half of the last 30 days' batches of its model ended within this time, or None.

    ``state`` is the ledger's: planned, uploaded, submitting, submitted, held, loaded, refused or abandoned.
    """

    batch_id: int
    run_id: str
    provider: str
    model: str
    state: str
    mode: str
    jobs: int
    succeeded: int
    failed: int
    provider_batch_id: str | None
    planned_at: datetime
    submitted_at: datetime | None
    ended_at: datetime | None
    closed_at: datetime | None
    cancel_wanted_at: datetime | None
    error: str | None
    typical_seconds: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result without its payload; costs in USD, None where it was not ``billed`` or has no known price."""

    job_id: int
    batch_id: int
    job_type: str
    provider: str
    model: str
    outcome: str
    billed: bool
    batch_cost_usd: Decimal | None
    realtime_cost_usd: Decimal | None
    finished_at: datetime


def total(store: Store, since: date, until: date) -> Figures:
    """Return the figures of all that was sent on these days, both inclusive."""
    return Figures(*store.run("total", {"since": since, "until": until}, file="sums").fetchone())  # type: ignore[misc]


def slices(store: Store, since: date, until: date) -> dict[str, list[Slice]]:
    """Return the figures by ``day``, ``provider``, ``model`` and ``job_type``, each in the order of its keys."""
    found: dict[str, list[Slice]] = {"day": [], "provider": [], "model": [], "job_type": []}
    for kind, key, *figures in store.run("slices", {"since": since, "until": until}, file="sums"):
        found[kind].append(Slice(key, Figures(*figures)))
    return found


def by_label(store: Store, since: date, until: date, *, limit: int = 100) -> list[Slice]:
    """Return the figures by label, those that saved the most first, at most ``limit``."""
    values = {"since": since, "until": until, "limit": limit}
    return [Slice(key, Figures(*figures)) for key, *figures in store.run("by_label", values, file="sums")]


def turnaround(store: Store, since: date, until: date) -> list[Turnaround]:
    """Return how long batches took, by provider and model: those that were sent on these days and have ended."""
    return [Turnaround(*row) for row in store.run("turnaround", _moments(since, until), file="sums")]


def rejected(store: Store, since: date, until: date) -> int:
    """Count the jobs that were found unfit to be sent on these days."""
    return int(store.run("rejected", _moments(since, until), file="sums").fetchone()[0])  # type: ignore[index]


def reasons(store: Store, since: date, until: date) -> list[Reason]:
    """Return why jobs did not succeed on these days, the most frequent reason first, 30 at most."""
    return [Reason(*row) for row in store.run("reasons", _moments(since, until), file="sums")]


def prices(store: Store, since: date, until: date) -> list[Price]:
    """Return what every model was priced with that was sent on these days and loaded."""
    return [Price(*row) for row in store.run("prices", _moments(since, until), file="sums")]


def first_day(store: Store) -> date | None:
    """Return the first day of the roll-ups; None while nothing was loaded."""
    found: date | None = store.run("first_day", file="sums").fetchone()[0]  # type: ignore[index]
    return found


def runs(store: Store, limit: int) -> list[Run]:
    """Return the last ``limit`` runs, the latest first."""
    return [Run(*row) for row in store.run("runs", {"limit": limit}, file="sums")]


def progress(store: Store, run_id: str | None) -> list[Progress]:
    """Return the run's own attempts and all that are open, the oldest first."""
    return [Progress(*row) for row in store.run("progress", {"run_id": run_id}, file="sums")]


def outcomes(store: Store, limit: int) -> list[Outcome]:
    """Return the latest results, of the batches that were loaded last."""
    return [Outcome(*row) for row in store.run("outcomes", {"limit": limit}, file="sums")]


def any_job(store: Store) -> bool:
    """Return whether a job was ever inserted."""
    return bool(store.run("any_job", file="sums").fetchone()[0])  # type: ignore[index]


def today(store: Store) -> date:
    """Return the day in UTC, by the database's clock."""
    return store.now().astimezone(UTC).date()


def _moments(since: date, until: date) -> dict[str, datetime]:
    """Return when these days, of UTC, begin and end."""
    begin, end = span(since, until, UTC)
    return {"begin": begin, "end": end}

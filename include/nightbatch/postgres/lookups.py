"""Single jobs, batches and alerts, a page at a time, for people who look something up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from nightbatch.core.ledger import Alert, JobRow
from nightbatch.core.models import JobState, ProviderName
from nightbatch.postgres.store import Store

FIRST = 0
LAST = 2**63 - 1
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Job:
    """A row of ``nightbatch.job`` with its ``nightbatch.job_status``."""

    job_id: int
    job_type: str
    provider: str
    model: str | None
    priority: int
    input: Any
    dedup_key: str | None
    labels: dict[str, str]
    not_before: datetime | None
    deadline: datetime | None
    created_at: datetime
    state: JobState
    attempts: int
    batch_id: int | None
    error: str | None
    updated_at: datetime


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


def job(store: Store, job_id: int) -> Job | None:
    """Return a job with its state, None when there is no such job."""
    row = store.run("job", {"job_id": job_id}, file="lookups").fetchone()
    return Job(*row) if row else None


def job_results(store: Store, job_id: int) -> list[ResultRow]:
    """Return every answer that a job ever had, the newest first."""
    return [ResultRow(*row) for row in store.run("job_results", {"job_id": job_id}, file="lookups")]


@dataclass(frozen=True, slots=True)
class SentRequest:
    """What a request of the attempt ``batch_id`` was rendered from, for the attempt ``rendered_for`` if that is its duplicate.

    ``hash`` is that of its bytes; None for an attempt that was not rendered yet, or by an earlier release.
    """

    batch_id: int
    rendered_for: int
    job: JobRow
    hash: bytes | None


def sent_request(store: Store, job_id: int, batch_id: int | None) -> SentRequest | None:
    """Return what a job's request was rendered from, without a ``batch_id`` in its last attempt.

    None when the job was in no attempt, or not in this one.
    """
    row = store.run("sent_request", {"job_id": job_id, "batch_id": batch_id}, file="lookups").fetchone()
    return SentRequest(row[0], row[1], JobRow(*row[2:6]), row[6]) if row else None


def results(store: Store, *, run_id: str | None, job_type: str | None, limit: int) -> list[ResultRow]:
    """Return results, the newest first."""
    values = {"run_id": run_id, "job_type": job_type, "limit": limit}
    return [ResultRow(*row) for row in store.run("results", values, file="lookups")]


def batch_results(store: Store, batch_id: int, *, after: int = FIRST, limit: int = _PAGE) -> list[ResultRow]:
    """Return the results of the jobs behind ``after``, in the order of the jobs."""
    values = {"batch_id": batch_id, "after": after, "limit": limit}
    return [ResultRow(*row) for row in store.run("batch_results", values, file="lookups")]


def all_batch_results(store: Store, batch_id: int) -> Iterator[ResultRow]:
    """Yield all results of an attempt, holding a page of a thousand at a time."""
    after = FIRST
    while page := batch_results(store, batch_id, after=after):
        yield from page
        after = page[-1].job_id


def job_types_of(store: Store, batch_id: int) -> dict[str, int]:
    """Return how many jobs of each type an attempt has."""
    return dict(store.run("job_types_of", {"batch_id": batch_id}, file="lookups").fetchall())


def alerts(store: Store, *, before: int = LAST, limit: int = 100, resolved: bool = True) -> list[Alert]:
    """Return the alerts before the one of that id, the newest first; without ``resolved`` only those that are open."""
    values = {"before": before, "limit": limit, "resolved": resolved}
    return [Alert(*row) for row in store.run("alerts", values, file="lookups")]


def models(store: Store) -> list[tuple[ProviderName, str]]:
    """Return the models that were asked in the last 30 days, with their providers."""
    return store.run("models", file="lookups").fetchall()

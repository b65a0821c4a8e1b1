"""What a plan reckons with: samples, cost_models, budgets, and the room in a provider's queue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from nightbatch.core.ledger import Batch, JobRow, Route
from nightbatch.core.profiles import profile
from nightbatch.postgres.store import Store

_SAMPLES = 30  # of each route: the average of so many texts tells the next thousand within a few per cent
_MAX_BYTES = 200_000


class Group(NamedTuple):
    """The candidates of one route and model; ``number`` is the route's place."""

    number: int
    model: str
    jobs: int
    size: int
    largest: int


class Lesson(NamedTuple):
    """What came of earlier estimates, each at its least and most: how far the input was off, and how long answers are."""

    input_low: float
    input_high: float
    output_low: float
    output_high: float


class Usual(NamedTuple):
    """Tokens per answered job, on average; ``cached`` is the part of the input that was read from a cache."""

    jobs: int
    input_tokens: float
    cached_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class CostModel:
    """What one byte and one job of a group come to, at the high end; ``token_room`` bounds the tokens of one batch."""

    number: int
    model: str
    tokens_per_byte: float
    reckoned_per_byte: float
    usd_per_byte: Decimal | None
    usd_per_job: Decimal | None
    token_room: int | None


@dataclass(frozen=True, slots=True)
class Budget:
    """A row of ``nightbatch.budget``, with what is left of it tonight."""

    id: int
    usd_per_night: Decimal
    usd: Decimal
    covers: str


def absent_jobs(store: Store, ids: Sequence[int]) -> list[int]:
    """Return those of the ids that no job has, in their order."""
    if not ids:
        return []
    fitting = [number for number in ids if 0 < number < 2**63]
    found = {row[0] for row in store.run("known_jobs", {"ids": fitting}, file="plans")}
    return [number for number in dict.fromkeys(ids) if number not in found]


def samples(store: Store, routes: Sequence[int]) -> Iterator[tuple[int, int, JobRow]]:
    """Yield a few candidates of each of these routes: the route's place, the bytes reckoned with, and the job."""
    values = {"routes": list(routes), "each": _SAMPLES, "most_bytes": _MAX_BYTES}
    for number, size, job_type, text, version in store.run("samples", values, file="plans"):
        yield number, size, JobRow(0, job_type, text.encode(), version)


def groups(store: Store) -> list[Group]:
    """Return what a plan would send, by route and model."""
    return [Group(*row) for row in store.run("groups", file="plans")]


def lessons(store: Store) -> dict[tuple[str, str, str], Lesson]:
    """Return what came of the estimates of the last 30 days, by job type, provider and model."""
    return {(row[0], row[1], row[2]): Lesson(*row[3:]) for row in store.run("lessons", file="plans")}


def usual(store: Store, job_type: str, provider: str, model: str) -> Usual | None:
    """Of the last 30 days; None when no such job was answered."""
    values = {"job_type": job_type, "provider": provider, "model": model}
    row = store.run("usual", values, file="plans").fetchone()
    return Usual(*row) if row else None


def turnarounds(store: Store) -> dict[tuple[str, str], float]:
    """Return within how many seconds 95 % of the last 30 days' batches were back, by provider and model; from 5 batches on."""
    return {(row[0], row[1]): row[2] for row in store.run("turnarounds", file="plans")}


def token_limits(store: Store) -> dict[tuple[str, str], int]:
    """Return the most input tokens by provider and model; an empty model stands for all of them together."""
    return {(row[0], row[1]): row[2] for row in store.run("token_limits", file="plans")}


def keep_yardsticks(store: Store, cost_models: Sequence[CostModel]) -> None:
    """Keep the cost_models for the rest of the transaction."""
    store.run("make_yardsticks", file="plans")
    columns = {
        "routes": [one.number for one in cost_models],
        "models": [one.model for one in cost_models],
        "tokens_per_byte": [one.tokens_per_byte for one in cost_models],
        "reckoned_per_byte": [one.reckoned_per_byte for one in cost_models],
        "usd_per_byte": [one.usd_per_byte for one in cost_models],
        "usd_per_job": [one.usd_per_job for one in cost_models],
        "token_rooms": [one.token_room for one in cost_models],
    }
    store.run("insert_yardsticks", columns, file="plans")


def budgets(store: Store, night: datetime) -> list[Budget]:
    """Return all budgets, with what is left of each in the night that began then, the narrow ones first."""
    return [Budget(*row) for row in store.run("budgets", {"night": night}, file="plans")]


def apply_budget(store: Store, budget: Budget) -> tuple[int, int]:
    """Leave out what the budget has no room for; return how many jobs, and how many of them for want of a price."""
    unpriced = [row[0] for row in store.run("hold_back", {"budget_id": budget.id, "usd": budget.usd}, file="plans")]
    return len(unpriced), sum(unpriced)


def keep_estimates(store: Store, run_id: str, routes: Sequence[Route], *, reserve: bool) -> None:
    """Write down what the attempts just planned are expected to take."""
    values = {
        "run_id": run_id,
        "lane_numbers": list(range(len(routes))),
        "lane_types": [route.job_type for route in routes],
    }
    store.run("insert_estimates", values, file="plans")
    if reserve:
        store.run("reserve", {"run_id": run_id}, file="plans")


def room(store: Store, batch: Batch) -> tuple[int | None, int, int]:
    """Return input tokens: the account's limit if it is known, what its other attempts hold, and what this one needs."""
    values = {"batch_id": batch.id, "shared": profile(batch.provider).shared_queue}
    limit, held, needed = store.run("room", values, file="plans").fetchone()  # type: ignore[misc]
    return limit, held, needed


def learn_limit(store: Store, batch: Batch, tokens: int, note: str) -> None:
    """Write down the limit that a refusal has shown: how many tokens are too many."""
    shared = profile(batch.provider).shared_queue
    values = {"batch_id": batch.id, "tokens": tokens, "note": note, "shared": shared}
    store.run("learn_limit", values, file="plans")


def lack_room(store: Store, batch_id: int) -> None:
    """Mark an attempt as turned away for want of room."""
    store.run("lack_room", {"batch_id": batch_id}, file="plans")


def leave_to_next_wave(store: Store, batch_ids: Sequence[int]) -> None:
    """Mark attempts that are too many for this run to send: their jobs go back, and another run follows."""
    for batch_id in batch_ids:
        lack_room(store, batch_id)


def wants_another_wave(store: Store, run_id: str) -> bool:
    """Return whether jobs of a run went back for want of room, and another run would get further."""
    row = store.run("wants_another_wave", {"run_id": run_id}, file="plans").fetchone()
    return bool(row and row[0])

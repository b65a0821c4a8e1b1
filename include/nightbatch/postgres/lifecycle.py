"""What becomes of jobs besides being sent: answered from earlier results, cancelled, erased in time, and asked again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from nightbatch.core.ledger import Route
from nightbatch.postgres.store import Store

_FILE = "lifecycle"


@contextmanager
def between_plans(store: Store) -> Iterator[None]:
    """Open a transaction during which nothing is planned."""
    with store.transaction():
        store.run("lock_planning", file=_FILE)
        yield


# -- the cache, within a plan's transaction


def asks_the_cache(store: Store) -> bool:
    """Return whether a job that was gathered may want an earlier answer."""
    row = store.run("asks_the_cache", file=_FILE).fetchone()
    return bool(row and row[0])


def find_answers(
    store: Store, routes: Sequence[Route], versions: Sequence[str | None], job_types: Sequence[str]
) -> int:
    """Take the jobs that earlier results answer out of what was gathered, and return how many they are.

    ``versions`` are the prompt versions in force, by route; ``job_types`` those that can be answered so.
    """
    values = {
        "lane_numbers": list(range(len(routes))),
        "lane_providers": [route.provider for route in routes],
        "lane_versions": list(versions),
        "job_types": list(job_types),
    }
    store.run("make_asking", values, file=_FILE)
    store.run("read_batches", file=_FILE)
    store.run("make_answered", file=_FILE)
    return store.run("leave_out", file=_FILE).rowcount


def copy_answers(store: Store, run_id: str) -> None:
    """Give the jobs that `find_answers` took out their results, and the run its savings."""
    store.run("copy_answers", {"run_id": run_id}, file=_FILE)


# -- cancelling


class JobState(NamedTuple):
    """A row of ``nightbatch.job_status``."""

    job_id: int
    state: str
    batch_id: int | None


def cancel(store: Store, job_ids: Sequence[int], reason: str) -> set[int]:
    """End the jobs that no attempt holds, and return which they were."""
    return {row[0] for row in store.run("cancel_jobs", {"job_ids": list(job_ids), "reason": reason}, file=_FILE)}


def states(store: Store, job_ids: Sequence[int]) -> list[JobState]:
    """Return the states of those of the jobs that there are, by id."""
    return [JobState(*row) for row in store.run("states_of", {"job_ids": list(job_ids)}, file=_FILE)]


# -- retention


@dataclass(frozen=True, slots=True)
class Retention:
    """Days by job type, and for types that are not named; 0 is for ever."""

    by_type: Mapping[str, int]
    otherwise: int

    @property
    def params(self) -> dict[str, object]:
        """Return the retention as parameters for the queries."""
        return {
            "job_types": list(self.by_type),
            "days": list(self.by_type.values()),
            "default_days": self.otherwise,
        }


class Due(NamedTuple):
    """The jobs of one type in a loaded attempt, whose days are over."""

    batch_id: int
    job_type: str
    days: int


def due_batches(store: Store, retention: Retention) -> list[Due]:
    """Return what is to be erased, oldest first."""
    return [Due(*row) for row in store.run("due_batches", retention.params, file=_FILE)]


def erase_members(store: Store, due: Due, after: int, size: int) -> tuple[int, int] | None:
    """Erase a page of an attempt's jobs; return its last job id, and how many were erased. None after the last page."""
    values = {**due._asdict(), "after": after, "size": size}
    row = store.run("erase_members", values, file=_FILE).fetchone()
    return (int(row[0]), int(row[1])) if row else None


def finish_batch(store: Store, due: Due) -> None:
    """Note that nothing of this type is left in the attempt; its raw lines go with the last of its types."""
    store.run("finish_batch", due._asdict(), file=_FILE)
    store.run("erase_rejects", {"batch_id": due.batch_id}, file=_FILE)


def erase_others(store: Store, retention: Retention, size: int) -> int:
    """Erase a page of the jobs that ended without an attempt of their own, and return how many."""
    row = store.run("erase_others", {**retention.params, "size": size}, file=_FILE).fetchone()
    return int(row[0]) if row else 0


# -- retry


class Unanswered(NamedTuple):
    """A job without a usable answer; ``batch_cost_usd`` is what its request cost, None if not billed or not known."""

    job_id: int
    billed: bool
    batch_cost_usd: Decimal | None


def unanswered(store: Store, batch_id: int) -> list[Unanswered]:
    """Return the jobs of a loaded attempt that ended with it, without a usable answer, and that could be asked again."""
    return [Unanswered(*row) for row in store.run("unanswered", {"batch_id": batch_id}, file=_FILE)]


def reopen(store: Store, batch_id: int, job_ids: Sequence[int]) -> None:
    """Put jobs of a loaded attempt back into the queue, and note that a person wanted it."""
    store.run("reopen", {"batch_id": batch_id, "job_ids": list(job_ids)}, file=_FILE)


class Ended(NamedTuple):
    """A job that ended without a usable answer: rejected (without ``batch_id``), or with the result of its last attempt."""

    job_id: int
    batch_id: int | None
    reason: str
    billed: bool
    batch_cost_usd: Decimal | None


def ended(store: Store, job_ids: Sequence[int], run_id: str | None, words: str | None) -> list[Ended]:
    """Return the ended jobs that could be asked again, by id, run and words of the reason, as far as these are given."""
    values = {"job_ids": list(job_ids), "run_id": run_id, "words": words}
    return [Ended(*row) for row in store.run("ended", values, file=_FILE)]


def reopen_ended(store: Store, found: Sequence[Ended], *, by: str, reason: str, asked: str) -> None:
    """Put ended jobs back into the queue, and note who wanted it. Within a transaction in which nothing is planned."""
    values = {"by": by, "reason": reason, "asked": asked}
    (decision,) = store.run("decide_about_jobs", values, file=_FILE).fetchone()  # type: ignore[misc]
    columns = {
        "job_ids": [one.job_id for one in found],
        "batch_ids": [one.batch_id for one in found],
        "reasons": [one.reason for one in found],
    }
    store.run("reopen_ended", {"decision_id": decision, **columns}, file=_FILE)

"""Where the ledger is at home, and what becomes of it after it was copied, restored or moved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from nightbatch.core.ledger import Batch
from nightbatch.core.models import Endpoint, ListedBatch, ProviderName, RequestId
from nightbatch.postgres.store import Store

Said = Literal["moved", "restored", "copy"]

_FILE = "homes"


class Waiting(NamedTuple):
    """A queued job, as far as an attempt that takes it in has to know it.

    ``certain``: it is the one that was sent, and not another of its number.
    """

    id: int
    job_type: str
    model: str | None
    certain: bool


def displaced(store: Store) -> str | None:
    """Return why this database is not known to be the right one, in words; None when it is."""
    row = store.run("displaced", file=_FILE).fetchone()
    return row[0] if row else None


def said(store: Store) -> tuple[Said, datetime] | None:
    """Return what a person says happened, and when it was said, until it is carried out."""
    return store.run("said", file=_FILE).fetchone()


def say(store: Store, what: Said) -> None:
    """Keep what a person says happened."""
    store.run("say", {"said": what}, file=_FILE)


def record(store: Store, what: Said, by: str, reason: str) -> None:
    """Write down what a person says happened, who said so, and why."""
    store.run("record", {"said": what, "by": by, "reason": reason}, file=_FILE)


def doubt(store: Store, because: str) -> None:
    """Have nothing sent from this database until a person says what happened; the first reason stays."""
    store.run("doubt", {"because": because}, file=_FILE)


def settle(store: Store) -> None:
    """Make this database the ledger's home from now on."""
    store.run("settle", file=_FILE)


def accounts(store: Store) -> list[tuple[ProviderName, str, datetime]]:
    """Return the accounts that batches were sent through, and since when their lists may hold something unknown."""
    return store.run("accounts", file=_FILE).fetchall()


def become_a_copy(store: Store) -> tuple[int, int]:
    """Leave to the original what it sends, within a transaction, and return how many attempts and jobs that were."""
    store.run("rename", file=_FILE)
    attempts = store.run("leave", file=_FILE).rowcount
    jobs = store.run("leave_jobs", file=_FILE).rowcount
    store.run("leave_uploads", file=_FILE)
    store.run("leave_lists", file=_FILE)
    return attempts, jobs


def unsent(store: Store) -> list[Batch]:
    """Return the attempts that were never sent, as far as the ledger knows."""
    return store.batches_of("unsent", file=_FILE)


def waiting(store: Store, provider: ProviderName, job_ids: Sequence[int], created_at: datetime) -> list[Waiting]:
    """Return those of the jobs that are queued here, and were before a batch with them was created."""
    values = {"provider": provider, "job_ids": list(job_ids), "created_at": created_at}
    return [Waiting(*row) for row in store.run("waiting", values, file=_FILE)]


def in_the_way(
    store: Store, provider: ProviderName, batch: ListedBatch, requests: Sequence[RequestId] | None
) -> list[int]:
    """Return the attempts under way that hold jobs of these requests, or any jobs, and may give them back to the queue."""
    job_ids = None if requests is None else [request.job_id for request in requests]
    values = {"provider": provider, "created_at": batch.created_at, "job_ids": job_ids}
    return [row[0] for row in store.run("in_the_way", values, file=_FILE)]


def make_attempt(
    store: Store, run_id: str, sent_as: int, tag: str | None, provider: ProviderName, model: str, endpoint: Endpoint,
    job_ids: Sequence[int],
) -> Batch:  # fmt: skip
    """Insert an attempt that a provider has and the ledger lost, planned, with its jobs. Its requests carry ``sent_as``."""
    store.run("make_run", {"run_id": run_id}, file=_FILE)
    (made,) = store.batches_of(
        "make_attempt", file=_FILE, run_id=run_id, sent_as=sent_as, provider=provider, model=model, endpoint=endpoint,
        jobs=len(job_ids), tag=tag,
    )  # fmt: skip
    store.run("take_in", {"batch_id": made.id, "job_ids": list(job_ids)}, file=_FILE)
    return made


def fix(store: Store, batch_id: int, sha256: str, nonce: str | None, account: str) -> None:
    """Fix the hash, the nonce and the account of a planned attempt's requests."""
    values = {"batch_id": batch_id, "sha256": sha256, "nonce": nonce, "account": account}
    store.run("fix", values, file=_FILE)


def adopt(store: Store, batch_id: int, created_at: datetime) -> Batch | None:
    """Write down the intent of an uploaded attempt that was sent then; None when it is not uploaded."""
    found = store.batches_of("adopt", file=_FILE, batch_id=batch_id, created_at=created_at)
    return found[0] if found else None


def hold_back(
    store: Store, provider: ProviderName, created_at: datetime, reason: str, job_ids: Sequence[int] | None = None
) -> int:
    """End the queued jobs, of these or all of a provider, that a batch created then may have answered; return how many."""
    ids = None if job_ids is None else list(job_ids)
    values = {"provider": provider, "created_at": created_at, "reason": reason, "job_ids": ids}
    return store.run("hold_back", values, file=_FILE).rowcount

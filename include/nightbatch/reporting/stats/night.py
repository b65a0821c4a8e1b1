"""Read what is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightbatch.core.ledger import Batch
from nightbatch.postgres import sums
from nightbatch.postgres.figures import Run
from nightbatch.postgres.store import Store
from nightbatch.postgres.sums import Progress


@dataclass(frozen=True, slots=True)
class Night:
    """The latest run, and the attempts that are its own or still open, the oldest first.

    ``jobs_sent`` are the jobs in these attempts, ``jobs_back`` those of them whose batch was loaded. An attempt that was
    refused or abandoned counts in neither: its jobs moved on, or came to nothing.
    """

    run: Run | None
    jobs_sent: int
    jobs_back: int
    batches: Sequence[Progress]


def night(store: Store) -> Night:
    """Return the latest run as far as it has come."""
    with store.snapshot():  # a batch that is loaded in between would be closed in the one and not counted in the other
        run = latest_run(store)
        batches = sums.progress(store, run.run_id if run else None)
    live = [batch for batch in batches if batch.state not in ("refused", "abandoned")]
    return Night(
        run=run,
        jobs_sent=sum(batch.jobs for batch in live),
        jobs_back=sum(batch.jobs for batch in live if batch.state == "loaded"),
        batches=batches,
    )


def latest_run(store: Store) -> Run | None:
    """Return the run that was planned last; None when there is none."""
    found = sums.runs(store, 1)
    return found[0] if found else None


def progress_of(store: Store, batch: Batch) -> Progress:
    """Return how far one attempt has come."""
    return next(one for one in sums.progress(store, batch.run_id) if one.batch_id == batch.id)


def batches_of(store: Store, run_id: str | None) -> list[int]:
    """Return the attempts of a run, successors included, the oldest first."""
    return [one.batch_id for one in sums.progress(store, run_id) if one.run_id == run_id]

"""Taking jobs out of the queue: what was not sent ends at once, what was sent cannot be called back one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightbatch.postgres import lifecycle
from nightbatch.postgres.store import Store


@dataclass(frozen=True, slots=True)
class CancelledJobs:
    """What became of each job, by id.

    ``under_way`` names the attempt that holds it: it may be billed already, and only the whole batch can be cancelled.
    ``ended`` gives the state of those that had their last word before; ``unknown`` are no jobs.
    """

    cancelled: tuple[int, ...]
    under_way: dict[int, int]
    ended: dict[int, str]
    unknown: tuple[int, ...]

    def sentences(self) -> list[str]:
        """Return a sentence for each job, for a person; those that need one to act come last."""
        told = [f"Job {job} is cancelled." for job in self.cancelled]
        told += [f"Job {job} was {state} before and stays so." for job, state in self.ended.items()]
        told += [
            f"Job {job} is in batch {batch} and cannot be taken out of it; `nightbatch cancel {batch}` ends the batch."
            for job, batch in self.under_way.items()
        ]
        return told + [f"There is no job {job}." for job in self.unknown]


def cancel_jobs(store: Store, job_ids: Sequence[int], *, by: str, reason: str) -> CancelledJobs:
    """End the jobs that no attempt holds as ``cancelled``, with the reason; the others are left alone and named.

    No plan happens meanwhile, so that a job is either sent or cancelled, never both; waits for a plan under way.
    """
    wanted = sorted(set(job_ids))
    with lifecycle.between_plans(store):
        cancelled = lifecycle.cancel(store, wanted, f"Cancelled by {by}: {reason}")
        found = {row.job_id: row for row in lifecycle.states(store, wanted)}
    others = [row for job_id, row in found.items() if job_id not in cancelled]
    under_way = {row.job_id: row.batch_id for row in others if row.state in ("batched", "held") and row.batch_id}
    return CancelledJobs(
        cancelled=tuple(sorted(cancelled)),
        under_way=under_way,
        ended={row.job_id: row.state for row in others if row.job_id not in under_way},
        unknown=tuple(job_id for job_id in wanted if job_id not in found),
    )

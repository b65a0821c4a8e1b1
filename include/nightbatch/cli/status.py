"""`nightbatch status`: what waits, and what is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightbatch.cli.options import AsJson
from nightbatch.cli.output import Misuse, echo, fields, minute, open_ledger, print_json, report_errors, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightbatch.core.ledger import Batch
    from nightbatch.reporting.stats import Night, Run, Waiting


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Stay until the latest run has all its batches back.")] = False,
    every: Annotated[
        float | None, typer.Option(min=0.1, help="--watch: seconds between two looks; 5 if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the queue, what is under way, and the latest run.

    With --watch: the latest run live on a terminal; elsewhere a line for each change, with --json a line of JSON.
    """
    with report_errors(as_json):
        if watch:
            from nightbatch.cli.watch import follow

            follow(every or 5.0, as_json=as_json)
            return
        if every is not None:
            raise Misuse("--every goes with --watch.")
        _show_once(as_json)


def _show_once(as_json: bool) -> None:
    from nightbatch.reporting import stats

    with open_ledger() as store, store.snapshot():
        queue, batches, night = stats.queue(store), store.open_attempts(), stats.night(store)
        alerts = len(store.open_alerts())
    if as_json:
        shown = [
            {"batch_id": batch.id, "provider": batch.provider, "model": batch.model, "state": batch.state,
             "jobs": batch.job_count, "provider_batch_id": batch.provider_batch_id, "submitted_at": batch.submitted_at}
            for batch in batches
        ]  # fmt: skip
        print_json(
            {
                "queue": [fields(row) for row in queue],
                "batches": shown,
                "night": night_json(night),
                "open_alerts": alerts,
            }
        )
        return
    _show_queue(queue)
    _show_batches(batches)
    echo(_latest(night.run) if night.run else "No run was planned yet.")
    if alerts:
        echo(f"{alerts:,} {'alert is' if alerts == 1 else 'alerts are'} open: see `nightbatch alerts`.")


def night_json(night: Night) -> dict[str, Any]:
    """Return the latest run as far as it has come, and each attempt that is its own or still open."""
    return {
        "run": fields(night.run) if night.run else None,
        "jobs_sent": night.jobs_sent,
        "jobs_back": night.jobs_back,
        "batches": [fields(batch) for batch in night.batches],
    }


def _show_queue(queue: Sequence[Waiting]) -> None:
    rows = [(row.provider, row.job_type, row.priority, f"{row.jobs:,}", minute(row.oldest)) for row in queue]
    show_table("Queue", ("provider", "job type", "priority", "jobs", "oldest"), rows, figures=("priority", "jobs"))


def _show_batches(batches: Sequence[Batch]) -> None:
    rows = [
        (batch.id, batch.provider, batch.model, batch.state, f"{batch.job_count:,}",
         minute(batch.submitted_at or batch.planned_at))
        for batch in batches
    ]  # fmt: skip
    columns = ("batch", "provider", "model", "state", "jobs", "since")
    show_table("Under way", columns, rows, figures=("batch", "jobs"))


def _latest(run: Run) -> str:
    from nightbatch.core.amounts import usd

    open_ = (
        f"{run.open_batches:,} of its {run.batches:,} batches are under way"
        if run.open_batches
        else "all of it is back"
    )
    return (
        f"Latest run {run.run_id}, planned at {minute(run.planned_at)}: {open_}; {run.jobs:,} jobs counted, {run.succeeded:,}"
        f" succeeded, {run.failed:,} failed, {run.requeued:,} go again; saved {usd(run.savings_usd)}."
    )

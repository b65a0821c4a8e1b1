"""Commands for jobs: put them in, take them out, show their requests, and what lies near them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightbatch.cli.options import AsJson, By, DryRun, Why, login
from nightbatch.cli.output import (
    NEEDS_A_PERSON,
    Misuse,
    echo,
    open_ledger,
    print_json,
    progress,
    prompt,
    report_errors,
    show,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from nightbatch.jobs.input_formats import Source
    from nightbatch.jobs.intake import Enqueued
    from nightbatch.postgres.store import Store


def enqueue(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Jobs: JSON lines, CSV or a JSON array, also with .gz; a path, or s3://... as Airflow has it.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="For the lines of a provider's batch file that name none (Gemini's).")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only tell what is wrong; insert nothing.")] = False,
    all_or_nothing: Annotated[
        bool, typer.Option("--all-or-nothing", help="Insert nothing if one line is bad.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Queue lines anew that were queued from a file before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Insert the jobs of a file, or lines of a provider's own batch file.

    Bad lines are named and left out; exit code 1 if there were any. A file queues nothing twice.
    """
    from nightbatch.job_types import job_types
    from nightbatch.jobs import intake

    with report_errors(as_json):
        source, size = _source(file)
        with progress(source.name, size) as advance:
            if check:
                done = intake.check_file(job_types(), source, model=model, progress=advance)
            else:
                with open_ledger() as store:
                    done = _enqueue(store, source, model, all_or_nothing, again, advance)
    if as_json:
        bad = [{"line": line.number, "reason": line.reason} for line in done.bad]
        print_json({"new": done.new, "known": done.known, "rejected": done.rejected, "bad": bad})
    else:
        _tell_enqueued(source.name, done, "would be queued" if check else "queued", all_or_nothing)
    raise typer.Exit(NEEDS_A_PERSON if done.bad else 0)


def _source(file: str) -> tuple[Source, int | None]:
    """Return the file that is named, and its size where that is known. Raises `Misuse` where there is none."""
    if "://" in file:
        from nightbatch.airflow.storage import object_at

        return object_at(file), None
    path = Path(file)
    if not path.exists() or path.is_dir():
        raise Misuse(f"{file} is no file.")
    return path, path.stat().st_size


def _enqueue(
    store: Store, source: Source, model: str | None, all_or_nothing: bool, again: bool, advance: Callable[[int], None]
) -> Enqueued:
    from nightbatch.job_types import job_types
    from nightbatch.jobs import intake

    try:
        return intake.enqueue_file(
            store,
            job_types(),
            source,
            model=model,
            all_or_nothing=all_or_nothing,
            again=again,
            progress=advance,
        )
    except intake.JobsRefused as refused:
        return intake.Enqueued(bad=refused.bad)


def _tell_enqueued(name: str, done: Enqueued, what: str, all_or_nothing: bool) -> None:
    for line in done.bad:
        echo(f"{name}:{line.number}: {line.reason}", error=True)
    known = f", {done.known:,} were queued before (--again queues them anew)" if done.known else ""
    bad = "bad lines, so nothing was queued" if all_or_nothing and done.bad else "bad lines left out"
    echo(f"{done.new:,} jobs {what}{known}, {len(done.bad):,} {bad}.")
    if done.rejected:
        ids = ",".join(map(str, done.rejected[:20])) + (",..." if len(done.rejected) > 20 else "")
        echo(
            f"{len(done.rejected):,} of the known ones ended as rejected and are not asked by this:"
            f" `nightbatch retry --job-ids {ids}` asks them again.",
            error=True,
        )


def cancel(
    batch: Annotated[
        int | None,
        typer.Argument(metavar="BATCH", help="The attempt, as `nightbatch status` numbers it.", show_default=False),
    ] = None,
    job: Annotated[list[int] | None, typer.Option(help="A queued job instead; may be repeated.")] = None,
    dry_run: DryRun = False,
    reason: Why = "",
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """End a batch at its provider early, or queued jobs.

    What a batch has finished by then is paid for and loaded, the rest goes again. With --job: end
    queued jobs. One that is in a batch cannot be taken out of it, and is named; exit code 1 then.
    """
    with report_errors(as_json):
        if (batch is None) == (not job):
            raise Misuse("Name one batch, or jobs by --job.")
        if batch is not None:
            _cancel_batch(batch, by or login(), reason, dry_run, as_json)
            return
        if dry_run:
            raise Misuse("--dry-run goes with a batch.")
        _cancel_jobs(job or [], by or login(), prompt(reason, "Why", "--reason"), as_json)


def _cancel_batch(batch: int, by: str, reason: str, dry_run: bool, as_json: bool) -> None:
    from nightbatch.batches import cost_preview, decisions
    from nightbatch.cli.decide import decide
    from nightbatch.job_types import job_types

    decide(
        {"batch_id": batch},
        lambda store: cost_preview.of_cancelling(store, job_types(), batch),
        lambda store, why: decisions.ask_to_cancel(store, batch, by=by, reason=why),
        reason=reason, dry_run=dry_run, as_json=as_json,
    )  # fmt: skip


def _cancel_jobs(jobs: list[int], by: str, reason: str, as_json: bool) -> None:
    from nightbatch.jobs import cancelling

    with open_ledger() as store:
        done = cancelling.cancel_jobs(store, jobs, by=by, reason=reason)
    if as_json:
        print_json(done)
    else:
        for sentence in done.sentences():
            echo(sentence)
    raise typer.Exit(NEEDS_A_PERSON if done.under_way or done.unknown else 0)


def request(
    job: Annotated[int, typer.Argument(metavar="JOB", min=1, max=2**63 - 1, help="A job that was sent.")],
    batch: Annotated[
        int | None, typer.Option(min=1, max=2**63 - 1, help="As it was in this batch; in the last one if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a job's request, and whether it is as it was sent.

    It is rendered again: eight bytes of every request that was sent are kept, and compared. Sends nothing and needs no key.
    Exit code 1 where it is not as it was sent, or nobody can tell.
    """
    from nightbatch.batches.as_sent import render_again
    from nightbatch.core.settings import Settings
    from nightbatch.job_types import job_types

    with report_errors(as_json), open_ledger() as store:
        found = render_again(store, job_types(), Settings.from_env(), job, batch)
    line = found.line.decode() if found.line is not None else None
    if as_json:
        ids = {"job_id": found.job_id, "batch_id": found.batch_id}
        print_json({**ids, "as_sent": found.as_sent, "reason": found.reason, "line": line})
    else:
        if line is not None:
            echo(line)
        echo(f"Job {found.job_id} in batch {found.batch_id}: {found.reason}", error=True)
    raise typer.Exit(0 if found.as_sent else NEEDS_A_PERSON)


def similar(
    job: Annotated[
        int, typer.Argument(metavar="JOB", min=1, max=2**63 - 1, help="A job of type embedding_generation.")
    ],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many for each text, nearest first.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the nearest neighbours of a job's texts.

    Ids, similarity (1: the same direction) and labels, no payloads.
    """
    from nightbatch.cli import similar as shown
    from nightbatch.reporting import stats

    with report_errors(as_json), open_ledger() as store:
        found = stats.nearest(store, job, limit)
    if as_json:
        print_json(shown.to_json(job, found))
    elif found:
        show(shown.table(job, found))
    else:
        echo("There is no other vector of the same model and size.")

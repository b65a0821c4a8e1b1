"""Jobs: putting them in, taking them out, and what lies near them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightbatch.cli.options import AsJson, By, Why, login
from nightbatch.cli.output import (
    NEEDS_A_PERSON,
    Misuse,
    asked,
    opened,
    print_json,
    progress,
    say,
    show,
    told,
)

if TYPE_CHECKING:
    from nightbatch.intake import Enqueued


def enqueue(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Jobs, one JSON object a line, or CSV.")
    ],
    as_json: AsJson = False,
) -> None:
    """Insert the jobs of a .jsonl or .csv file.

    Bad lines are named and left out; exit code 1 if there were any.
    """
    from nightbatch import intake
    from nightbatch.job_types import job_types

    with told(as_json), opened() as store, progress(file.name, file.stat().st_size) as advance:
        done = intake.enqueue_file(store, job_types(), file, progress=advance)
    if as_json:
        bad = [{"line": line.number, "reason": line.reason} for line in done.bad]
        print_json({"new": done.new, "known": done.known, "rejected": done.rejected, "bad": bad})
    else:
        _tell_enqueued(file.name, done)
    raise typer.Exit(NEEDS_A_PERSON if done.bad else 0)


def _tell_enqueued(name: str, done: Enqueued) -> None:
    for line in done.bad:
        say(f"{name}:{line.number}: {line.reason}", error=True)
    known = f", {done.known:,} were known by their dedup_key" if done.known else ""
    say(f"{done.new:,} jobs queued{known}, {len(done.bad):,} bad lines left out.")
    if done.rejected:
        ids = ",".join(map(str, done.rejected[:20])) + (",..." if len(done.rejected) > 20 else "")
        say(
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
    reason: Why = "",
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """End a batch at its provider early, or queued jobs.

    What a batch has finished by then is paid for and loaded, the rest goes again. With --job: end
    queued jobs. One that is in a batch cannot be taken out of it, and is named; exit code 1 then.
    """
    with told(as_json):
        if (batch is None) == (not job):
            raise Misuse("Name one batch, or jobs by --job.")
        why, who = asked(reason, "Why", "--reason"), by or login()
        if batch is not None:
            _cancel_batch(batch, who, why, as_json)
            return
        _cancel_jobs(job or [], who, why, as_json)


def _cancel_batch(batch: int, by: str, reason: str, as_json: bool) -> None:
    from nightbatch import decisions

    with opened() as store:
        sentence = decisions.ask_to_cancel(store, batch, by=by, reason=reason)
    if as_json:
        print_json({"batch_id": batch, "told": sentence})
    else:
        say(sentence)


def _cancel_jobs(jobs: list[int], by: str, reason: str, as_json: bool) -> None:
    from nightbatch import cancelling

    with opened() as store:
        done = cancelling.cancel_jobs(store, jobs, by=by, reason=reason)
    if as_json:
        print_json(done)
    else:
        for sentence in done.sentences():
            say(sentence)
    raise typer.Exit(NEEDS_A_PERSON if done.under_way or done.unknown else 0)


def request(
    job: Annotated[int, typer.Argument(metavar="JOB", min=1, max=2**63 - 1, help="A job that was sent.")],
    batch: Annotated[
        int | None, typer.Option(min=1, max=2**63 - 1, help="As it was in this batch; in the last one if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A job's request, rendered again, and whether it is as it was sent.

    Eight bytes of every request that was sent are kept, and compared. Sends nothing and needs no key. Exit code 1
    where it is not as it was sent, or nobody can tell.
    """
    from nightbatch.as_sent import render_again
    from nightbatch.job_types import job_types
    from nightbatch.settings import Settings

    with told(as_json), opened() as store:
        found = render_again(store, job_types(), Settings.from_env(), job, batch)
    line = found.line.decode() if found.line is not None else None
    if as_json:
        ids = {"job_id": found.job_id, "batch_id": found.batch_id}
        print_json({**ids, "as_sent": found.as_sent, "reason": found.reason, "line": line})
    else:
        if line is not None:
            say(line)
        say(f"Job {found.job_id} in batch {found.batch_id}: {found.reason}", error=True)
    raise typer.Exit(0 if found.as_sent else NEEDS_A_PERSON)


def similar(
    job: Annotated[
        int, typer.Argument(metavar="JOB", min=1, max=2**63 - 1, help="A job of type embedding_generation.")
    ],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many for each text, nearest first.")] = 10,
    as_json: AsJson = False,
) -> None:
    """The nearest neighbours of a job's texts.

    Ids, similarity (1: the same direction) and labels, no payloads.
    """
    from nightbatch.cli import similar as shown
    from nightbatch.postgres import neighbours

    with told(as_json), opened() as store:
        found = neighbours.nearest(store, job, limit)
    if as_json:
        print_json(shown.to_json(job, found))
    elif found:
        show(shown.table(job, found))
    else:
        say("There is no other vector of the same model and size.")

"""`nightbatch`: each command reads its settings, calls one use case and shows the outcome.

Imports stand inside the commands, so that `nightbatch --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from nightbatch.errors import NightbatchError

if TYPE_CHECKING:
    from rich.console import Console

    from nightbatch.insights import Attempt
    from nightbatch.models import ProviderName
    from nightbatch.postgres.store import Store

app = typer.Typer(
    help="LLM work that nobody waits for, at half the price. The database is the one in NIGHTBATCH_DSN."
    " Exit codes: 0 done, 1 something needs a person, 2 wrong usage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command()
def migrate() -> None:
    """Bring the database up to date. Safe to repeat, also from two machines at once."""
    from nightbatch.postgres.migrate import migrate as apply

    with _told():
        for name in apply(_dsn()) or ["nothing to do"]:
            _console().print(name)


@app.command()
def enqueue(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Jobs, one JSON object a line, or CSV.")],
    as_json: AsJson = False,
) -> None:
    """Insert the jobs of a .jsonl or .csv file. Bad lines are named and left out; exit code 1 if there were any."""
    from nightbatch import intake
    from nightbatch.job_types import job_types

    with _told(), _store() as store, _progress(file.name, file.stat().st_size) as advance:
        done = intake.enqueue_file(store, job_types(), file, progress=advance)
    if as_json:
        bad = [{"line": line.number, "reason": line.reason} for line in done.bad]
        _print_json({"new": done.new, "known": done.known, "bad": bad})
    else:
        for line in done.bad:
            _console(error=True).print(f"{file.name}:{line.number}: {line.reason}", markup=False, highlight=False)
        known = f", {done.known:,} were known by their dedup_key" if done.known else ""
        _console().print(f"{done.new:,} jobs queued{known}, {len(done.bad):,} bad lines left out.", highlight=False)
    raise typer.Exit(1 if done.bad else 0)


@app.command()
def status(as_json: AsJson = False) -> None:
    """The queue, and the batches that are under way."""
    from nightbatch.postgres import figures

    with _told(), _store() as store:
        queue, batches = figures.queue(store), store.open_attempts()
    if as_json:
        shown = [
            {"batch_id": batch.id, "provider": batch.provider, "model": batch.model, "state": batch.state,
             "jobs": batch.job_count, "provider_batch_id": batch.provider_batch_id, "submitted_at": batch.submitted_at}
            for batch in batches
        ]  # fmt: skip
        _print_json({"queue": [_fields(row) for row in queue], "batches": shown})
        return
    _print_table(
        "Queue", ("provider", "job type", "priority", "jobs", "oldest"),
        [(row.provider, row.job_type, row.priority, f"{row.jobs:,}", f"{row.oldest:%Y-%m-%d %H:%M}") for row in queue],
    )  # fmt: skip
    _print_table(
        "Under way", ("batch", "provider", "model", "state", "jobs", "since"),
        [(batch.id, batch.provider, batch.model, batch.state, f"{batch.job_count:,}",
          f"{batch.submitted_at or batch.planned_at:%Y-%m-%d %H:%M}") for batch in batches],
    )  # fmt: skip


@app.command()
def results(
    run: Annotated[str | None, typer.Option(help="Only of this run.")] = None,
    job_type: Annotated[str | None, typer.Option(help="Only of this job type.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """The latest results; with --json one object a line, whole."""
    from nightbatch.postgres import figures

    with _told(), _store() as store:
        rows = figures.results(store, run_id=run, job_type=job_type, limit=limit)
    if as_json:
        for row in rows:
            _print_json(_fields(row))
        return
    _print_table(
        "Results", ("job", "job type", "provider", "outcome", "paid", "output"),
        [(row.job_id, row.job_type, row.provider, row.outcome,
          "–" if row.batch_cost_usd is None else f"${row.batch_cost_usd:.6f}",
          (json.dumps(row.output, ensure_ascii=False) if row.output is not None else row.error or "")[:80])
         for row in rows],
    )  # fmt: skip


@app.command()
def similar(
    job: Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="A job of type embedding_generation.")],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many for each text, nearest first.")] = 10,
    as_json: AsJson = False,
) -> None:
    """The nearest neighbours of a job's texts: ids, similarity (1: the same direction) and labels, no payloads."""
    from nightbatch.cli import similar as shown
    from nightbatch.postgres import neighbours

    with _told(), _store() as store:
        found = neighbours.nearest(store, job, limit)
    if as_json:
        _print_json(shown.to_json(job, found))
    elif found:
        _console().print(shown.table(job, found))
    else:
        _console().print("There is no other vector of the same model and size.")


@app.command()
def report(
    runs: Annotated[
        list[str] | None, typer.Argument(help="One or more runs' ids; the latest run if not given.")
    ] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """What a run, or several together, sent, paid and saved."""
    from nightbatch import reporting

    with _told(), _store() as store:
        found = reporting.run_report(store, *runs or ())
    if as_json:
        _print_json(reporting.to_json(found))
    elif markdown:
        typer.echo(reporting.render_markdown(found))
    else:
        _console().print(reporting.render_terminal(found))


@app.command()
def estimate(
    providers: Annotated[str, typer.Option(help="Comma-separated; all if not given.")] = "",
    job_types: Annotated[str, typer.Option(help="Comma-separated; all if not given.")] = "",
    max_jobs: Annotated[int | None, typer.Option(min=1, help="At most so many jobs, highest priority first.")] = None,
    from_day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Price past days sent again.")] = None,
    to_day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last of them, inclusive.")] = None,
    to_model: Annotated[str | None, typer.Option(help="With --from-day: by this model.")] = None,
    to_provider: Annotated[str | None, typer.Option(help="With --from-day: by this provider.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a run would send now and about what it will cost, within the budgets. Nothing is sent or written.

    From the least to the most: by a tokenizer and the longest answers allowed, then by what earlier nights took. With
    --from-day: what the jobs of past days would cost if they were sent again.
    """
    from nightbatch.cli import estimate as shown

    with _told(), _store() as store:
        if from_day is None:
            found = shown.of_the_queue(store, _parts(providers), _parts(job_types), max_jobs)
        else:
            found = shown.of_the_past(
                store, from_day, to_day or from_day, job_types=_parts(job_types), max_jobs=max_jobs, to_model=to_model,
                to_provider=cast("ProviderName | None", to_provider),
            )  # fmt: skip
    if as_json:
        _print_json(shown.to_json(found))
    elif found:
        _console().print(shown.table(found))
    else:
        _console().print("Nothing is due, or the budgets have no room for it.")


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@app.command()
def run(
    providers: Annotated[str, typer.Option(help="Comma-separated; all if not given.")] = "",
    job_types: Annotated[str, typer.Option(help="Comma-separated; all if not given.")] = "",
    max_jobs: Annotated[int | None, typer.Option(min=1, help="At most so many jobs, highest priority first.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
) -> None:
    """Start the Dag now, through the `airflow` command of this environment."""
    import subprocess

    conf: dict[str, Any] = {"max_jobs": max_jobs, "dry_run": dry_run}
    for name, text in (("providers", providers), ("job_types", job_types)):
        if text:
            conf[name] = [part.strip() for part in text.split(",")]
    command = [sys.executable, "-m", "airflow", "dags", "trigger", "nightbatch", "--conf", json.dumps(conf)]
    raise typer.Exit(1 if subprocess.run(command, check=False).returncode else 0)


@app.command()
def doctor(
    as_json: AsJson = False,
    live: Annotated[
        bool, typer.Option("--live", help="Ask the real providers, with the keys in your environment; the price first.")
    ] = False,
    output: Annotated[
        Path, typer.Option(dir_okay=False, help="--live: what was seen; an earlier one is gone on with.")
    ] = Path("nightbatch-live.json"),
    minutes: Annotated[float, typer.Option(min=0, help="--live: how long to wait for the batches' end.")] = 15,
    model: Annotated[list[str] | None, typer.Option(help="--live: PROVIDER=MODEL instead of the default.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="--live: agree to the price without being asked.")] = False,
) -> None:
    """What needs a person: submissions in doubt or held, broken job types, open alerts. Exit code 1 if there is any.

    Of each attempt it says what is known, what happens by itself and when, and what you may decide.
    """
    if live:
        from nightbatch.cli.live import run_live

        with _told():
            code = run_live(output=output, minutes=minutes, yes=yes, models=model or (), in_doubt=_in_doubt())
        raise typer.Exit(code)
    from nightbatch import insights
    from nightbatch.job_types import broken_job_types
    from nightbatch.settings import Settings

    with _told(), _store() as store:
        attempts = insights.attempts(store, Settings.from_env())
        told = [f"{path} is no job type: {why}" for path, why in broken_job_types().items()]
        told += [alert.message for alert in insights.other_alerts(store)]
    if as_json:
        _print_json({"attempts": [_fields(attempt) for attempt in attempts], "needs_a_person": told})
    else:
        for attempt in attempts:
            _show_attempt(attempt)
        for sentence in told or ([] if attempts else ["Nothing needs a person."]):
            _console().print(f"- {sentence}" if told else sentence, markup=False, highlight=False)
    raise typer.Exit(1 if told or attempts else 0)


def _in_doubt() -> set[ProviderName]:
    """Providers at which the ledger has a create in doubt; without a database there is none to know of."""
    if not os.environ.get("NIGHTBATCH_DSN"):
        return set()
    with _store() as store:
        return {batch.provider for batch in store.open_attempts() if batch.state in ("submitting", "held")}


def _show_attempt(attempt: Attempt) -> None:
    console = _console()
    console.print(
        f"Batch {attempt.batch_id} ({attempt.jobs:,} jobs, {attempt.provider}, {attempt.model}) is {attempt.state}.",
        style="bold", markup=False, highlight=False,
    )  # fmt: skip
    console.print(f"  Known: {attempt.known}", markup=False, highlight=False)
    when = f" Next: {attempt.next_at:%Y-%m-%d %H:%M %Z}." if attempt.next_at else ""
    console.print(f"  By itself: {attempt.next}{when}", markup=False, highlight=False)
    for choice, meaning in attempt.choices.items():
        verb = "cancel" if choice == "cancel" else "release"
        option = "" if choice == "cancel" else f" --{choice}" + (" ID" if choice == "adopt" else "")
        console.print(
            f"  You may: nightbatch {verb} {attempt.batch_id}{option}: {meaning}", markup=False, highlight=False
        )


By = Annotated[str, typer.Option(help="Who decides; your login name if not given.", show_default=False)]
Why = Annotated[str, typer.Option("--reason", help="Why; it is kept with the decision.", prompt="Why")]


@app.command()
def release(
    batch: Annotated[int, typer.Argument(help="The attempt, as `nightbatch doctor` numbers it.")],
    reason: Why,
    adopt: Annotated[
        str | None, typer.Option(metavar="ID", help="You found it: the id in the provider's console.")
    ] = None,
    resend: Annotated[bool, typer.Option("--resend", help="It is not there: its jobs go with the next run.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Its jobs end here and are never sent again.")] = False,
    by: By = "",
) -> None:
    """Decide about an attempt that is held. Look into the provider's console before: see `nightbatch doctor`."""
    from nightbatch import decisions

    given: dict[decisions.Choice, bool] = {"adopt": adopt is not None, "resend": resend, "drop": drop}
    chosen = [choice for choice, wanted in given.items() if wanted]
    if len(chosen) != 1:
        shown = "\n".join(f"  --{choice}: {meaning}" for choice, meaning in decisions.MEANINGS.items())
        _console(error=True).print(f"Choose one:\n{shown}", markup=False, highlight=False)
        raise typer.Exit(2)
    with _told(), _store() as store:
        told = decisions.release(
            store, batch, choice=chosen[0], by=by or _login(), reason=reason, provider_batch_id=adopt
        )
    _console().print(told, markup=False, highlight=False)


@app.command()
def cancel(
    reason: Why,
    batch: Annotated[
        int | None, typer.Argument(help="The attempt, as `nightbatch status` numbers it.", show_default=False)
    ] = None,
    job: Annotated[list[int] | None, typer.Option(help="A queued job instead; may be repeated.")] = None,
    by: By = "",
) -> None:
    """End a batch at its provider early; what has finished by then is paid for and loaded, the rest goes again.

    With --job: end queued jobs. One that is in a batch cannot be taken out of it, and is named; exit code 1 then.
    """
    from nightbatch import cancelling, decisions

    if (batch is None) == (not job):
        _console(error=True).print("Name one batch, or jobs by --job.")
        raise typer.Exit(2)
    with _told(), _store() as store:
        if batch is not None:
            told, left = [decisions.ask_to_cancel(store, batch, by=by or _login(), reason=reason)], False
        else:
            done = cancelling.cancel_jobs(store, job or (), by=by or _login(), reason=reason)
            told, left = done.sentences(), bool(done.under_way or done.unknown)
    for sentence in told:
        _console().print(sentence, markup=False, highlight=False)
    raise typer.Exit(1 if left else 0)


def _login() -> str:
    """Whoever is logged in; a container's user may have no name."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


@app.command()
def emulator(
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8765,
    state: Annotated[Path, typer.Option(help="Where files, batches and the bill are kept.")] = Path("var/emulator"),
    turnaround: Annotated[float, typer.Option(help="Seconds from a batch's creation to its end.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Of the answers.")] = 1,
) -> None:
    """The three providers' batch APIs on 127.0.0.1, with a bill and faults on demand. Nothing is paid."""
    from nightbatch.emulator.app import run_emulator
    from nightbatch.emulator.settings import EmulatorSettings

    run_emulator(EmulatorSettings(state=state, port=port, turnaround=turnaround, seed=seed))


def _dsn() -> str:
    from nightbatch.settings import database

    return database()


@contextmanager
def _told() -> Iterator[None]:
    """Errors of ours in words, without a traceback."""
    try:
        yield
    except NightbatchError as error:
        _console(error=True).print(f"nightbatch: {error}", markup=False, highlight=False)
        raise typer.Exit(1) from None


@contextmanager
def _store() -> Iterator[Store]:
    from nightbatch.postgres.store import open_store

    with open_store(_dsn()) as store:
        yield store


def _console(*, error: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=error)


@contextmanager
def _progress(name: str, total: int) -> Iterator[Any]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.progress import Progress

    console = _console(error=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done: progress.update(task, completed=done)


def _print_table(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        _console().print(f"{title}: nothing.")
        return
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    _console().print(table)


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)

"""Commands for what a person decides: a run now, a held attempt, answers to ask for again, an alert that was seen."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nightbatch.cli.options import (
    AsJson,
    By,
    DryRun,
    JobTypes,
    MaxJobs,
    Providers,
    Why,
    Yes,
    job_ids,
    job_type_names,
    login,
    provider_names,
)
from nightbatch.cli.output import (
    NEEDS_A_PERSON,
    Misuse,
    echo,
    fields,
    minute,
    open_ledger,
    print_json,
    prompt,
    report_errors,
    show_table,
)

if TYPE_CHECKING:
    from nightbatch.batches.decisions import Choice
    from nightbatch.batches.retrying import Retry
    from nightbatch.core.ledger import Alert


def run(
    providers: Providers = "",
    job_types: JobTypes = "",
    jobs: Annotated[str, typer.Option("--job-ids", help="Comma-separated; all that are due if not given.")] = "",
    max_jobs: MaxJobs = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say, in the log of plan, what would be sent.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the Dag now.

    Through the `airflow` command of this environment.
    """
    from nightbatch.cli import dag
    from nightbatch.core.ledger import RunParams
    from nightbatch.planning import run_forms

    with report_errors(as_json):
        ids = job_ids(jobs)
        wanted = {"providers": provider_names(providers), "job_types": job_type_names(job_types), "job_ids": ids}
        if ids and os.environ.get("NIGHTBATCH_DSN"):  # without it the task `plan` sees to them
            with open_ledger() as store:
                run_forms.check(store, (), RunParams(job_ids=ids))
        conf = {name: list(values) for name, values in wanted.items() if values}
        started = dag.start({**conf, "max_jobs": max_jobs, "dry_run": dry_run})
    if as_json:
        print_json(started)
    else:
        echo(f"Run {started['run_id']} is {started['state']}: nightbatch status --watch")


def release(
    batch: Annotated[int, typer.Argument(metavar="BATCH", help="The attempt, as `nightbatch doctor` numbers it.")],
    adopt: Annotated[
        str | None, typer.Option(metavar="ID", help="You found it: the id in the provider's console.")
    ] = None,
    resend: Annotated[bool, typer.Option("--resend", help="It is not there: its jobs go with the next run.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Its jobs end here and are never sent again.")] = False,
    dry_run: DryRun = False,
    reason: Why = "",
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Decide about an attempt that is held. Look into the provider's console before: see `nightbatch doctor`."""
    from nightbatch.batches import cost_preview, decisions
    from nightbatch.cli.decide import decide
    from nightbatch.job_types import job_types

    with report_errors(as_json):
        choice = _choice(adopt=adopt is not None, resend=resend, drop=drop)
        decide(
            {"batch_id": batch, "choice": choice},
            lambda store: cost_preview.of_releasing(store, job_types(), batch, choice),
            lambda store, why: decisions.release(
                store, batch, choice=choice, by=by or login(), reason=why, provider_batch_id=adopt
            ),
            reason=reason, dry_run=dry_run, as_json=as_json,
        )  # fmt: skip


def _choice(**given: bool) -> Choice:
    """Return the one choice that was given. Raises `Misuse`, with what each does, for none or several."""
    from nightbatch.batches.decisions import MEANINGS

    chosen: list[Choice] = [choice for choice in ("adopt", "resend", "drop") if given[choice]]
    if len(chosen) != 1:
        raise Misuse("Choose one:\n" + "\n".join(f"  --{choice}: {meaning}" for choice, meaning in MEANINGS.items()))
    return chosen[0]


def retry(
    batch: Annotated[int | None, typer.Argument(metavar="[BATCH]", help="A batch whose results are loaded.")] = None,
    jobs: Annotated[str, typer.Option("--job-ids", help="These jobs; comma-separated.", show_default=False)] = "",
    run_id: Annotated[str, typer.Option("--run", help="The jobs that ended in this run.", show_default=False)] = "",
    words: Annotated[
        str, typer.Option("--ended-with", help="The jobs whose reason holds these words.", show_default=False)
    ] = "",
    dry_run: DryRun = False,
    reason: Why = "",
    by: By = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ask again for what was not answered usably, or was rejected.

    Of a batch, or by jobs, run and reason; the chosen jobs go with the next run. The price is told first, since some of them may
    have been billed before.
    """
    from nightbatch.batches import retrying
    from nightbatch.core.errors import NightbatchError

    with report_errors(as_json):
        chosen = retrying.Choice(job_ids(jobs), run_id or None, words or None)
        if (batch is None) == (chosen == retrying.Choice()):
            raise Misuse("Give a batch, or choose jobs by --job-ids, --run or --ended-with.")
        with open_ledger() as store:
            offer = retrying.preview(store, batch) if batch is not None else retrying.preview_jobs(store, chosen)
        if not offer.jobs:
            raise NightbatchError(str(offer))
        if dry_run:
            done = str(offer)
        else:
            why = prompt(reason, "Why", "--reason")
            if not _agreed(offer, yes):
                echo("Nothing is sent again.", error=True)
                raise typer.Exit(NEEDS_A_PERSON)
            with open_ledger() as store:
                who = by or login()
                if batch is not None:
                    done = retrying.retry(store, batch, by=who, reason=why)
                else:
                    done = retrying.retry_jobs(store, chosen, by=who, reason=why)
    if as_json:
        print_json({**fields(offer), "told": done})
    else:
        echo(done)


def load(
    batch: Annotated[int, typer.Argument(metavar="BATCH", help="A loaded batch of which results were missing.")],
    reason: Why = "",
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Read the results of a loaded batch once more, and fill in what was missing.

    By the next run of nightbatch_recover, which has the key. Nothing is sent, paid or read twice.
    """
    from nightbatch.batches import decisions

    with report_errors(as_json):
        why = prompt(reason, "Why", "--reason")
        with open_ledger() as store:
            done = decisions.ask_to_load(store, batch, by=by or login(), reason=why)
    if as_json:
        print_json({"batch_id": batch, "told": done})
    else:
        echo(done)


def _agreed(offer: Retry, yes: bool) -> bool:
    """Return whether a person takes the price. Raises `Misuse` where nobody is there to ask."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Misuse(f"{offer} There is nobody to ask: agree with --yes.")
    echo(str(offer), error=True)
    return typer.confirm("Send them again?", err=True)


def alerts(
    every: Annotated[bool, typer.Option("--all", help="Those that are resolved too; the last 1,000.")] = False,
    acknowledge: Annotated[
        int | None, typer.Option(metavar="ID", help="Say that you have seen this one; it is kept with your name.")
    ] = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Show what a person should know of, and who has seen it.

    Open alerts, the newest first; with --acknowledge ID it is kept that you have seen that one.
    """
    from nightbatch.reporting import stats

    with report_errors(as_json):
        if acknowledge is not None:
            _acknowledge(acknowledge, by, as_json)
            return
        with open_ledger() as store:
            found = stats.alerts(store, limit=1_000) if every else store.open_alerts()
    if as_json:
        print_json({"alerts": [fields(alert) for alert in found]})
        return
    rows = [(row.id, minute(row.raised_at), row.kind, row.subject, _stands(row), row.message) for row in found]
    show_table("Alerts", ("alert", "since", "kind", "about", "state", "message"), rows, figures=("alert",))


def _stands(alert: Alert) -> str:
    if alert.resolved_at is not None:
        return f"resolved {minute(alert.resolved_at)}"
    return f"seen by {alert.acknowledged_by}" if alert.acknowledged_by else "open"


def _acknowledge(alert: int, by: str, as_json: bool) -> None:
    from nightbatch.reporting import alerts as told_of

    with open_ledger() as store:
        done = told_of.acknowledge(store, alert, by=by or login())
    if as_json:
        print_json({"alert_id": alert, "told": done})
    else:
        echo(done)

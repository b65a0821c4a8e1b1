"""`nightbatch doctor`: what needs a person, and what the real providers do."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightbatch.cli.options import AsJson, Yes
from nightbatch.cli.output import NEEDS_A_PERSON, Misuse, echo, fields, open_ledger, print_json, report_errors

if TYPE_CHECKING:
    from nightbatch.core.models import ProviderName
    from nightbatch.reporting.stats import Attempt


def doctor(
    live: Annotated[
        bool, typer.Option("--live", help="Ask the real providers, with the keys in your environment; the price first.")
    ] = False,
    output: Annotated[
        Path, typer.Option(dir_okay=False, help="--live: what was seen; an earlier one is gone on with.")
    ] = Path("nightbatch-live.json"),
    minutes: Annotated[float, typer.Option(min=0, help="--live: how long to wait for the batches' end.")] = 15,
    model: Annotated[list[str] | None, typer.Option(help="--live: PROVIDER=MODEL instead of the default.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Show what needs a person; exit code 1 if anything does.

    Submissions in doubt or held, a server that may lose what it kept, providers and job types that are broken or do not go
    together, open alerts. Of each attempt it says what is known, what happens by itself and when, and what you may decide.
    """
    with report_errors(as_json):
        if live:
            if as_json:
                raise Misuse("--live writes its JSON to --output.")
            raise typer.Exit(_ask_the_providers(output, minutes, model or [], yes))
        attempts, sentences = _findings()
    if as_json:
        print_json({"attempts": [fields(attempt) for attempt in attempts], "needs_a_person": sentences})
    else:
        _tell(attempts, sentences)
    raise typer.Exit(NEEDS_A_PERSON if sentences or attempts else 0)


def _findings() -> tuple[list[Attempt], list[str]]:
    from nightbatch.batches import home
    from nightbatch.core.errors import Displaced
    from nightbatch.core.profiles import broken_profiles
    from nightbatch.core.settings import Settings
    from nightbatch.job_types import broken_job_types, job_types
    from nightbatch.jobs import rehearsal
    from nightbatch.reporting import stats

    with open_ledger() as store:
        with suppress(Displaced):  # the alert that it raises tells
            home.require(store)
        attempts = stats.attempts(store, Settings.from_env())
        alerts = stats.other_alerts(store)
        server = stats.not_kept(store)
        unregistered = stats.unregistered(store)
    broken = [f"{path} is no job type: {why}" for path, why in broken_job_types().items()]
    broken += [f"{place} is no provider: {why}" for place, why in broken_profiles().items()]
    broken += rehearsal.unwritable(job_types())
    return attempts, server + unregistered + broken + [alert.message for alert in alerts]


def _tell(attempts: list[Attempt], sentences: list[str]) -> None:
    for attempt in attempts:
        _tell_attempt(attempt)
    for sentence in sentences:
        echo(f"- {sentence}")
    if not attempts and not sentences:
        echo("Nothing needs a person.")


def _tell_attempt(attempt: Attempt) -> None:
    about = f"{attempt.jobs:,} jobs, {attempt.provider}, {attempt.model}"
    echo(f"Batch {attempt.batch_id} ({about}) is {attempt.state}.", bold=True)
    echo(f"  Known: {attempt.known}")
    when = f" Next: {attempt.next_at:%Y-%m-%d %H:%M %Z}." if attempt.next_at else ""
    echo(f"  By itself: {attempt.next}{when}")
    for choice, meaning in attempt.choices.items():
        echo(f"  You may: nightbatch {_command(choice, attempt.batch_id)}: {meaning}")


def _command(choice: str, batch: int) -> str:
    if choice == "cancel":
        return f"cancel {batch}"
    return f"release {batch} --{choice}" + (" ID" if choice == "adopt" else "")


def _ask_the_providers(output: Path, minutes: float, models: list[str], yes: bool) -> int:
    from nightbatch.cli.live import run_live

    return run_live(output=output, minutes=minutes, yes=yes, models=models, in_doubt=_in_doubt())


def _in_doubt() -> set[ProviderName]:
    """Return the providers at which the ledger has a create in doubt; without a database there is none to know of."""
    if not os.environ.get("NIGHTBATCH_DSN"):
        return set()
    with open_ledger() as store:
        return {batch.provider for batch in store.open_attempts() if batch.state in ("submitting", "held")}

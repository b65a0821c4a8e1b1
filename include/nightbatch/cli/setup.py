"""Commands around the nights: the database's schema and its identity, and the emulator to try things with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightbatch.cli.options import AsJson, By, Why, login
from nightbatch.cli.output import Misuse, echo, open_ledger, print_json, prompt, report_errors

if TYPE_CHECKING:
    from nightbatch.batches.home import Said


def migrate(as_json: AsJson = False) -> None:
    """Bring the database up to date.

    Safe to repeat, also from two machines at once.
    """
    from nightbatch.core.settings import database
    from nightbatch.postgres.db_errors import translate
    from nightbatch.postgres.migrate import migrate as apply

    with report_errors(as_json), translate():
        applied = apply(database())
    if as_json:
        print_json({"applied": applied})
        return
    for name in applied or ["nothing to do"]:
        echo(name)


def identify(
    moved: Annotated[
        bool, typer.Option("--moved", help="It was moved as it stood, and nothing ran meanwhile.")
    ] = False,
    restored: Annotated[
        bool, typer.Option("--restored", help="It is older than it was: a backup, a snapshot, a standby.")
    ] = False,
    copy: Annotated[bool, typer.Option("--copy", help="It is a copy, and the original goes on.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="--copy: of a whole disk, so that the server tells nothing new.")
    ] = False,
    reason: Why = "",
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Say what happened to a database that is not where it was: moved, restored, or a copy.

    Until then nothing is sent from it: its jobs may have been sent since. Without an option it says how it stands, with exit code
    1 if a person has to say something.
    """
    from nightbatch.batches import home
    from nightbatch.core.errors import Displaced

    with report_errors(as_json):
        options: dict[Said, bool] = {"moved": moved, "restored": restored, "copy": copy}
        chosen = [what for what, given in options.items() if given]
        if len(chosen) > 1:
            raise Misuse("Choose one of --moved, --restored and --copy.")
        with open_ledger() as store:
            if not chosen:
                try:
                    home.require(store)
                except Displaced:
                    if not as_json:
                        for what, meaning in home.MEANINGS.items():
                            echo(f"nightbatch identify --{what}: {meaning}")
                    raise
                done = "This database is where it was."
            else:
                why = prompt(reason, "Why", "--reason")
                done = home.say(store, chosen[0], by=by or login(), reason=why, sure=yes)
    if as_json:
        print_json({"said": chosen[0] if chosen else None, "told": done})
    else:
        echo(done)


def emulator(
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8765,
    state: Annotated[Path, typer.Option(help="Where files, batches and the bill are kept.")] = Path("var/emulator"),
    turnaround: Annotated[float, typer.Option(help="Seconds from a batch's creation to its end.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Of the answers.")] = 1,
) -> None:
    """Run the three providers' batch APIs on 127.0.0.1.

    With a bill and faults on demand; nothing is paid.
    """
    try:
        from nightbatch_local.emulator.app import run_emulator
        from nightbatch_local.emulator.settings import EmulatorSettings
    except ModuleNotFoundError:
        with report_errors(as_json=False):
            raise Misuse("The emulator is not installed: pip install 'nightbatch[local]'.") from None
    run_emulator(EmulatorSettings(state=state, port=port, turnaround=turnaround, seed=seed))

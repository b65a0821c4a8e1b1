"""What stands around the nights: the database's schema, and the emulator to try things with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nightbatch.cli.options import AsJson
from nightbatch.cli.output import print_json, say, told


def migrate(as_json: AsJson = False) -> None:
    """Bring the database up to date.

    Safe to repeat, also from two machines at once.
    """
    from nightbatch.postgres.migrate import migrate as apply
    from nightbatch.postgres.troubles import in_words
    from nightbatch.settings import database

    with told(as_json), in_words():
        applied = apply(database())
    if as_json:
        print_json({"applied": applied})
        return
    for name in applied or ["nothing to do"]:
        say(name)


def emulator(
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8765,
    state: Annotated[Path, typer.Option(help="Where files, batches and the bill are kept.")] = Path("var/emulator"),
    turnaround: Annotated[float, typer.Option(help="Seconds from a batch's creation to its end.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Of the answers.")] = 1,
) -> None:
    """The three providers' batch APIs on 127.0.0.1.

    With a bill and faults on demand; nothing is paid.
    """
    from nightbatch.emulator.app import run_emulator
    from nightbatch.emulator.settings import EmulatorSettings

    run_emulator(EmulatorSettings(state=state, port=port, turnaround=turnaround, seed=seed))

"""`nightbatch`: each command reads its settings, calls one use case and shows the outcome.

Imports stand inside the commands, so that `nightbatch --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from nightbatch.cli import doctor, jobs, money, report, results, setup, status, steer

STOPPED = 130
CLOSED_PIPE = 141
"""As a shell counts what a signal ends: 128 + SIGINT or SIGPIPE. Typer does so for Ctrl-C, but for one at a question."""


class Commands(TyperGroup):
    """The group of all commands. One whose reader has gone away, such as ``head``, or that is stopped, ends without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and flush everything that it wrote."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # or Python complains once more when it flushes what is left
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            raise typer.Exit(CLOSED_PIPE) from None
        except typer.Abort:
            typer.echo(err=True)
            raise typer.Exit(STOPPED) from None


app = typer.Typer(
    cls=Commands,
    help="LLM work that nobody waits for, at half the price. The database is the one in NIGHTBATCH_DSN."
    " Exit codes: 0 done, 1 something needs a person, 2 wrong usage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # plain help is the same in a pipe, and there in half the time
)

for command in (
    setup.migrate,
    setup.identify,
    jobs.enqueue,
    money.estimate,
    steer.run,
    status.status,
    results.results,
    jobs.request,
    jobs.similar,
    report.report,
    money.calculate,
    doctor.doctor,
    steer.alerts,
    jobs.cancel,
    steer.release,
    steer.retry,
    steer.load,
    setup.emulator,
):
    app.command()(command)

"""Show a person batches, jobs and money while the night runs."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from nightbatch.core.errors import NightbatchError
from nightbatch.core.ledger import Batch
from nightbatch.core.profiles import BUILT_IN
from nightbatch.postgres import figures
from nightbatch.postgres.store import Store, open_store
from nightbatch.reporting import usd
from nightbatch.reporting.stats import Run
from nightbatch_local.stack.stack import Stack

_FINISHED = ("success", "failed")


def watch(stack: Stack, run_id: str, console: Console, *, deadline: float) -> str:
    """Show the run until it ends; return its final state. Raises `NightbatchError` at the deadline (monotonic seconds)."""
    last = ""
    with (
        open_store(stack.dsn) as store,
        Live(console=console, refresh_per_second=4, transient=True) as live,
    ):
        while True:
            state = _state(stack, run_id)
            totals = figures.totals(store, run_id)
            if totals is not None:
                line = _line(totals)
                if console.is_terminal:
                    live.update(_table(store, run_id, line))
                elif line != last:
                    console.print(line, highlight=False)
                last = line
            if state in _FINISHED:
                return state
            if time.monotonic() > deadline:
                raise NightbatchError(f"The run is still {state} after its time; see {stack.root / 'logs'}.")
            time.sleep(0.5)


def _state(stack: Stack, run_id: str) -> str:
    """Return the run's state; ``queued`` also before another Dag has started the run."""
    try:
        return str(stack.dag_run("nightbatch", run_id)["state"])
    except NightbatchError as error:
        if "404" not in str(error):
            raise
        return "queued"


def _line(totals: Run) -> str:
    closed = totals.batches - totals.open_batches
    return (
        f"{closed}/{totals.batches} batches done, {totals.jobs:,} jobs accounted for,"
        f" {usd(totals.batch_cost_usd)} paid instead of {usd(totals.realtime_cost_usd)}"
    )


def _table(store: Store, run_id: str, line: str) -> Table:
    table = Table(title=line, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("provider")
    for state in ("planned", "sent", "loaded"):
        table.add_column(state, justify="right")
    table.add_column("")
    batches = store.run_batches(run_id)
    for provider in BUILT_IN:
        own = [batch for batch in batches if batch.provider == provider]
        counts = [sum(_stage(batch) == stage for batch in own) for stage in range(3)]
        bar = "[green]" + "■" * counts[2] + "[/green][yellow]" + "■" * counts[1] + "[/yellow][dim]" + "□" * counts[0]
        table.add_row(provider, *map(str, counts), bar)
    return table


def _stage(batch: Batch) -> int:
    if batch.closed_at:
        return 2
    return 1 if batch.state == "submitted" else 0

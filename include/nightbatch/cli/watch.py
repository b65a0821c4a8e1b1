"""`nightbatch status --watch`: a running night, until all of it is back."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from nightbatch.cli.output import console, echo, open_ledger, print_json, readable, table
from nightbatch.cli.status import night_json
from nightbatch.core.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nightbatch.reporting.stats import Night, Progress

_AROUND = 6
"""Lines of a screen that are not rows of the table."""


def follow(every: float, *, as_json: bool) -> None:
    """Show the latest run, looking each ``every`` seconds, until none of its batches is open.

    Each look has a connection of its own: a night is longer than many a connection lives. Raises `ConfigurationError` where
    there is no run, or no database.
    """
    if not as_json and sys.stdout.isatty() and console().is_interactive:
        _show_live(every)
    else:
        _tell_changes(every, as_json=as_json)


def _look() -> tuple[datetime, Night]:
    from nightbatch.reporting import stats

    with open_ledger() as store:
        now, night = store.now(), stats.night(store)
    if night.run is None:
        raise ConfigurationError("No run was planned yet.")
    return now, night


def _is_over(night: Night) -> bool:
    """Return whether all batches of the run are closed. What others left open is shown, and not waited for."""
    assert night.run is not None
    return all(batch.closed_at is not None for batch in night.batches if batch.run_id == night.run.run_id)


def _show_live(every: float) -> None:
    from rich.live import Live

    screen = console()
    now, night = _look()
    with Live(_screen(now, night, screen.height - _AROUND), console=screen, auto_refresh=False) as live:
        while not _is_over(night):
            time.sleep(every)
            now, night = _look()
            live.update(_screen(now, night, screen.height - _AROUND), refresh=True)
    echo(_summary(night))


def _tell_changes(every: float, *, as_json: bool) -> None:
    """Print a line for each change; at first one for each batch as it stands."""
    known: dict[int, str] = {}
    while True:
        now, night = _look()
        changed = [batch for batch in night.batches if known.get(batch.batch_id) != batch.state]
        if as_json and (changed or not known):
            print_json(night_json(night))
        elif not as_json:
            for batch in changed:
                echo(f"{now:%Y-%m-%d %H:%M:%S} {_line(batch, now)}; {_back(night)}")
        known |= {batch.batch_id: batch.state for batch in changed}
        sys.stdout.flush()
        if _is_over(night):
            break
        time.sleep(every)
    if not as_json:
        echo(_summary(night))


def _line(batch: Progress, now: datetime) -> str:
    came = f", {batch.succeeded:,} succeeded, {batch.failed:,} failed" if batch.state == "loaded" else ""
    known = f" as {batch.provider_batch_id}" if batch.provider_batch_id else ""
    why = f" ({batch.error})" if batch.error else ""
    return (
        f"batch {batch.batch_id} ({batch.provider} {batch.model}, {batch.jobs:,} jobs) is {batch.state}{known}"
        f" after {_elapsed(batch, now)}{came}{why}"
    )


def _elapsed(batch: Progress, now: datetime) -> str:
    """Return the time since a batch was sent, or planned, until its end, or until now."""
    from nightbatch.core.amounts import duration

    since = batch.submitted_at or batch.planned_at
    return duration(max(((batch.ended_at or batch.closed_at or now) - since).total_seconds(), 0))


def _back(night: Night) -> str:
    return f"{night.jobs_back:,} of {night.jobs_sent:,} jobs back"


def _summary(night: Night) -> str:
    from nightbatch.core.amounts import usd

    run = night.run
    assert run is not None
    return (
        f"Run {run.run_id}: all of its {run.batches:,} batches are closed; {run.succeeded:,} jobs succeeded, {run.failed:,}"
        f" failed, {run.requeued:,} go again; saved {usd(run.savings_usd)}."
    )


def _screen(now: datetime, night: Night, room: int) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    assert night.run is not None
    # what is open comes first, since a screen may be too low for all of a large night
    batches = sorted(night.batches, key=lambda batch: (batch.closed_at is not None, batch.batch_id))
    shown = batches[: max(room, 1)]
    rest = [Text(f"and {len(batches) - len(shown):,} more")] if len(shown) < len(batches) else []
    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(total=max(night.jobs_sent, 1), completed=night.jobs_back, width=40), _back(night))
    title = Text(readable(f"Run {night.run.run_id} at {now:%H:%M:%S %Z}"))
    return Group(title, bar, _table(shown, now), *rest)


def _table(batches: Sequence[Progress], now: datetime) -> RenderableType:
    from nightbatch.core.amounts import NOTHING, duration

    columns = ("batch", "provider", "model", "state", "jobs", "succeeded", "failed", "elapsed", "typical")
    rows = [
        (batch.batch_id, batch.provider, batch.model, batch.state, f"{batch.jobs:,}", f"{batch.succeeded:,}",
         f"{batch.failed:,}", _elapsed(batch, now),
         NOTHING if batch.typical_seconds is None else duration(batch.typical_seconds))
        for batch in batches
    ]  # fmt: skip
    return table("", columns, rows, figures=("batch", "jobs", "succeeded", "failed", "elapsed", "typical"))

"""The figures as plain data, and as Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import tables
from tests.bench.peers.contenders import CONTENDERS, Contender

if TYPE_CHECKING:
    from tests.bench.peers.measure import Crash

REPORT = Path(__file__).parents[3] / "var" / "bench" / "peers.json"


@dataclass(frozen=True, slots=True)
class Row:
    """A contender with so many jobs: medians of the rounds, None where it did not get that far.

    ``seconds`` is send and fetch together, ``spread`` its least and most. ``above_mb``: peak memory above the process with
    its imports. ``billed`` lines after the crash, ``paid_twice`` jobs among them, ``answers`` in hand. ``note`` says what
    went wrong.
    """

    name: str
    version: str
    jobs: int
    rounds: int
    send_seconds: float | None = None
    fetch_seconds: float | None = None
    seconds: float | None = None
    spread: tuple[float, float] | None = None
    peak_mb: float | None = None
    above_mb: float | None = None
    billed: int | None = None
    paid_twice: int | None = None
    answers: int | None = None
    note: str = ""


def row_of(
    contender: Contender,
    jobs: int,
    version: str,
    rounds: Sequence[Mapping[str, float]],
    crash: Crash | None,
    note: str,
) -> Row:
    """The row of its rounds and its crash."""
    row = Row(contender.name, version, jobs, len(rounds), note=note or (crash.error if crash else ""))
    if crash:
        row = replace(row, billed=crash.billed, paid_twice=crash.paid_twice, answers=crash.answers)
    if not rounds:
        return row
    both = [turn["send_seconds"] + turn["fetch_seconds"] for turn in rounds]
    return replace(
        row,
        send_seconds=round(statistics.median(turn["send_seconds"] for turn in rounds), 2),
        fetch_seconds=round(statistics.median(turn["fetch_seconds"] for turn in rounds), 2),
        seconds=round(statistics.median(both), 2),
        spread=(round(min(both), 2), round(max(both), 2)),
        peak_mb=round(statistics.median(turn["peak_mb"] for turn in rounds), 1),
        above_mb=round(statistics.median(turn["peak_mb"] - turn["bare_mb"] for turn in rounds), 1),
    )


def save(rows: Iterable[Row], path: Path = REPORT) -> None:
    """Write them as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def saved(path: Path = REPORT) -> list[Row]:
    """What the last run wrote. Raises `FileNotFoundError` when there was none."""
    return [Row(**{**row, "spread": row["spread"] and tuple(row["spread"])}) for row in json.loads(path.read_text())]


def markdown(rows: Sequence[Row]) -> str:
    """A table for each size, then in words what the contenders do and do not."""
    parts = [_table([row for row in rows if row.jobs == jobs]) for jobs in sorted({row.jobs for row in rows})]
    present = {row.name for row in rows}
    words = [
        f"- **{one.name}** {next(row.version for row in rows if row.name == one.name)}: {one.lacks} After the crash: {one.again}"
        for one in CONTENDERS
        if one.name in present
    ]
    return "\n\n".join([*parts, "\n".join(words)]) + "\n"


def _table(rows: Sequence[Row]) -> str:
    ours = next((row.seconds for row in rows if row.name == CONTENDERS[0].name), None)
    head = (
        f"{rows[0].jobs:,} OpenAI jobs",
        "rounds",
        "send s",
        "fetch s",
        "both s (spread)",
        "× nightbatch's time",
        "peak MB",
        "above imports MB",
        "billed after the crash",
        "answers then",
    )
    return tables.markdown(head, [_cells(row, ours) for row in rows])


def _cells(row: Row, ours: float | None) -> Sequence[str]:
    if row.seconds is None or row.spread is None:
        return (row.name, row.note, *[""] * 8)
    ratio = f"{row.seconds / ours:.1f}" if ours else ""
    billed = "" if row.billed is None else f"{row.billed:,} of {row.jobs:,}"
    answers = "" if row.answers is None else f"{row.answers:,}"
    return (
        row.name + (f" ({row.note})" if row.note else ""),
        str(row.rounds),
        f"{row.send_seconds:.2f}",
        f"{row.fetch_seconds:.2f}",
        f"{row.seconds:.2f} ({row.spread[0]:.2f}–{row.spread[1]:.2f})",
        ratio,
        f"{row.peak_mb:.0f}",
        f"{row.above_mb:.0f}",
        billed,
        answers,
    )

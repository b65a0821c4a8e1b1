"""``make bench``: what a night costs in time and memory, each stage beside its own limit, in one run.

Prints the table, and writes ``var/bench/report.json`` (``[{stage, jobs, goal, figure, spread, met, ...}]``) and the figures of
docs/performance.md. ``--parts`` chooses; the night through Airflow and the peers take long, and have targets of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from nightbatch.postgres.migrate import migrate
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests.bench import ageing, document, imports, waits
from tests.bench.server import database, server
from tests.bench.stages import STAGES, Place, Stage
from tests.bench.tables import markdown

REPORT = Path(__file__).parents[2] / "var" / "bench" / "report.json"
PARTS = ("stages", "nights", "imports", "waits")
_MAX_MEMORY = 64  # MB, above the bare process with its imports
_MAX_GROWTH = 11  # times the seconds, for ten times the jobs
_SLOWEST_AGED = 1.1  # times the seconds of the first nights


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the report. ``spread`` is the least and the most of the rounds; ``figure`` their median, in ``unit``."""

    stage: str
    jobs: int
    goal: float
    figure: float
    spread: tuple[float, float]
    met: bool
    unit: str = "times the reference's speed"
    against: str = ""
    seconds: float | None = None
    memory_mb: float | None = None


def main() -> None:
    options = _options()
    rows: list[Row] = []
    if "stages" in options.parts:
        rows += stages(options.jobs, options.rounds, options.stages)
        document.put("stages", f"{document.measured_on()}\n\n{as_markdown(rows)}")
    if "nights" in options.parts:
        nights, rested = ageing.aged(options.night_jobs, options.nights)
        rows += [
            aged(f"night {len(nights)} without a pause", ageing.slowdown(nights, nights), options.night_jobs),
            aged(
                f"night {len(nights) + len(rested)} after a rest", ageing.slowdown(nights, rested), options.night_jobs
            ),
        ]
        document.put("nights", f"{document.measured_on()}\n\n{ageing.render(nights, rested, options.night_jobs)}")
    if "imports" in options.parts:
        document.put("imports", f"{document.measured_on()}\n\n{imports.render(imports.measure(options.rounds))}")
    if "waits" in options.parts:
        document.put("waits", f"{document.measured_on()}\n\n{waits.render(waits.measure())}")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(as_markdown(rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, in under five minutes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--jobs", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", nargs="+", default=[stage.module for stage in STAGES])
    parser.add_argument("--nights", type=int, default=ageing.NIGHTS)
    parser.add_argument("--night-jobs", type=int, default=100_000)
    options = parser.parse_args()
    if options.quick:
        options.parts, options.jobs, options.rounds = ["stages", "nights"], [50_000], 1
        options.nights, options.night_jobs = 8, 10_000
    return options


def stages(sizes: Iterable[int], rounds: int, modules: Iterable[str]) -> list[Row]:
    """Every stage at every size, with what memory it takes at the largest and how it grows from the smallest."""
    chosen, found = [stage for stage in STAGES if stage.module in modules], []
    with server() as postgres:
        for jobs in sizes:
            for stage in chosen:
                if stage.only is None or stage.only == jobs or jobs == min(sizes) < stage.only:
                    found.append(measured(postgres, stage, jobs, rounds))
                    print(told(found[-1]), flush=True)
    return [*found, *_memory(found, max(sizes)), *_growth(found, min(sizes), max(sizes))]


def measured(postgres: EmbeddedPostgres, stage: Stage, jobs: int, rounds: int) -> Row:
    """One stage at one size: how many times the reference's speed, by round."""
    ratios, seconds, memory = [], [], []
    with database(postgres, stage.module, jobs) as place:
        migrate(place.dsn)
        child(stage, "prepare", place)
        for _ in range(rounds):
            child(stage, "reset", place)
            reference = child(stage, "reference", place)
            child(stage, "reset", place)
            ours = child(stage, "ours", place)
            print(f"  {stage.module} {jobs:,}: reference {reference} ours {ours}", file=sys.stderr, flush=True)
            ratios.append(reference["seconds"] / ours["seconds"])
            seconds.append(ours["seconds"])
            memory.append(ours["memory_mb"])
    figure = statistics.median(ratios)
    return Row(
        stage=stage.name,
        jobs=jobs,
        goal=stage.goal,
        figure=round(figure, 3),
        spread=(round(min(ratios), 3), round(max(ratios), 3)),
        met=figure >= stage.goal,
        against=stage.against,
        seconds=round(statistics.median(seconds), 2),
        memory_mb=round(max(memory), 1),
    )


def child(stage: Stage, function: str, place: Place) -> dict[str, float]:
    """A function of a stage in a process of its own."""
    where = ["--dsn", place.dsn, "--folder", str(place.folder), "--jobs", str(place.jobs)]
    command = [sys.executable, "-m", "tests.bench.stages.child", stage.module, function, *where]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _memory(rows: Iterable[Row], jobs: int) -> list[Row]:
    held = [row.memory_mb for row in rows if row.jobs == jobs and row.memory_mb is not None]
    most = max(held, default=0.0)
    spread = (min(held, default=0.0), most)
    return [Row("client memory", jobs, _MAX_MEMORY, most, spread, most <= _MAX_MEMORY, "MB at the most, of any stage")]


def _growth(rows: list[Row], small: int, large: int) -> list[Row]:
    seconds = {(row.stage, row.jobs): row.seconds for row in rows}
    times = [
        after / before * (10 * small / large)
        for (stage, jobs), before in seconds.items()
        if jobs == small < large and before and (after := seconds.get((stage, large)))
    ]
    if not times:
        return []
    most, goal = round(max(times), 2), _MAX_GROWTH
    unit = "times the seconds for ten times the jobs, of any stage"
    return [Row("growth", large, goal, most, (round(min(times), 2), most), most <= goal, unit)]


def aged(stage: str, times: float, jobs: int) -> Row:
    """How the last nights in one database compare with the first ones."""
    figure, unit = round(times, 2), "times the seconds of the first nights"
    return Row(stage, jobs, _SLOWEST_AGED, figure, (figure, figure), figure <= _SLOWEST_AGED, unit)


def as_markdown(rows: Iterable[Row]) -> str:
    """The table of docs/performance.md."""
    head = ["stage", "jobs", "goal", "figure", "spread", "met", "seconds", "MB", "what the figure is"]
    return markdown(
        head,
        [
            [
                row.stage,
                f"{row.jobs:,}",
                f"{row.goal:g}",
                f"{row.figure:.2f}",
                f"{row.spread[0]:.2f}–{row.spread[1]:.2f}",
                "yes" if row.met else "no",
                "" if row.seconds is None else f"{row.seconds:.1f}",
                "" if row.memory_mb is None else f"{row.memory_mb:.0f}",
                f"{row.unit}{': ' + row.against if row.against else ''}",
            ]
            for row in rows
        ],
    )


def told(row: Row) -> str:
    """A line for the terminal, as soon as it is known."""
    return (
        f"{row.stage:30} {row.jobs:>9,} {row.figure:7.2f} (goal {row.goal:g}, {row.spread[0]:.2f}–{row.spread[1]:.2f})"
    )


if __name__ == "__main__":
    main()

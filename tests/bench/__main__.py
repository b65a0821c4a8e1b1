"""``make bench``: what a night costs in time and memory, each stage beside its own limit, in one run.

Writes ``var/bench/report.json`` (``[{stage, jobs, goal, figure, spread, met}]``) and docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from nightbatch.postgres.embedded import EmbeddedPostgres
from nightbatch.postgres.migrate import migrate
from tests.bench.server import database, server
from tests.bench.stages import STAGES, Place, Stage

REPORT = Path(__file__).parents[2] / "var" / "bench" / "report.json"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the report. ``spread`` is the least and the most of the rounds; ``figure`` their median."""

    stage: str
    jobs: int
    goal: float
    figure: float
    spread: tuple[float, float]
    met: bool
    unit: str = "×"
    against: str = ""
    seconds: float = 0.0
    memory_mb: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", nargs="+", default=[stage.module for stage in STAGES])
    options = parser.parse_args()
    rows: list[Row] = []
    with server() as postgres:
        for jobs in options.jobs:
            for stage in STAGES:
                if stage.module in options.stages:
                    rows.append(measured(postgres, stage, jobs, options.rounds))
                    print(told(rows[-1]), flush=True)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


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


def told(row: Row) -> str:
    return (
        f"{row.stage:30} {row.jobs:>9,} {row.figure:7.2f} (goal {row.goal:g}, {row.spread[0]:.2f}–{row.spread[1]:.2f})"
    )


if __name__ == "__main__":
    main()

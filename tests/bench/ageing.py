"""Thirty nights in one database, autovacuum running: whether the thirtieth is as fast as the first.

``python -m tests.bench.ageing --jobs 100000``. Each night is a process of its own, as a night's tasks are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from nightbatch.postgres.migrate import migrate
from tests.bench.server import database, server
from tests.bench.stages import Place
from tests.bench.tables import markdown

NIGHTS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--nights", type=int, default=NIGHTS)
    parser.add_argument("--night", nargs=3, metavar=("DSN", "FOLDER", "RUN"))
    options = parser.parse_args()
    if options.night:
        _one(options.night, options.jobs)
    else:
        print(render(aged(options.jobs, options.nights), options.jobs))


def _one(where: list[str], jobs: int) -> None:
    from tests.bench.stages import night

    dsn, folder, run_id = where
    print(json.dumps(night.one_night(Place(dsn, Path(folder), jobs), run_id).seconds))


def aged(jobs: int, nights: int) -> list[dict[str, float]]:
    """Seconds of each night, by step."""
    from tests.bench.stages import night

    found = []
    with server() as postgres, database(postgres, "ageing", jobs) as place:
        migrate(place.dsn)
        night.prepare(place)
        for number in range(nights):
            where = ["--night", place.dsn, str(place.folder), f"night-{number}"]
            command = [sys.executable, "-m", __spec__.name, "--jobs", str(jobs), *where]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"  night {number + 1}: {sum(found[-1].values()):.2f} s {found[-1]}", file=sys.stderr, flush=True)
    return found


def render(nights: list[dict[str, float]], jobs: int) -> str:
    """Some of the nights as a Markdown table."""
    steps = list(nights[0])
    chosen = sorted({1, 2, len(nights) // 3, 2 * len(nights) // 3, len(nights)} - {0})
    rows = [
        [
            f"night {number}",
            *(f"{nights[number - 1][step]:.2f}" for step in steps),
            f"{sum(nights[number - 1].values()):.2f}",
        ]
        for number in chosen
    ]
    table = markdown([f"{jobs:,} jobs a night, in one database", *(f"{step} s" for step in steps), "all s"], rows)
    return f"{table}\n\nThe last three take {slowdown(nights):.2f} times as long as the second to fourth."


def slowdown(nights: list[dict[str, float]]) -> float:
    """How many times the second to fourth night's seconds the last three take: the first alone finds everything empty."""
    early, late = (statistics.median(sum(night.values()) for night in part) for part in (nights[1:4], nights[-3:]))
    return late / early


if __name__ == "__main__":
    main()

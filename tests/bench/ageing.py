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

REPORT = Path(__file__).parents[2] / "var" / "bench" / "ageing.json"
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
        keep(aged(options.jobs, options.nights))


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


def keep(nights: list[dict[str, float]]) -> None:
    """As JSON, for the report."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(nights, indent=2) + "\n")


def slowdown(nights: list[dict[str, float]]) -> float:
    """How many times the second to fourth night's seconds the last three take: the first alone finds everything empty."""
    early, late = (statistics.median(sum(night.values()) for night in part) for part in (nights[1:4], nights[-3:]))
    return late / early


if __name__ == "__main__":
    main()

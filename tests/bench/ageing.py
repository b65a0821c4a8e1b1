"""Thirty nights in one database, autovacuum running: whether the thirtieth is as fast as the first.

``python -m tests.bench.ageing --jobs 100000``. Each night is a process of its own, as a night's tasks are. They follow each other
without a pause, so that autovacuum works beside them for what it has a day for; three more come once it is at rest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from nightbatch.postgres.migrate import migrate
from tests.bench.server import database, server
from tests.bench.stages import Place
from tests.bench.tables import markdown

NIGHTS = 30

Nights = list[dict[str, float]]

_WORKING = "SELECT FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--nights", type=int, default=NIGHTS)
    parser.add_argument("--night", nargs=3, metavar=("DSN", "FOLDER", "RUN"))
    options = parser.parse_args()
    if options.night:
        _one(options.night, options.jobs)
    else:
        print(render(*aged(options.jobs, options.nights), options.jobs))


def _one(where: list[str], jobs: int) -> None:
    from tests.bench.stages import night

    dsn, folder, run_id = where
    print(json.dumps(night.one_night(Place(dsn, Path(folder), jobs), run_id).seconds))


def aged(jobs: int, nights: int) -> tuple[Nights, Nights]:
    """Seconds of each night by step, and of three more after autovacuum came to rest."""
    from tests.bench.stages import night

    with server() as postgres, database(postgres, "ageing", jobs) as place:
        migrate(place.dsn)
        night.prepare(place)
        without_pause = [_night(place, number) for number in range(1, nights + 1)]
        print(f"  autovacuum came to rest after {_rest(place.dsn):.0f} s", file=sys.stderr, flush=True)
        return without_pause, [_night(place, number) for number in range(nights + 1, nights + 4)]


def _night(place: Place, number: int) -> dict[str, float]:
    where = ["--night", place.dsn, str(place.folder), f"night-{number}"]
    command = [sys.executable, "-m", __spec__.name, "--jobs", str(place.jobs), *where]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  night {number}: {sum(found.values()):.2f} s {found}", file=sys.stderr, flush=True)
    return found


def _rest(dsn: str) -> float:
    """Seconds until autovacuum, which looks once a minute, has found nothing to do; ten minutes at most."""
    began = last_seen = time.monotonic()
    with psycopg.connect(dsn, autocommit=True) as database:
        while (now := time.monotonic()) - last_seen < 65 and now - began < 600:
            if database.execute(_WORKING).fetchone() is not None:
                last_seen = now
            time.sleep(0.5)
    return last_seen - began


def render(without_pause: Nights, rested: Nights, jobs: int) -> str:
    """Some of the nights as a Markdown table."""
    nights = without_pause + rested
    steps = list(nights[0])
    chosen = sorted({1, 2, len(without_pause) // 3, 2 * len(without_pause) // 3, len(without_pause), len(nights)} - {0})
    rows = [
        [
            f"night {number}",
            *(f"{nights[number - 1][step]:.2f}" for step in steps),
            f"{sum(nights[number - 1].values()):.2f}",
        ]
        for number in chosen
    ]
    table = markdown([f"{jobs:,} jobs a night, in one database", *(f"{step} s" for step in steps), "all s"], rows)
    return (
        f"{table}\n\nThe last three without a pause, autovacuum at work beside them, take"
        f" {slowdown(without_pause, without_pause):.2f} times as long as the second to fourth; those after it came to rest"
        f" {slowdown(without_pause, rested):.2f} times."
    )


def slowdown(without_pause: Nights, late: Nights) -> float:
    """How many times the second to fourth night's seconds the last three take: the first alone finds everything empty."""
    before, after = (
        statistics.median(sum(night.values()) for night in part) for part in (without_pause[1:4], late[-3:])
    )
    return after / before


if __name__ == "__main__":
    main()

"""Run it, print the table, write var/bench/peers.json; with all contenders also the figures of docs/performance.md."""

from __future__ import annotations

import argparse

import tests.bench.peers
from tests.bench import document
from tests.bench.peers.contenders import CONTENDERS
from tests.bench.peers.measure import measure
from tests.bench.peers.table import markdown, save


def main() -> None:
    options = _options()
    chosen = [one for one in CONTENDERS if one.name in options.contenders]
    rows = []
    for jobs in options.jobs:
        rows += measure(jobs, rounds=options.rounds, contenders=chosen)
        save(rows)
    table = markdown(rows)
    print(table)
    if chosen == list(CONTENDERS):
        document.put("peers", f"{document.measured_on()}\n\n{table}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=tests.bench.peers.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [one.name for one in CONTENDERS]
    parser.add_argument("--jobs", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", nargs="+", choices=names, default=names)
    return parser.parse_args()


if __name__ == "__main__":
    main()

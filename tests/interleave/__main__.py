"""`make interleave SEEDS=2000`: seeds on all cores; `--seed N` tells one, step by step."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from nightbatch.postgres.embedded import EmbeddedPostgres
from tests.interleave.house import House, play
from tests.scratch import scratch

_PIECE = 20


def main() -> int:
    """1 if a promise was broken."""
    asked = argparse.ArgumentParser(prog="python -m tests.interleave", description=__doc__)
    asked.add_argument("--seeds", type=int, default=2000, help="how many")
    asked.add_argument("--first", type=int, default=0, help="the first of them")
    asked.add_argument("--seed", type=int, help="this one only, step by step")
    asked.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--hostile", action="store_true", help="in databases whose settings are all others")
    given = asked.parse_args()
    with scratch() as folder, EmbeddedPostgres(folder / "data", fsync=False, die_with_parent=True) as server:
        if given.seed is not None:
            return _tell(server, given.seed, hostile=given.hostile)
        seeds = range(given.first, given.first + given.seeds)
        return _play_all(server, seeds, given.processes, hostile=given.hostile)


def _tell(server: EmbeddedPostgres, seed: int, *, hostile: bool) -> int:
    with House(server.dsn(), hostile=hostile) as house:
        verdict = house.play(seed)
    print(*verdict.story, "", *(verdict.wrong or ["The promise was kept."]), sep="\n")
    return 1 if verdict.wrong else 0


def _play_all(server: EmbeddedPostgres, seeds: range, processes: int, *, hostile: bool) -> int:
    began, found, steps = time.monotonic(), [], 0
    pieces = [seeds[at : at + _PIECE] for at in range(0, len(seeds), _PIECE)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(play, server.dsn(), piece, hostile=hostile) for piece in pieces]):
            for verdict in done.result():
                steps += verdict.steps
                if verdict.wrong:
                    found.append(verdict)
                    print(f"seed {verdict.seed}: {'; '.join(verdict.wrong)[:600]}", flush=True)
    kinds = Counter(kind for verdict in found for kind in {kind_of(wrong) for wrong in verdict.wrong})
    for kind, count in kinds.most_common():
        first = min(verdict.seed for verdict in found if kind in map(kind_of, verdict.wrong))
        print(f"{kind:40} {count:5} of {len(seeds):,} seeds, the first is {first}; one in {len(seeds) / count:.0f}")
    print(f"{len(seeds):,} seeds, {steps:,} steps in {time.monotonic() - began:.0f} s: {len(found)} find something")
    return 1 if found else 0


_KINDS = ("was paid", "not at rest", "which nobody wanted", "closed attempt", "the report", "was sent with", "failed: ")


def kind_of(wrong: str) -> str:
    """What sort of find it is."""
    if " times: " in wrong:
        return "paid twice"
    return next((kind for kind in _KINDS if kind in wrong), wrong[:40])


if __name__ == "__main__":
    sys.exit(main())

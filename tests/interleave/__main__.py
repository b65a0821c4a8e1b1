"""`make interleave SEEDS=2000`: seeds on all cores; `--seed N` tells one, step by step."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context

from psycopg.conninfo import make_conninfo

from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests.crash.surroundings import MEANINGS, PLAIN
from tests.interleave.house import House, play
from tests.interleave.story import Verdict
from tests.scratch import scratch
from tests.surroundings import pooled

_PIECE = 20


def main() -> int:
    """1 if a promise was broken."""
    asked = argparse.ArgumentParser(prog="python -m tests.interleave", description=__doc__)
    asked.add_argument("--seeds", type=int, default=2000, help="how many")
    asked.add_argument("--first", type=int, default=0, help="the first of them")
    asked.add_argument("--seed", type=int, help="this one only, step by step")
    asked.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--surrounding", choices=MEANINGS, default=PLAIN, help="the world in which they are played")
    given = asked.parse_args()
    with ExitStack() as kept:
        folder = kept.enter_context(scratch())
        server = kept.enter_context(EmbeddedPostgres(folder / "data", fsync=False, die_with_parent=True))
        dsn, pooled_dsn = server.dsn(), None
        if given.surrounding == "pgbouncer":
            pooled_dsn = make_conninfo(dsn, port=kept.enter_context(pooled(server)))
        if given.seed is not None:
            return _tell(House(dsn, given.surrounding, pooled_dsn), given.seed)
        seeds = range(given.first, given.first + given.seeds)
        return _play_all(
            seeds, given.processes, partial(play, dsn, surrounding=given.surrounding, pooled_dsn=pooled_dsn)
        )


def _tell(house: House, seed: int) -> int:
    with house:
        verdict = house.play(seed)
    print(*verdict.story, "", *(verdict.wrong or ["The promise was kept."]), sep="\n")
    return 1 if verdict.wrong else 0


def _play_all(seeds: range, processes: int, play_these: Callable[[range], list[Verdict]]) -> int:
    began, found, steps = time.monotonic(), [], 0
    pieces = [seeds[at : at + _PIECE] for at in range(0, len(seeds), _PIECE)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(play_these, piece) for piece in pieces]):
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

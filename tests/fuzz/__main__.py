"""`make fuzz`: schemas and templates of every kind at every provider; `--seed N` tells one."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import orjson

from nightbatch.core.profiles import BUILT_IN
from tests.fuzz.judge import Tally, asked, judge


def main() -> int:
    """1 if anything but a rejection in words or an answer was seen."""
    given = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    given.add_argument("--examples", type=int, default=5000, help="for each provider")
    given.add_argument("--first", type=int, default=0, help="the first seed")
    given.add_argument("--seed", type=int, help="this one only")
    found = given.parse_args()
    if found.seed is not None:
        kind, raw = asked(found.seed)
        print(kind.name, raw.decode(), orjson.dumps(kind.schema).decode(), sep="\n")
    first, many = (found.first, found.examples) if found.seed is None else (found.seed, 1)
    began = time.monotonic()
    with ProcessPoolExecutor(min(3, many), get_context("spawn")) as pool:
        tallies = list(pool.map(partial(judge, seeds=range(first, first + many)), BUILT_IN))
    for provider, tally in zip(BUILT_IN, tallies, strict=True):
        _tell(provider, many, tally)
    print(f"{many * len(BUILT_IN):,} examples in {time.monotonic() - began:.0f} s")
    return 1 if any(tally.wrong for tally in tallies) else 0


def _tell(provider: str, many: int, tally: Tally) -> None:
    refused = sum("refused by the emulator" in wrong for wrong in tally.wrong.values())
    rejected = sum(tally.rejected.values())
    print(
        f"{provider}: {many:,} schemas and templates: {tally.sent:,} sent, {rejected:,} rejected,"
        f" {len(tally.wrong) - refused} exceptions, {refused} refused by the emulator"
    )
    for reason, count in tally.rejected.most_common():
        print(f"  {count:6,}  {reason}")
    for seed, wrong in list(tally.wrong.items())[:20]:
        print(f"  seed {seed}: {wrong}")


if __name__ == "__main__":
    sys.exit(main())

"""`make mutation-test`: every mutation has to turn a test red. Names on the command line choose some of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutation.guard import ROOT, Mutation, Outdated, Verdict, ask, copy_tree, run
from tests.mutation.mutations import MUTATIONS
from tests.scratch import scratch


def main(arguments: Sequence[str] | None = None, known: Sequence[Mutation] = MUTATIONS, root: Path = ROOT) -> int:
    """Try the mutations; return how many nobody saw, or could not be tried."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="part of a mutation's name; without one, all")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    options = parser.parse_args(arguments)
    chosen = [one for one in known if not options.names or any(name in one.name for name in options.names)]
    if not chosen:
        parser.error(f"no mutation is called like {' or '.join(options.names)}")
    began = time.monotonic()
    bad = _try_all(chosen, options.jobs, root)
    print(f"{len(chosen)} mutations in {time.monotonic() - began:.0f} s: {len(chosen) - bad} caught, {bad} not.")
    return bad


def _try_all(chosen: Sequence[Mutation], jobs: int, root: Path) -> int:
    with scratch() as folder, ThreadPoolExecutor(jobs) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            copies.put(copy_tree(folder / str(number), root))

        def one(mutation: Mutation) -> Verdict:
            copy = copies.get()
            try:
                verdict = ask(mutation, copy)
            except Outdated as outdated:
                verdict = Verdict(mutation, trouble=str(outdated))
            finally:
                copies.put(copy)
            print(verdict, flush=True)
            return verdict

        verdicts = list(pool.map(one, chosen))
        by_chance = _red_anyway(
            sorted({verdict.red.partition(" - ")[0] for verdict in verdicts if verdict.red}), copies.get()
        )
    for name in by_chance:
        print(f"ERROR     {name} is red without a mutation too, so it proves nothing")
    return sum(not verdict.red for verdict in verdicts) + len(by_chance)


def _red_anyway(tests: Sequence[str], copy: Path) -> list[str]:
    """Return those that fail on the tree as it is."""
    code, red, output = run(copy, tuple(tests)) if tests else (0, [], "")
    return red or ([output[-600:].strip()] if code else [])


if __name__ == "__main__":
    sys.exit(min(main(), 1))

"""`python -m tests.soak --minutes 20 [--seed N] [--surrounding S]`: nights under a killer, then rest, then the bill."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.crash.surroundings import MEANINGS, PLAIN
from tests.soak import nights, person
from tests.soak.judge import Verdict, judge
from tests.soak.place import TROUBLE, Place
from tests.soak.rest import come_to_rest
from tests.soak.surroundings import Around, around, stack_in
from tests.soak.unrest import Unrest

_START_SECONDS = 400.0
_TOLD = 30


def main() -> int:
    """0 when nothing was paid twice or lost, 1 when something was, 130 after Ctrl-C; nothing is left running."""
    options = _options()
    for how in (signal.SIGINT, signal.SIGTERM):
        signal.signal(how, signal.default_int_handler)  # a shell's & would have it ignored
    root = Path(tempfile.mkdtemp(prefix="nb-soak-"))  # short: a socket's path has little room
    print(f"Seed {options.seed}, {options.minutes:g} minutes, {options.surrounding}, in {root}", flush=True)
    try:
        wrong = _soak(root / "stack", options.minutes, options.seed, options.surrounding)
    except KeyboardInterrupt:
        print(f"\nStopped; nothing is left running. Logs and databases: {root}")
        return 130
    except TROUBLE as error:  # what no longer is part of the unrest
        wrong = [f"{type(error).__name__}: {error}"]
    for what in wrong[:_TOLD]:
        print(f"Wrong: {what}")
    if len(wrong) > _TOLD:
        print(f"... and {len(wrong) - _TOLD} more")
    if wrong:
        print(f"Logs and databases: {root}")
        return 1
    shutil.rmtree(root, ignore_errors=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="of unrest; coming to rest takes a few more")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="decides what happens, not just when")
    parser.add_argument("--surrounding", choices=MEANINGS, default=PLAIN, help="the world in which it happens")
    return parser.parse_args()


def _soak(root: Path, minutes: float, seed: int, surrounding: str) -> list[str]:
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)

    with stack_in(surrounding, root, seed, say) as (stack, pooler):
        stack.start(timeout=_START_SECONDS)
        place = Place(stack, random.Random(seed), surrounding)
        unrest = Unrest(place)
        added = around(place, unrest, pooler)
        _unquiet_nights(place, unrest, added, minutes * 60, say)
        say("The unrest is over.")
        wrong = come_to_rest(place, unrest, added, say)
        verdict = judge(place)
        print(_summary(place, verdict, minutes, time.monotonic() - began))
        for neighbour in added.neighbours:
            beside = judge(neighbour)
            print(_neighbours(neighbour, beside))
            wrong += [f"the neighbour at {neighbour.providers[0]}: {what}" for what in beside.wrong]
        return wrong + verdict.wrong


def _unquiet_nights(place: Place, unrest: Unrest, added: Around, seconds: float, say: Callable[[str], None]) -> None:
    """Everything at once, each at its own pace (the mean seconds between two)."""
    pace: Mapping[Callable[[], object], float] = {
        lambda: nights.insert_jobs(place): 4,
        lambda: nights.start_night(place): 20,
        lambda: nights.start_recovery(place): 40,
        lambda: nights.clear_a_run(place): 75,
        lambda: nights.make_a_fault(place): 4,
        lambda: person.decide(place): 10,
        unrest.kill_something: 6,
        unrest.end_what_hangs: 10,
        unrest.supervise: 0.5,
        lambda: say(_progress(place, unrest)): 20,
        **added.paces,
    }
    until = time.monotonic() + seconds
    turns = [(until - seconds * (1 - share), act) for share, act in added.turns]
    due = {act: time.monotonic() + place.dice.uniform(0, mean) for act, mean in pace.items()}
    while time.monotonic() < until or turns:
        if turns and turns[0][0] <= time.monotonic():
            try:
                turns[0][1]()
                turns.pop(0)
            except TROUBLE as error:  # the database is down: in a moment
                say(str(error))
        for act, mean in pace.items():
            if due[act] <= time.monotonic():
                with suppress(*TROUBLE):  # something is down, as it is meant to be: the next time comes
                    act()
                due[act] = time.monotonic() + place.dice.uniform(0.5, 1.5) * mean
        time.sleep(0.1)


def _progress(place: Place, unrest: Unrest) -> str:
    tally = place.tally
    down = ", ".join(unrest.down())
    try:
        states = _counts(place.states())
    except TROUBLE:
        states = "the database is down"
    return f"{sum(tally.kills.values())} kills, {sum(tally.runs.values())} runs, {len(tally.jobs)} jobs: {states}" + (
        f"; down: {down}" if down else ""
    )


def _summary(place: Place, verdict: Verdict, minutes: float, seconds: float) -> str:
    tally = place.tally
    ((batches,),) = place.sql("SELECT count(*) FROM nightbatch.batch")
    ends = Counter(f"{run['dag_id']} {run['state']}" for run in place.runs())
    return f"""
{minutes:g} minutes of unrest, {seconds / 60:.1f} in all
kill -9         {sum(tally.kills.values())}: {_counts(tally.kills)}
fell with them  {_counts(tally.fell)}
hung, killed    {_counts(tally.hung)}
faults          {sum(tally.faults.values())}: {_counts(tally.faults)}
runs            {_counts(ends)}; {tally.clears} cleared
a person        {_counts(tally.decisions)}
jobs            {sum(place.states().values())}: {_counts(place.states())}
attempts        {batches}
billed lines    {verdict.billed}{_died(place, verdict)}
paid twice: {verdict.twice}, lost: {verdict.lost}"""


def _died(place: Place, verdict: Verdict) -> str:
    if place.lost is None:
        return ""
    return f"""
with the disk   {place.tally.died} jobs inserted since the backup, {verdict.gone} paid answers
cancelled       {verdict.cancelled} jobs that an answer of before may have been of"""


def _neighbours(place: Place, verdict: Verdict) -> str:
    return (
        f"the neighbour at {place.providers[0]}: {_counts(place.states())}; {verdict.billed} billed lines, "
        f"paid twice: {verdict.twice}, lost: {verdict.lost}"
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count) or "none"


if __name__ == "__main__":
    sys.exit(main())

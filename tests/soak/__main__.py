"""`python -m tests.soak --minutes 20 [--seed N]`: nights under a killer, then rest, then the bill."""

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

from nightbatch_local.stack import Stack
from tests.soak import nights, person
from tests.soak.judge import Verdict, judge
from tests.soak.place import SETTINGS, TROUBLE, TURNAROUND_SECONDS, Place
from tests.soak.rest import come_to_rest
from tests.soak.unrest import Unrest

_START_SECONDS = 400.0
_TOLD = 30


def main() -> int:
    """0 when nothing was paid twice or lost, 1 when something was, 130 after Ctrl-C; nothing is left running."""
    options = _options()
    for how in (signal.SIGINT, signal.SIGTERM):
        signal.signal(how, signal.default_int_handler)  # a shell's & would have it ignored
    root = Path(tempfile.mkdtemp(prefix="nb-soak-"))  # short: a socket's path has little room
    print(f"Seed {options.seed}, {options.minutes:g} minutes, in {root}", flush=True)
    try:
        wrong = _soak(root / "stack", options.minutes, options.seed, hostile=options.hostile)
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
    parser.add_argument("--hostile", action="store_true", help="in a database whose settings are all others")
    return parser.parse_args()


def _soak(root: Path, minutes: float, seed: int, *, hostile: bool) -> list[str]:
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)

    stack = Stack(root, turnaround=TURNAROUND_SECONDS, seed=seed, settings=SETTINGS, progress=say)
    try:
        stack.start(timeout=_START_SECONDS)
        place = Place(stack, random.Random(seed))
        if hostile:
            place.make_hostile()
        unrest = Unrest(place)
        _unquiet_nights(place, unrest, minutes * 60, say)
        say("The unrest is over.")
        wrong = come_to_rest(place, unrest, say)
        verdict = judge(place)
        print(_summary(place, verdict, minutes, time.monotonic() - began))
        return wrong + verdict.wrong
    finally:
        stack.stop()


def _unquiet_nights(place: Place, unrest: Unrest, seconds: float, say: Callable[[str], None]) -> None:
    """Everything at once, each at its own pace (the mean seconds between two)."""
    pace: Mapping[Callable[[], None], float] = {
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
    }
    until = time.monotonic() + seconds
    due = {act: time.monotonic() + place.dice.uniform(0, mean) for act, mean in pace.items()}
    while time.monotonic() < until:
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
billed lines    {verdict.billed}
paid twice: {verdict.twice}, lost: {verdict.lost}"""


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count) or "none"


if __name__ == "__main__":
    sys.exit(main())

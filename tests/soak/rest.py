"""After the unrest: nights and recovery on a machine that works, until nothing is left to be done."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.soak import nights, person
from tests.soak.place import TROUBLE, Place
from tests.soak.surroundings import Around
from tests.soak.unrest import Unrest

_HEALTHY_SECONDS = 300.0
_REST_SECONDS = 1500.0

Say = Callable[[str], None]


def come_to_rest(place: Place, unrest: Unrest, around: Around, say: Say) -> list[str]:
    """Start what is needed, and wait; what is not at rest in the end, in sentences."""
    unrest.start_all(_HEALTHY_SECONDS)
    nights.end_faults(place)
    deadline = time.monotonic() + _REST_SECONDS
    told = 0.0
    while unfinished := _unfinished(place, around):
        if time.monotonic() > deadline:
            return [f"Not at rest after {_REST_SECONDS:.0f} s: {what}" for what in unfinished]
        if time.monotonic() - told > 20:
            told = time.monotonic()
            say("; ".join(unfinished))
        try:
            _go_on(place, unrest, around)
        except TROUBLE as error:
            say(str(error))
        time.sleep(3)
    return []


def _go_on(place: Place, unrest: Unrest, around: Around) -> None:
    unrest.supervise()
    unrest.end_what_hangs()
    person.decide(place)
    around.go_on()
    active = {run["dag_id"] for run in place.active()}
    if "nightbatch_recover" not in active and (place.open_attempts() or place.displaced()):
        place.trigger("nightbatch_recover")
    if "nightbatch" not in active and place.states()["queued"]:
        place.trigger("nightbatch")


def _unfinished(place: Place, around: Around) -> list[str]:
    """What is still to come: jobs, attempts, runs."""
    try:
        found = [*place.unfinished(), *around.unfinished()]
        return found + [f"{run['dag_id']} {run['dag_run_id']} is {run['state']}" for run in place.active()]
    except TROUBLE as error:
        return [str(error)]

"""After the unrest: nights and recovery on a machine that works, until nothing is left to be done."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.soak import nights, person
from tests.soak.place import TROUBLE, Place
from tests.soak.unrest import Unrest

_HEALTHY_SECONDS = 300.0
_REST_SECONDS = 1500.0

Say = Callable[[str], None]


def come_to_rest(place: Place, unrest: Unrest, say: Say) -> list[str]:
    """Start what is needed, and wait; what is not at rest in the end, in sentences."""
    unrest.start_all(_HEALTHY_SECONDS)
    nights.end_faults(place)
    deadline = time.monotonic() + _REST_SECONDS
    told = 0.0
    while unfinished := _unfinished(place):
        if time.monotonic() > deadline:
            return [f"Not at rest after {_REST_SECONDS:.0f} s: {what}" for what in unfinished]
        if time.monotonic() - told > 20:
            told = time.monotonic()
            say("; ".join(unfinished))
        try:
            _go_on(place, unrest)
        except TROUBLE as error:
            say(str(error))
        time.sleep(3)
    return []


def _go_on(place: Place, unrest: Unrest) -> None:
    unrest.supervise()
    unrest.end_what_hangs()
    person.decide(place)
    active = {run["dag_id"] for run in place.active()}
    if "nightbatch_recover" not in active and _open_attempts(place):
        place.trigger("nightbatch_recover")
    if "nightbatch" not in active and place.states()["queued"]:
        place.trigger("nightbatch")


def _unfinished(place: Place) -> list[str]:
    """What is still to come: jobs, attempts, runs."""
    try:
        states = {state: count for state, count in place.states().items() if state in ("queued", "batched", "held")}
        found = [f"{count} jobs are {state}" for state, count in sorted(states.items())]
        found += _open_attempts(place)
        return found + [f"{run['dag_id']} {run['dag_run_id']} is {run['state']}" for run in place.active()]
    except TROUBLE as error:
        return [str(error)]


def _open_attempts(place: Place) -> list[str]:
    rows = place.sql(
        "SELECT id, provider, state, extract(epoch FROM now() - planned_at)::int, error FROM nightbatch.batch"
        " WHERE closed_at IS NULL ORDER BY id"
    )
    return [
        f"attempt {id_} ({provider}) is {state} after {age} s {error or ''}"
        for id_, provider, state, age, error in rows
    ]

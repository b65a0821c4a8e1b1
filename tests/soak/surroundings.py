"""What is around the soak: one of `tests.crash.surroundings`, and what is done there besides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nightbatch_local.postgres.embedded import EmbeddedPostgres, free_port
from nightbatch_local.stack import Stack
from tests.soak.neighbours import Neighbours
from tests.soak.place import SETTINGS, TURNAROUND_SECONDS, Place
from tests.soak.restored import Disk
from tests.soak.unrest import Unrest
from tests.surroundings import Pooler

Act = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Around:
    """What a surrounding adds to the soak; the plain world adds nothing.

    ``paces`` are acts and the mean seconds between two of each. ``turns`` are done once and in this order, each when its share
    of the unrest is over. ``unfinished`` tells what is to come until rest, and ``go_on`` helps it on. ``neighbours`` are judged
    too.
    """

    paces: Mapping[Act, float] = field(default_factory=dict)
    turns: Sequence[tuple[float, Act]] = ()
    unfinished: Callable[[], list[str]] = list
    go_on: Act = list
    neighbours: Sequence[Place] = ()


@contextmanager
def stack_in(
    surrounding: str, root: Path, seed: int, progress: Callable[[str], None]
) -> Iterator[tuple[Stack, Pooler | None]]:
    """A stack that is not started yet, and the pooler that leads its Airflow to the ledger, if one does."""
    port, pooler, settings = free_port(), None, dict(SETTINGS)
    if surrounding == "pgbouncer":
        with EmbeddedPostgres(root / "postgres" / "data", port=port) as server:
            pooler = Pooler(server)
            settings["AIRFLOW_CONN_NIGHTBATCH_DB"] = server.dsn("nightbatch").replace(f":{port}/", f":{pooler.port}/")
        pooler.start()
    stack = Stack(
        root, turnaround=TURNAROUND_SECONDS, seed=seed, settings=settings, progress=progress, postgres_port=port
    )
    try:
        yield stack, pooler
    finally:
        stack.stop()
        if pooler:
            pooler.kill()


def around(place: Place, unrest: Unrest, pooler: Pooler | None) -> Around:
    """What the surrounding of this place adds, once the stack runs."""
    match place.surrounding:
        case "hostile settings":
            place.make_hostile()
        case "pgbouncer":
            assert pooler
            return Around(paces={lambda: _kill_pooler(place, pooler): 30})
        case "second installation":
            neighbours = Neighbours(place)
            paces: dict[Act, float] = {neighbours.insert_jobs: 8, neighbours.lead_a_life: 8, neighbours.kill_a_life: 20}
            return Around(paces, (), neighbours.unfinished, neighbours.go_on, neighbours.places)
        case "restored":
            disk = Disk(place, unrest)
            return Around({disk.decide: 10}, ((1 / 3, disk.back_up), (2 / 3, disk.restore)), go_on=disk.decide)
    return Around()


def _kill_pooler(place: Place, pooler: Pooler) -> None:
    pooler.kill()
    place.tally.kills["pgbouncer"] += 1
    time.sleep(place.dice.uniform(0, 2))
    pooler.start()

"""Other installations that send through the same accounts meanwhile, and number their jobs and attempts alike."""

from __future__ import annotations

import sys
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path

from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.postgres.migrate import migrate
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from nightbatch_local.stack.environment import EMULATOR_KEY
from tests.crash import life
from tests.crash.stage import PATHS
from tests.soak import nights, person
from tests.soak.place import SETTINGS, Place, Tally


class Neighbours:
    """A ledger for each provider, as a life knows one provider only, on the stack's own server.

    Each is worked on by one process at a time, which is killed now and then, or ends as a task does.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        server = EmbeddedPostgres(place.stack.root / "postgres" / "data")
        self._ledgers = {name: _ledger(place, name, server.create_database(f"neighbour_{name}")) for name in BUILT_IN}
        self._lives: dict[ProviderName, SpawnProcess] = {}
        self._night = dict.fromkeys(BUILT_IN, 0)
        installations = [_installation(one) for one in (place, *self.places)]
        for one, own in zip((place, *self.places), installations, strict=True):
            one.others = frozenset(installations) - {own}

    @property
    def places(self) -> list[Place]:
        """Their ledgers."""
        return list(self._ledgers.values())

    def insert_jobs(self) -> None:
        """Into one of them."""
        nights.insert_jobs(self._place.dice.choice(self.places))

    def lead_a_life(self) -> None:
        """At one provider, if none is led there."""
        self._lead(self._place.dice.choice(BUILT_IN))

    def kill_a_life(self) -> None:
        """One of those that are led."""
        if alive := [one for one in self._lives.values() if one.is_alive()]:
            self._place.dice.choice(alive).kill()
            self._place.tally.kills["neighbour"] += 1

    def go_on(self) -> None:
        """Decide what is held, and lead lives where something is left to do."""
        for name, ledger in self._ledgers.items():
            person.decide(ledger)
            if ledger.unfinished():
                self._lead(name)

    def unfinished(self) -> list[str]:
        """What is still to come in their ledgers."""
        found = [f"a life is led at {name}" for name, one in self._lives.items() if one.is_alive()]
        return found + [
            f"the neighbour at {place.providers[0]}: {what}" for place in self.places for what in place.unfinished()
        ]

    def _lead(self, name: ProviderName) -> None:
        before = self._lives.get(name)
        if before and before.is_alive():
            return
        if before and before.exitcode == 0:
            self._night[name] += (
                1  # the nights of one that was killed are done again, as a task that is retried does them
            )
        url = f"{self._place.stack.emulator_url}{PATHS[name]}"
        account = EMULATOR_KEY.removeprefix("emu-")
        where = life.Place(self._ledgers[name].dsn, url, name, account, f"neighbour-{self._night[name]}")
        log = self._place.stack.root / "logs" / f"neighbour-{name}.log"
        self._lives[name] = get_context("spawn").Process(target=_live, args=(where, log), daemon=True)
        self._lives[name].start()


def _ledger(place: Place, name: ProviderName, dsn: str) -> Place:
    migrate(dsn)
    return replace(place, ledger=dsn, providers=(name,), tally=Tally())


def _installation(place: Place) -> str:
    ((name,),) = place.sql("SELECT id FROM nightbatch.installation")
    return str(name)


def _live(where: life.Place, log: Path) -> None:
    with log.open("a", buffering=1) as sys.stderr:
        life.settle_for(float(SETTINGS["NIGHTBATCH_SETTLE_SECONDS"]))
        life.lead(where)

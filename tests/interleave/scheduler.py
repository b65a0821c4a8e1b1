"""Actors in threads, of which exactly one moves at a time, from checkpoint to checkpoint; a seed decides which."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import psycopg

from nightbatch.core.errors import NightbatchError

_LOOK = 0.002  # seconds that a statement may take before it is looked whether it waits for a lock
_PATIENCE = 600.0  # of a machine that does much else
_MAX_STEPS = 3_000

# By the connections' names: behind a pooler a process of the server is whoever's transaction it is
_WAITS_FOR_AN_ACTOR = """
    SELECT pid FROM pg_stat_activity
    WHERE application_name = ANY (%(moving)s) AND wait_event_type = 'Lock' AND EXISTS (
        SELECT FROM pg_stat_activity AS other
        WHERE other.pid = ANY (pg_blocking_pids(pg_stat_activity.pid)) AND other.application_name = ANY (%(actors)s))
"""


class Died(BaseException):
    """An actor's process is gone: nothing of the product catches this, and its transaction is rolled back."""


@dataclass(eq=False)
class Actor:
    """Somebody who does ``work`` in a thread of its own, and stops at every checkpoint until it may go on.

    ``die_at`` is the number of the checkpoint at which it vanishes. ``stops`` are those at which it goes behind all others;
    a plan counts as one, as it lets nobody else plan.
    """

    name: str
    work: Callable[[Actor], object]
    die_at: int | None = None
    stops: frozenset[int] = frozenset()
    state: Literal["stopped", "moving", "ended"] = "stopped"
    at: str = "begins"
    passed: int = 0
    points: int = 0
    connection: str = ""
    ended: str = ""
    finding: str = ""
    wanted: Callable[[], bool] | None = None
    met: bool = False
    creating: bool = False
    plans: bool = False
    _go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _scheduler: Scheduler | None = None

    def reach(self, name: str) -> None:
        """A checkpoint: somebody else may move now. Raises `Died` if it is this actor's last."""
        if name in ("before sql record_intent", "after http submit POST"):
            self.creating = name.startswith("before")
        self.plans = self.plans or name == "after sql lock_planning"
        self.points += not self.plans
        if self._scheduler is not None:
            self._scheduler.stop(self, name)
            self._go.acquire()
        self.passed += 1
        if self.passed == self.die_at:
            raise Died(name)

    def wait_until(self, what: Callable[[], bool], name: str) -> bool:
        """Not to be moved before this is true; False when that did not happen before all others were done."""
        self.wanted = what
        self.met = what()
        self.reach(name)
        self.wanted = None
        return self.met

    def go(self) -> None:
        self._go.release()

    def run(self, scheduler: Scheduler | None = None) -> None:
        """Work to the end, whatever it is."""
        self._scheduler = scheduler
        try:
            self.reach("begins")
            told = self.work(self)
            self.ended = "done" if told is None else f"done: {told}"
        except NightbatchError as error:
            self.ended = f"{type(error).__name__}: {error}"
        except Died as death:
            self.ended = f"died: {death}"
        except Exception as error:  # noqa: BLE001  whatever it is, Airflow would show a person a stack trace
            self.ended = f"{type(error).__name__}: {error}"
            self.finding = f"{self.name} failed: {self.ended}\n{traceback.format_exc()}"
        self.creating = False
        if scheduler is not None:
            scheduler.end(self)


class Scheduler:
    """Lets one actor move at a time. ``after_step`` is called when all have come to a stop again."""

    def __init__(self, rng: Random, admin: psycopg.Connection[Any], after_step: Callable[[Actor], None]) -> None:
        self._rng, self._admin, self._after_step = rng, admin, after_step
        self._changed = threading.Condition()
        self._actors: list[Actor] = []
        self._order: list[Actor] = []
        self._restless = rng.choice((0.0, 0.0, 0.03, 0.1, 0.4))
        self._last: Actor | None = None
        self.steps: list[str] = []

    def play(self, actors: list[Actor]) -> None:
        """Until all have ended."""
        for actor in actors:
            self.add(actor)
        self._rng.shuffle(self._order)
        while True:
            self._come_to_a_stop()
            if self._last is not None:
                self._after_step(self._last)
            stopped = [actor for actor in self._order if actor.state == "stopped"]
            if not stopped and all(actor.state == "ended" for actor in self._actors):
                return
            if stopped:
                self._move(self._choose(stopped))
            else:  # each waits for another's lock: Postgres ends one of them
                self._until_one_moves()
            assert len(self.steps) < _MAX_STEPS, f"the actors do not end: {self.steps[-10:]}"

    def add(self, actor: Actor) -> None:
        """One more; it may come while the others are under way."""
        self._actors.append(actor)
        self._order.insert(0, actor)
        actor.state = "moving"
        threading.Thread(target=actor.run, args=(self,), daemon=True).start()

    # -- called by the actors' threads

    def stop(self, actor: Actor, name: str) -> None:
        """It is at a checkpoint."""
        with self._changed:
            actor.at, actor.state = name, "stopped"
            self._changed.notify_all()

    def end(self, actor: Actor) -> None:
        """It is done."""
        with self._changed:
            actor.at, actor.state = actor.ended, "ended"
            self._changed.notify_all()

    # -- the scheduler's own thread

    def _choose(self, stopped: list[Actor]) -> Actor:
        """The first in the order that has what it waits for; from time to time, as the seed says, another one."""
        ready = []
        for actor in stopped:
            actor.met = actor.wanted is None or actor.wanted()
            if actor.met:
                ready.append(actor)
        for actor in [actor for actor in ready if actor.points in actor.stops]:
            self._order.remove(actor)
            self._order.append(actor)
            actor.stops -= {actor.points}
        ready.sort(key=self._order.index)
        if not ready:
            return stopped[0]
        return self._rng.choice(ready) if self._rng.random() < self._restless else ready[0]

    def _move(self, actor: Actor) -> None:
        self.steps.append(f"{actor.name} | {actor.at}")
        self._last = actor
        actor.state = "moving"
        actor.go()

    def _moving(self) -> list[Actor]:
        return [actor for actor in self._actors if actor.state == "moving"]

    def _come_to_a_stop(self) -> None:
        """Until every actor is at a checkpoint, has ended, or waits for a lock that another one holds."""
        with self._changed:
            while moving := self._moving():
                asking = all(map(_asks_the_database, moving))
                if self._changed.wait(_LOOK if asking else _PATIENCE):
                    continue
                assert asking, [(actor.name, actor.at) for actor in moving]
                if moving == self._moving() and self._waiting(moving):
                    return

    def _waiting(self, moving: list[Actor]) -> bool:
        names = {
            "moving": [actor.connection for actor in moving],
            "actors": [actor.connection for actor in self._actors if actor.connection],
        }
        return len(self._admin.execute(_WAITS_FOR_AN_ACTOR, names).fetchall()) == len(moving)

    def _until_one_moves(self) -> None:
        with self._changed:
            assert self._changed.wait(_PATIENCE), "nobody moves"


def _asks_the_database(actor: Actor) -> bool:
    return bool(actor.connection) and ("sql" in actor.at or "commit" in actor.at)

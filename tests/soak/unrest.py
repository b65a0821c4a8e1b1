"""The killer, and the supervisor that any real installation has: what has ended is started again after a while."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime

import psutil

from nightbatch_local.stack.stack import AIRFLOW, EMULATOR, POSTGRES
from tests.soak.nights import count_faults
from tests.soak.place import TROUBLE, Place

TASK = "task"
WORKER = "worker"
_VICTIMS = {
    TASK: 7,
    WORKER: 3,
    "scheduler": 2,
    "triggerer": 2,
    "api-server": 2,
    "dag-processor": 1,
    POSTGRES: 2,
    EMULATOR: 1,
}
_SPARED_SECONDS = 25.0
"""What has just come up is left alone for a while: else nothing would ever run, and there would be nothing to break."""
_DOWN_AT_ONCE = 2
_HUNG_SECONDS = 90.0
_FORGOTTEN_SECONDS = 180.0


class Unrest:
    """Kills, and starts again. Everything is SIGKILL; nothing is asked to finish."""

    def __init__(self, place: Place) -> None:
        self._place, self._stack = place, place.stack
        self._due: dict[str, float] = {}
        self._started = dict.fromkeys((*AIRFLOW, EMULATOR, POSTGRES), time.monotonic())

    def kill_something(self) -> None:
        """One random victim of those that run."""
        alive = self._stack.status()
        can = [name for name in _VICTIMS if name in (TASK, WORKER) or self._may_die(name, alive)]
        (victim,) = self._place.dice.choices(can, [_VICTIMS[name] for name in can])
        if self._kill(victim, alive):
            self._place.tally.kills[victim] += 1

    def kill_airflow(self) -> None:
        """All of it at once, with its tasks, so that nothing works on the ledger."""
        for name in AIRFLOW:
            self._stack.kill(name)
            self._place.tally.kills[name] += 1
            self._start_in(name, 0.5, 6)

    def supervise(self) -> None:
        """Start what is due, Postgres first: without it nothing else stays up."""
        alive, now = self._stack.status(), time.monotonic()
        for name in self._started:
            if name not in alive and name not in self._due:
                self._place.tally.fell[name] += 1
                self._start_in(name, 1, 4)
        for name in sorted(self._due, key=lambda name: name != POSTGRES):
            if self._due[name] <= now and (name in (POSTGRES, EMULATOR) or POSTGRES not in self._due):
                self._stack.start_component(name)
                self._started[name] = time.monotonic()
                del self._due[name]

    def end_what_hangs(self) -> None:
        """As a liveness probe does: a component that runs and whose heart has stopped is killed."""
        health = self._stack.client.health()
        for name in ("scheduler", "triggerer", "dag-processor"):
            key = name.replace("-", "_")
            beat = ((health or {}).get(key) or {}).get(f"latest_{key}_heartbeat")
            if health and beat and self._age(name) > _HUNG_SECONDS:
                silent = (datetime.now(UTC) - datetime.fromisoformat(beat)).total_seconds()
                if silent > _HUNG_SECONDS:
                    self._end(name)
        if health is None and min(self._age("api-server"), self._age(POSTGRES)) > _HUNG_SECONDS:
            self._end("api-server")
        if health and self._age("scheduler") > _FORGOTTEN_SECONDS and self._has_forgotten_a_task():
            self._end("scheduler")

    def start_all(self, timeout: float) -> None:
        """The unrest is over: until everything runs and is healthy."""
        deadline = time.monotonic() + timeout
        for name in self._due:
            self._due[name] = 0
        while True:
            self.supervise()
            try:
                if not self._due:
                    self._stack.wait_healthy(timeout=20)
                    self._place.control("GET", "faults")  # the emulator answers too
                    return
            except TROUBLE:
                if time.monotonic() > deadline:
                    raise
                self.end_what_hangs()
            time.sleep(1)

    def down(self) -> list[str]:
        """What is waiting to be started again."""
        return sorted(self._due)

    def _has_forgotten_a_task(self) -> bool:
        """A worker that dies as it takes a task leaves it queued as long as its scheduler lives: LocalExecutor revokes none."""
        found = self._stack.api("GET", "/dags/~/dagRuns/~/taskInstances?state=queued&limit=100")["task_instances"]
        queued = [datetime.fromisoformat(task["queued_when"]) for task in found if task["queued_when"]]
        return any((datetime.now(UTC) - since).total_seconds() > _FORGOTTEN_SECONDS for since in queued)

    def _age(self, name: str) -> float:
        return 0 if name in self._due else time.monotonic() - self._started[name]

    def _may_die(self, name: str, alive: dict[str, int]) -> bool:
        return name in alive and self._age(name) > _SPARED_SECONDS and len(self._due) < _DOWN_AT_ONCE

    def _kill(self, victim: str, alive: dict[str, int]) -> bool:
        if victim in (TASK, WORKER):
            return _kill_busy(self._place, alive.get("scheduler"), victim)
        if victim == EMULATOR:
            with suppress(*TROUBLE):
                count_faults(self._place)
        if victim == "scheduler" and self._place.dice.random() < 0.5:
            os.kill(alive[victim], signal.SIGKILL)  # its workers and their tasks live on until it is started again
        else:
            self._stack.kill(victim)
        self._start_in(victim, 0.5, 6)
        return True

    def _end(self, name: str) -> None:
        self._stack.kill(name)
        self._place.tally.hung[name] += 1
        self._start_in(name, 0, 1)

    def _start_in(self, name: str, at_least: float, at_most: float) -> None:
        self._due[name] = time.monotonic() + self._place.dice.uniform(at_least, at_most)


def _kill_busy(place: Place, scheduler: int | None, what: str) -> bool:
    """A task's process, or the worker of the LocalExecutor that watches over one; whether there was any."""
    with suppress(psutil.NoSuchProcess):
        workers = psutil.Process(scheduler).children() if scheduler else []
        busy = [(worker, task) for worker in workers for task in worker.children()]
        if busy:
            worker, task = place.dice.choice(busy)
            (task if what == TASK else worker).kill()
            return True
    return False

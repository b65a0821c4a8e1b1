"""Where the soak happens: a stack of real components, and short ways to its database, its API and its emulator."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg

from nightbatch.core.errors import NightbatchError
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch_local.stack import Stack
from tests.crash.surroundings import CALM, PLAIN, make_hostile

TROUBLE = (NightbatchError, httpx.HTTPError, psycopg.Error)
"""What anybody meets who asks while something is down: to be expected here, and to be tried again later."""

SETTINGS = {
    # Small batches and short waits: a night of a minute, many of them at a time.
    "NIGHTBATCH_MAX_BATCH_JOBS": "15",
    "NIGHTBATCH_POLL_SECONDS": "1",
    "NIGHTBATCH_POLL_MAX_SECONDS": "2",
    "NIGHTBATCH_SETTLE_SECONDS": "5",
    "NIGHTBATCH_CREATE_SECONDS": "20",
    # Three minutes: nights whose run died come back, and waits are given up and left to recovery.
    "NIGHTBATCH_WAIT_HOURS": "0.05",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
}
LAG_SECONDS = 3.0
"""How long the emulator's lists may hide a batch: below the settle wait, as the settle wait has to be chosen."""
TURNAROUND_SECONDS = 4.0

_OVER = ("success", "failed")


@dataclass(slots=True)
class Tally:
    """What was done, for the summary."""

    kills: Counter[str] = field(default_factory=Counter)
    fell: Counter[str] = field(default_factory=Counter)
    hung: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    clears: int = 0
    died: int = 0
    """Jobs whose insert was confirmed, and that died with the disk."""
    jobs: set[int] = field(default_factory=set)
    """The jobs whose insert the database has confirmed."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What was lost with the disk when the ledger was put back to its backup.

    Jobs above ``newest_job`` are gone, and their numbers are given anew: ``nonces`` tell the lost ledger's attempts. It had
    loaded the answers to the custom_ids ``loaded``, of the providers' ``batches``.
    """

    newest_job: int
    nonces: frozenset[str]
    loaded: frozenset[str]
    batches: frozenset[str] = frozenset()


@dataclass(slots=True)
class Place:
    """One soak: ``dice`` decides what happens, though never exactly when.

    ``ledger`` leads to another ledger than the stack's own, for these ``providers``. ``others`` are the installations that send
    through the same accounts. ``surrounding`` is one of `tests.crash.surroundings`.
    """

    stack: Stack
    dice: random.Random
    surrounding: str = PLAIN
    ledger: str = ""
    providers: tuple[ProviderName, ...] = BUILT_IN
    others: frozenset[str] = frozenset()
    lost: Lost | None = None
    tally: Tally = field(default_factory=Tally)

    @property
    def dsn(self) -> str:
        """The ledger, at the server itself."""
        return self.ledger or self.stack.dsn

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """One statement, committed."""
        with psycopg.connect(self.dsn, autocommit=True, connect_timeout=10, options=CALM) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def make_hostile(self) -> None:
        """Give the ledger's database settings that nobody would choose, to every session from now on."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            make_hostile(connection, connection.info.dbname)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Speak to the emulator itself."""
        url = f"{self.stack.emulator_url}/control/{path}"
        return httpx.request(method, url, json=body, trust_env=False, timeout=30).raise_for_status().json()

    def runs(self, dag_id: str = "~") -> list[dict[str, Any]]:
        """All runs of a Dag, or of all Dags, the oldest first."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.stack.api("GET", f"/dags/{dag_id}/dagRuns?limit=100&offset={len(found)}&order_by=id")
            found += page["dag_runs"]
            if not page["dag_runs"] or len(found) >= page["total_entries"]:
                return found

    def active(self, dag_id: str = "~") -> list[dict[str, Any]]:
        """The runs that have not ended."""
        return [run for run in self.runs(dag_id) if run["state"] not in _OVER]

    def over(self, dag_id: str) -> list[dict[str, Any]]:
        """The runs that have ended, well or not."""
        return [run for run in self.runs(dag_id) if run["state"] in _OVER]

    def trigger(self, dag_id: str) -> str:
        """Start a run; its id."""
        run_id = self.stack.trigger(dag_id)
        self.tally.runs[dag_id] += 1
        return run_id

    def states(self) -> Counter[str]:
        """How many jobs are in which state."""
        return Counter(dict(self.sql("SELECT state, count(*) FROM nightbatch.job_status GROUP BY state")))

    def displaced(self) -> str | None:
        """Why nothing is sent from the ledger until a person says what happened to it."""
        ((why,),) = self.sql("SELECT nightbatch.displaced()")
        return str(why) if why else None

    def open_attempts(self) -> list[str]:
        """The attempts that are not closed, in words."""
        rows = self.sql(
            "SELECT id, provider, state, extract(epoch FROM now() - planned_at)::int, error FROM nightbatch.batch"
            " WHERE closed_at IS NULL ORDER BY id"
        )
        return [
            f"attempt {id_} ({provider}) is {state} after {age} s {error or ''}"
            for id_, provider, state, age, error in rows
        ]

    def unfinished(self) -> list[str]:
        """What is still to come in the ledger: jobs, attempts, and its being at home."""
        states = {state: count for state, count in self.states().items() if state in ("queued", "batched", "held")}
        found = [f"{count} jobs are {state}" for state, count in sorted(states.items())]
        return found + self.open_attempts() + [why for why in [self.displaced()] if why]

"""What `test_any_order` plays with: one database, one account, steps that may die anywhere, a person, and the judge."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import psycopg

from nightbatch.batches import decisions, loading, recovery, submission
from nightbatch.core.errors import NightbatchError
from nightbatch.core.ledger import RunParams
from nightbatch.core.models import ProviderName
from nightbatch.core.provider import BatchProvider
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.postgres.store import Store
from nightbatch.providers import build
from nightbatch_local.emulator.process import EmulatorProcess
from tests.crash import life

SETTLE = 0.5
LAG = 0.3  # shorter than the settle wait, as NIGHTBATCH_SETTLE_SECONDS has to be chosen
LATE = 0.9  # longer than the settle wait: only the fence, or a person who waits, stops what is delivered then
SETTINGS = Settings(settle_seconds=SETTLE, create_seconds=0.01, max_batch_jobs=2)

_FORK = multiprocessing.get_context("fork")
_PATIENCE = 60.0
_NIGHTS = 12

ProviderFor = Callable[[ProviderName], BatchProvider]
Death = int | str | None
"""At which checkpoint a process dies: by its number, by its name (the first of it), or not at all."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one process does, and how the story tells it."""

    words: str
    take: Callable[[Store, ProviderFor], object]


def plan(run_id: str, queued_before: datetime | None = None) -> Step:
    """The Dag's first task."""
    return Step(
        f"plan {run_id}" + (f" with what was queued before {queued_before:%H:%M:%S.%f}" if queued_before else ""),
        lambda store, _: submission.plan_run(
            store, job_types(), SETTINGS, run_id=run_id, queued_before=queued_before, params=RunParams()
        ),
    )


def submit(batch_id: int) -> Step:
    """One try of a submit task."""
    return Step(
        f"submit {batch_id}",
        lambda store, provider_for: submission.submit_batch(
            store, provider_for(store.batch(batch_id).provider), job_types(), SETTINGS, batch_id
        ),
    )


def load(batch_id: int) -> Step:
    """One try of a load task; it may come before the batch has ended."""
    return Step(
        f"load {batch_id}",
        lambda store, provider_for: loading.load_batch(
            store, provider_for(store.batch(batch_id).provider), job_types(), batch_id
        ),
    )


def settle(run_id: str) -> Step:
    """The Dag's task after the providers' groups."""
    return Step(f"settle {run_id}", lambda store, _: recovery.settle_run(store, run_id))


def recover() -> Step:
    """One run of `nightbatch_recover`."""
    return Step("recover", lambda store, provider_for: recovery.recover(store, provider_for, job_types(), SETTINGS))


def cancel(batch_id: int) -> Step:
    """Somebody ends a batch in the provider's console."""

    def take(store: Store, provider_for: ProviderFor) -> None:
        batch = store.batch(batch_id)
        if batch.provider_batch_id:
            provider_for(batch.provider).cancel(batch.provider_batch_id)

    return Step(f"cancel {batch_id} at its provider", take)


def release(batch_id: int, choice: decisions.Choice) -> Step:
    """A person's decision."""
    return Step(
        f"release {batch_id}: {choice}",
        lambda store, _: decisions.release(store, batch_id, choice=choice, by="me", reason="it is not there"),
    )


class _Watch(life._Watch):
    """It ends a life at a checkpoint's name, too."""

    def __init__(self, death: Death) -> None:
        super().__init__(death if isinstance(death, int) else None)
        self._death = death

    def reach(self, name: str) -> None:
        if name == self._death:
            os._exit(life.DIED)
        super().reach(name)


@dataclass
class Play:
    """``trouble`` holds what should never have been seen, ``story`` all that happened; both in sentences."""

    dsn: str
    store: Store
    emulator: EmulatorProcess
    http: httpx.Client
    account: str
    trouble: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._provider = cache(self._build)

    def _build(self, name: ProviderName) -> BatchProvider:
        return build(name, api_key=f"emu-{self.account}", base_url=getattr(self.emulator, f"{name}_url"))

    # -- processes

    def live(self, step: Step, death: Death = None) -> None:
        """One step; a process of its own if it is to die. Nothing more after trouble."""
        if self.trouble:
            return
        if death is not None:
            self.live_together([step], death)
            return
        ended = "well"
        try:
            step.take(self.store, self._provider)
        except NightbatchError as error:
            ended = f"{type(error).__name__}: {error}"
        except Exception:  # noqa: BLE001  whatever it is, Airflow would show a person a stack trace
            self.trouble.append(traceback.format_exc())
        self.story.append(f"{step.words}: {ended}")

    def live_together(self, steps: list[Step], death: Death = None) -> None:
        """A process for each step, at the same time; the first one dies at its checkpoint ``death``."""
        if self.trouble:
            return
        told = _FORK.SimpleQueue()
        deaths = [death, *[None] * (len(steps) - 1)]
        lives = [_FORK.Process(target=self._live, args=(*both, told)) for both in zip(steps, deaths, strict=True)]
        for process in lives:
            process.start()
        for step, process in zip(steps, lives, strict=True):
            process.join(_PATIENCE)
            died = f"died at {death}" if process.exitcode == life.DIED else f"ended with {process.exitcode}"
            self.story.append(f"{step.words}, {len(steps)} at once: {died}")
            if process.exitcode not in (0, life.DIED):
                process.kill()
                process.join()
                self.trouble.append(self.story[-1])
        while not told.empty():
            self.trouble.append(told.get())

    def _live(self, step: Step, death: Death, told: Any) -> None:
        """In the child, which shares no connection with its parent."""
        watch = _Watch(death)
        life.watch_requests()
        life._WATCHED[:] = [watch]
        try:
            with psycopg.connect(self.dsn, autocommit=True) as connection, suppress(NightbatchError):
                life._watch_statements(connection, watch.reach)
                provider_for: Any = cache(lambda name: life._Provider(self._build(name), watch))
                step.take(life._Store(connection, watch.reach), provider_for)
        except Exception:  # noqa: BLE001  as above
            told.put(traceback.format_exc()[-4000:])

    # -- what there is

    def rows(self, query: str, *values: Any) -> list[Any]:
        """The rows of a query, bare where they have one column."""
        found = self.store.connection.execute(query, values).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def attempts(self, *states: str) -> list[int]:
        """Ids, the newest first; of all states if none is named."""
        return self.rows(
            "SELECT id FROM nightbatch.batch WHERE %s = '{}' OR state = ANY (%s) ORDER BY id DESC", [*states], [*states]
        )

    def attempt(self, place: int, *states: str) -> int | None:
        """One of them, if there are any."""
        found = self.attempts(*states)
        return found[place % len(found)] if found else None

    def new_run(self) -> str:
        """An id that no run has had."""
        self.runs.append(f"run-{len(self.runs)}")
        return self.runs[-1]

    def run(self, place: int) -> str:
        """An id that was given out before."""
        return self.runs[-1 - place % len(self.runs)]

    def insert(self, provider: str, job_type: str, headline: str, *, priority: int, wait: float) -> None:
        """A job, by plain SQL; it is due in ``wait`` seconds."""
        self.story.append(f"insert {job_type} for {provider}, {headline!r}, due in {wait} s")
        self.store.connection.execute(
            "INSERT INTO nightbatch.job (job_type, provider, input, priority, not_before)"
            " VALUES (%s, %s, %s, %s, now() + %s * interval '1 second')",
            (job_type, provider, json.dumps({"headline": headline, "text": headline}), priority, wait),
        )

    def planned(self, run_id: str) -> list[int]:
        """The attempts of a run, as its plan gives them."""
        return [batch.id for batch in self.store.run_batches(run_id)]

    # -- the provider

    def fault(self, **rule: Any) -> None:
        """Something that the providers do wrong to this account."""
        self.story.append("fault: " + ", ".join(f"{name} {value}" for name, value in rule.items()))
        self._add(rule)

    def _add(self, rule: dict[str, Any]) -> None:
        self.http.post("/control/faults", json={"account": self.account, **rule}).raise_for_status()

    def befall(self, batch_id: int, faults: list[dict[str, Any]]) -> None:
        """Once each, at the provider of this attempt."""
        provider = self.store.batch(batch_id).provider
        for rule in faults:
            # A line garbled in both downloads of a load is kept as it came, but nobody can tell its cost.
            if rule["fault"] != "corrupt" or not self.faults("corrupt"):
                self.fault(provider=provider, delay_seconds=LATE, retry_after=0.1, **rule)

    def faults(self, kind: str) -> list[dict[str, Any]]:
        """Those not used up."""
        return [rule for rule in self._rules() if rule["fault"] == kind and _is_left(rule)]

    def end_faults(self, *kinds: str) -> None:
        """Of these kinds."""
        rules = self._rules()
        self.http.delete("/control/faults").raise_for_status()
        for rule in rules:
            if rule["fault"] not in kinds and _is_left(rule):
                self._add({name: rule[name] for name in rule.keys() - {"matches", "hits"}})

    def _rules(self) -> list[dict[str, Any]]:
        rules: list[dict[str, Any]] = self.http.get("/control/faults").json()
        return rules

    def let_the_late_arrive(self) -> None:
        """Until nothing is on its way any more that was sent before."""
        self.end_faults()
        self.http.post("/control/late", json={"account": self.account}).raise_for_status()

    def turnaround(self, seconds: float) -> None:
        """How long the providers take from now on, also for what they have."""
        self.story.append(f"the providers take {seconds} s")
        self.http.post("/control/turnaround", json={"seconds": seconds}).raise_for_status()

    def exists(self, batch_id: int) -> bool:
        """What the provider's console tells who reads its batches' requests; no fault changes that."""
        asked = "SELECT input_path FROM batch WHERE account = ?"
        inputs = [Path(path) for (path,) in self._emulated(asked, self.account)]
        sent = False
        for path in inputs:
            with suppress(FileNotFoundError):  # done, and so on the bill
                sent |= f"_a{batch_id}_" in path.read_text()
        return sent or any(f"_a{batch_id}_" in line["custom_id"] for line in self.bill())

    def _emulated(self, query: str, *values: Any) -> list[Any]:
        with closing(
            sqlite3.connect(f"file:{self.emulator.state_dir}/state.sqlite?mode=ro", uri=True, timeout=60)
        ) as state:
            return state.execute(query, values).fetchall()

    def bill(self) -> list[dict[str, Any]]:
        """What the providers charged this account."""
        return [line for line in self.http.get("/control/billing").json() if line["account"] == self.account]

    # -- a person

    def decide(self, batch_id: int, choice: decisions.Choice) -> None:
        """As the promise asks for it: after what is on its way has arrived, and after a look into the console."""
        self.let_the_late_arrive()
        if not self.exists(batch_id):
            self.live(release(batch_id, choice))

    # -- the end

    def to_rest(self) -> None:
        """Nights without faults, until every job has its last word."""
        self.let_the_late_arrive()
        self.http.delete("/control/faults").raise_for_status()
        self.turnaround(0.05)
        for number in range(_NIGHTS):
            self._night(f"last-{number}")
            if not self.rows("SELECT FROM nightbatch.job_status WHERE state IN ('queued', 'batched', 'held')"):
                return
            time.sleep(SETTLE / 2)
        open_ones = [(batch.id, batch.provider, batch.state, batch.error) for batch in self.store.open_attempts()]
        self.trouble.append(f"Not at rest after {_NIGHTS} nights: {self.states()}, {open_ones}")

    def _night(self, run_id: str) -> None:
        self.live(plan(run_id))
        self.runs.append(run_id)
        for batch_id in reversed(self.attempts("planned", "uploaded", "submitting")):
            self.live(submit(batch_id))
        self._until_all_have_ended()
        for batch_id in self.attempts("submitted"):
            self.live(load(batch_id))
        for run in self.runs:
            self.live(settle(run))
        self.live(recover())
        for batch_id in self.attempts("held"):
            self.decide(batch_id, "resend")

    def _until_all_have_ended(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self._emulated("SELECT 1 FROM batch WHERE account = ? AND outcome IS NULL", self.account):
            assert time.monotonic() < deadline, "a batch does not end"
            time.sleep(0.02)

    # -- the judge

    def states(self) -> Counter[str]:
        """How many jobs are in which state."""
        return Counter(self.rows("SELECT state FROM nightbatch.job_status"))

    def wrong_at_any_time(self) -> list[str]:
        """What must not be, whatever has happened so far."""
        times = Counter(line["custom_id"].partition("_")[0] for line in self.bill())
        twice = self.rows(
            "SELECT m.job_id FROM nightbatch.batch_job AS m JOIN nightbatch.batch AS b ON b.id = m.batch_id"
            " WHERE b.closed_at IS NULL GROUP BY 1 HAVING count(*) > 1"
        )
        closed = self.rows(
            "SELECT o.job_id FROM nightbatch.open_job AS o JOIN nightbatch.batch AS b ON b.id = o.batch_id"
            " WHERE b.closed_at IS NOT NULL"
        )
        return [
            *(f"{job} was paid {count} times" for job, count in times.items() if count > 1),
            *(f"job {job} is in two open attempts" for job in twice),
            *(f"job {job} belongs to a closed attempt" for job in closed),
        ]

    def wrong_at_rest(self) -> list[str]:
        """The provider's bill against our books, to the last cent."""
        bill = self.bill()
        charged = sum((Decimal(line["cost_usd"]) for line in bill), Decimal(0))
        named = "'j' || r.job_id || '_a' || r.batch_id || coalesce('_' || b.nonce, '')"
        billed = "nightbatch.result AS r JOIN nightbatch.batch AS b ON b.id = r.batch_id WHERE r.billed"
        kept = set(self.rows(f"SELECT {named} FROM {billed} AND r.outcome <> 'missing'"))
        sent = {line["custom_id"] for line in bill}
        books = {
            table: self.rows(f"SELECT coalesce(sum(batch_cost_usd), 0) FROM {table}")[0]
            for table in ("nightbatch.result", "nightbatch_report.savings_daily")
        }
        left = set(self.states()) - {"succeeded", "failed", "rejected", "cancelled"}
        return [
            *self.wrong_at_any_time(),
            *(f"{line} was paid and lost" for line in sent - kept),
            *(f"{line} was booked and never paid" for line in kept - sent),
            *(f"the bill says {charged}, {table} {booked}" for table, booked in books.items() if booked != charged),
            *(f"a job is {state} at the end" for state in left),
        ]


def _is_left(rule: dict[str, Any]) -> bool:
    return rule["times"] is None or rule["hits"] < rule["times"]

"""A small world for the use cases: real Postgres, the emulator, the three real adapters, and a judge."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest

from nightbatch.batches import loading, submission
from nightbatch.core.errors import SubmissionInDoubt, Throttled
from nightbatch.core.ledger import Batch, Loaded, RunParams
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.core.provider import BatchProvider
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.postgres.store import Store, open_store
from nightbatch.providers import build
from nightbatch_local.emulator.process import EmulatorProcess

SETTINGS = Settings(max_batch_jobs=100, settle_seconds=0.3, create_seconds=0.1)


@pytest.fixture(scope="session", autouse=True)
def _no_waits_before_a_transfer_goes_on() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nightbatch.providers.wire.RESUME_AFTER", 0.001)
        yield


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), turnaround=0.2) as running:
        yield running


@dataclass
class World:
    """One database and one account at each provider."""

    dsn: str
    store: Store
    emulator: EmulatorProcess
    settings: Settings
    account: str = field(default_factory=lambda: uuid.uuid4().hex[:10])

    def provider(self, name: ProviderName, *, account: str | None = None) -> BatchProvider:
        key = f"emu-{account or self.account}"
        return build(name, api_key=key, base_url=getattr(self.emulator, f"{name}_url"))

    def insert(self, provider: str, count: int = 3, *, headline: str = "A headline", **columns: Any) -> list[int]:
        """Scoring jobs, by plain SQL."""
        names = ["job_type", "provider", "input", *columns]
        ids = []
        for number in range(count):
            text = json.dumps({"headline": f"{headline} {number}"})
            values = ["creative_scoring", provider, text, *columns.values()]
            marks = ", ".join(["%s"] * len(values))
            row = self.store.connection.execute(
                f"INSERT INTO nightbatch.job ({', '.join(names)}) VALUES ({marks}) RETURNING id", values
            ).fetchone()
            assert row is not None
            ids.append(row[0])
        return ids

    def plan(self, run_id: str = "r1", **params: Any) -> list[Batch]:
        return submission.plan_run(
            self.store, job_types(), self.settings, run_id=run_id, queued_before=None, params=RunParams(**params)
        )

    def submit(self, batch: Batch | int, *, account: str | None = None) -> int | None:
        found = self.store.batch(batch if isinstance(batch, int) else batch.id)
        provider = self.provider(found.provider, account=account)
        return submission.submit_batch(self.store, provider, job_types(), self.settings, found.id)

    def submit_until_certain(self, batch: Batch | int, tries: int = 10) -> int | None:
        """As Airflow does it: again after the time that the doubt asks for."""
        for _ in range(tries):
            try:
                return self.submit(batch)
            except SubmissionInDoubt as doubt:
                if doubt.look_again_in is None:
                    raise
                time.sleep(min(doubt.look_again_in, 0.5))
        raise AssertionError(f"still in doubt after {tries} tries")

    def load(self, batch_id: int) -> Loaded:
        """Wait for the end, and load."""
        self.wait_for_the_end(batch_id)
        provider = self.provider(self.store.batch(batch_id).provider)
        return loading.load_batch(self.store, provider, job_types(), batch_id)

    def wait_for_the_end(self, batch_id: int) -> None:
        """At its provider."""
        deadline = time.monotonic() + 20
        while self.runs(batch_id):
            assert time.monotonic() < deadline, "the batch does not end"
            time.sleep(0.05)

    def runs(self, batch_id: int) -> bool:
        """Whether its provider is still at it."""
        batch = self.store.batch(batch_id)
        assert batch.provider_batch_id is not None
        return asyncio.run(self.provider(batch.provider).get_state(batch.provider_batch_id)).phase == "running"

    def night(self, run_id: str, **params: Any) -> list[Loaded]:
        """A whole run. A batch that finds the provider's queue full waits until those before it are loaded, as in Airflow."""
        return self.load_all(*self.send_all(self.plan(run_id, **params)))

    def send_all(self, batches: list[Batch]) -> tuple[list[int], list[Batch]]:
        """What was sent, and what found the queue full."""
        sent, full = [], []
        for batch in batches:
            try:
                sent.append(self.submit_until_certain(batch))
            except Throttled:
                full.append(batch)
        assert not batches or len(full) < len(batches), "nobody finds room"
        return [batch_id for batch_id in sent if batch_id is not None], full

    def load_all(self, sent: list[int], full: list[Batch]) -> list[Loaded]:
        """Until nothing is left to be sent."""
        loaded = [self.load(batch_id) for batch_id in sent]
        return loaded + (self.load_all(*self.send_all(full)) if full else [])

    def states(self) -> dict[int, str]:
        return dict(self.store.connection.execute("SELECT job_id, state FROM nightbatch.job_status").fetchall())

    def rows(self, query: str, *values: Any) -> list[Any]:
        found = self.store.connection.execute(query, values).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def bill(self) -> list[dict[str, Any]]:
        return self.emulator.billing(self.account)

    def creates(self, provider: str) -> int:
        """How many creates of this account reached the provider."""
        return sum(
            entry["operation"] == "batch_create" and entry["provider"] == provider
            for entry in self.emulator.log(self.account)
        )

    def judge(self) -> None:
        """The provider's bill against our books: nothing paid twice, nothing lost, every cent accounted for."""
        bill = self.bill()
        times = Counter(line["custom_id"].partition("_")[0] for line in bill)
        assert not [job for job, count in times.items() if count > 1], "a job was paid twice"
        booked = self.rows("SELECT coalesce(sum(batch_cost_usd), 0) FROM nightbatch.result")[0]
        assert booked == sum((Decimal(line["cost_usd"]) for line in bill), Decimal(0))
        assert booked == self.rows("SELECT coalesce(sum(batch_cost_usd), 0) FROM nightbatch_report.savings_daily")[0]
        kept = self.rows(
            "SELECT 'j' || r.job_id || '_' || coalesce(b.nonce, 'a' || r.batch_id) FROM nightbatch.result AS r"
            " JOIN nightbatch.batch AS b ON b.id = r.batch_id WHERE billed"
        )
        paid = [re.sub(r"_a\d+_", "_", line["custom_id"]) for line in bill]  # an adopted attempt has another number
        assert sorted(kept) == sorted(paid), "a paid result was lost"
        assert set(self.states().values()) <= {"queued", "batched", "succeeded", "failed", "rejected", "held"}
        assert not self.rows(
            "SELECT o.job_id FROM nightbatch.open_job AS o JOIN nightbatch.batch AS b ON b.id = o.batch_id"
            " WHERE b.closed_at IS NOT NULL"
        ), "a job belongs to a closed attempt"


@pytest.fixture
def world(dsn: str, emulator: EmulatorProcess) -> Iterator[World]:
    emulator.control("DELETE", "faults")
    with open_store(dsn) as store:
        yield World(dsn, store, emulator, replace(SETTINGS))
    emulator.control("DELETE", "faults")


@pytest.fixture(params=BUILT_IN)
def provider(request: pytest.FixtureRequest) -> ProviderName:
    name: ProviderName = request.param
    return name

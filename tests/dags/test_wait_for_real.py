"""The wait and the hooks with real adapters: every provider as the emulator speaks it, connections, and the ledger."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from nightbatch.airflow.hooks import GeminiHook, provider_for, store
from nightbatch.airflow.shared import Account
from nightbatch.airflow.trigger import BatchTrigger
from nightbatch.batches import submission
from nightbatch.core.ledger import RunParams
from nightbatch.core.models import ProviderName, ProviderState
from nightbatch.core.profiles import BUILT_IN
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch_local.emulator.process import EmulatorProcess


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), turnaround=0.5) as running:
        yield running


@dataclass
class Place:
    """A database, and connections to an account of its own at each provider."""

    emulator: EmulatorProcess
    patch: pytest.MonkeyPatch
    account: str

    def connect(self, name: ProviderName, *, key: str, **extra: str) -> None:
        url = getattr(self.emulator, f"{name}_url")
        value = {"conn_type": name, "host": url, "password": key, "extra": extra}
        self.patch.setenv(f"AIRFLOW_CONN_{name.upper()}_DEFAULT", json.dumps(value))

    def send(self, name: ProviderName) -> int:
        """One small batch, planned and submitted through the connections; its id."""
        with store() as ledger:
            ledger.connection.execute(
                "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('creative_scoring', %s, %s)",
                (name, json.dumps(job_types()["creative_scoring"].example)),
            )
            settings, run_id = Settings.from_env(), uuid.uuid4().hex
            (batch,) = submission.plan_run(
                ledger, job_types(), settings, run_id=run_id, queued_before=None, params=RunParams()
            )
            sent = submission.submit_batch(ledger, provider_for(name), job_types(), settings, batch.id)
        assert sent is not None
        return sent

    def operations(self) -> list[str]:
        """What this account asked of its providers, by the emulator's log."""
        return [seen["operation"] for seen in self.emulator.log() if seen["account"] == self.account]


@pytest.fixture
def place(dsn: str, emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("NIGHTBATCH_DSN", dsn)
    monkeypatch.setenv("NIGHTBATCH_POLL_SECONDS", "0.1")
    monkeypatch.setenv("NIGHTBATCH_POLL_MAX_SECONDS", "0.2")
    made = Place(emulator, monkeypatch, uuid.uuid4().hex[:10])
    for name in BUILT_IN:
        made.connect(name, key=f"emu-{made.account}")
    yield made
    emulator.control("DELETE", "faults")


def wait(*batch_ids: int) -> list[Any]:
    async def first_event(batch_id: int) -> Any:
        async for event in BatchTrigger(batch_id, time.time() + 60).run():
            return event.payload

    async def together() -> list[Any]:
        return await asyncio.gather(*map(first_event, batch_ids))

    return asyncio.run(together())


def test_waits_for_all_three_providers_end_side_by_side(place: Place) -> None:
    sent = [place.send(name) for name in BUILT_IN]
    assert wait(*sent) == [
        {"batch_id": sent[0], "outcome": "ended", "says": "completed"},
        {"batch_id": sent[1], "outcome": "ended", "says": "ended"},
        {"batch_id": sent[2], "outcome": "ended", "says": "SUCCEEDED"},
    ]


@pytest.mark.parametrize("name", BUILT_IN)
def test_one_list_answers_all_that_are_due_together(place: Place, name: ProviderName) -> None:
    with store() as ledger:
        sent = [ledger.batch(place.send(name)) for _ in range(8)]
    asked = len(place.operations())

    async def together() -> list[ProviderState]:
        account = Account(name)
        return await asyncio.gather(
            *(account.state(one.provider_batch_id or "", one.submitted_at or one.planned_at, company=1) for one in sent)
        )

    states = asyncio.run(together())
    assert [state.provider_batch_id for state in states] == [one.provider_batch_id for one in sent]
    assert all(state.listed for state in states)
    assert set(place.operations()[asked:]) == {"batch_list"}


@pytest.mark.parametrize("name", BUILT_IN)
def test_many_waits_end_by_the_providers_list_and_a_list_that_is_broken_holds_nobody_up(
    place: Place, name: ProviderName
) -> None:
    place.emulator.control("POST", "turnaround", {"seconds": 3600})
    sent = [place.send(name) for _ in range(8)]
    place.emulator.fault(name, "batch_list", "refuse", status=403, account=place.account)

    def end_after_three_lists() -> None:
        while place.operations().count("batch_list") < 3:
            time.sleep(0.05)
        place.emulator.control("POST", "turnaround", {"seconds": 0.5})

    ending = threading.Thread(target=end_after_three_lists, daemon=True)
    ending.start()
    assert {event["outcome"] for event in wait(*sent)} == {"ended"}
    ending.join()


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_outage_is_waited_out(place: Place, name: ProviderName) -> None:
    sent = place.send(name)
    place.emulator.fault(name, "batch_get", "reset", times=2, account=place.account)
    place.emulator.fault(name, "batch_get", "refuse", times=3, status=503, account=place.account)
    assert [event["outcome"] for event in wait(sent)] == ["ended"]


@pytest.mark.fault(23)
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_revoked_key_fails_the_wait_and_leaves_the_batch_alone(place: Place, name: ProviderName) -> None:
    key = f"emu-{place.account}.second"
    place.connect(name, key=key)
    sent = place.send(name)
    place.emulator.control("POST", "keys/revoke", {"key": key})
    (told,) = wait(sent)
    assert told["outcome"] == "gave_up"
    assert "the account is refused" in told["says"]
    assert key not in told["says"]
    assert "batch_cancel" not in place.operations()


@pytest.mark.fault(24)
@pytest.mark.parametrize("name", BUILT_IN)
def test_another_accounts_batch_is_never_taken_for_gone(place: Place, name: ProviderName) -> None:
    sent = place.send(name)
    place.connect(name, key=f"emu-{uuid.uuid4().hex}")
    (told,) = wait(sent)
    assert told["outcome"] == "gave_up"
    assert "another account" in told["says"]


@pytest.mark.fault(25)
@pytest.mark.parametrize("name", BUILT_IN)
def test_an_unknown_status_is_waited_through(place: Place, name: ProviderName) -> None:
    sent = place.send(name)
    place.emulator.fault(name, "batch_get", "unknown_status", times=2, account=place.account)
    assert [event["outcome"] for event in wait(sent)] == ["ended"]


@pytest.mark.fault(12, 13)
@pytest.mark.parametrize("name", BUILT_IN)
def test_stopping_a_wait_cancels_nothing_at_the_provider(place: Place, name: ProviderName) -> None:
    sent = place.send(name)

    async def start_and_stop() -> None:
        waiting = BatchTrigger(sent, time.time() + 60)
        looking = asyncio.ensure_future(anext(waiting.run()))
        while "batch_get" not in await asyncio.to_thread(place.operations):
            await asyncio.sleep(0.01)
        looking.cancel()
        await waiting.on_kill()
        await waiting.cleanup()

    asyncio.run(start_and_stop())
    assert "batch_cancel" not in place.operations()
    assert [event["outcome"] for event in wait(sent)] == ["ended"]


def test_a_key_of_a_named_account_can_be_rotated_while_its_batch_runs(place: Place) -> None:
    place.connect("openai", key=f"emu-{place.account}.old", account="ours")
    sent = place.send("openai")
    before = provider_for("openai").account
    place.connect("openai", key=f"emu-{place.account}.new", account="ours")
    place.emulator.control("POST", "keys/revoke", {"key": f"emu-{place.account}.old"})
    assert provider_for("openai").account == before
    assert [event["outcome"] for event in wait(sent)] == ["ended"]


def test_the_gemini_form_is_tested_by_a_call_that_costs_nothing(place: Place) -> None:
    assert GeminiHook().test_connection() == (True, "Gemini answers, and takes the key.")
    assert "batch_create" not in place.operations()


def test_the_gemini_form_tells_what_is_wrong_without_telling_the_key(place: Place) -> None:
    key = f"emu-{place.account}.bad"
    place.connect("gemini", key=key)
    place.emulator.control("POST", "keys/revoke", {"key": key})
    works, words = GeminiHook().test_connection()
    assert not works
    assert words
    assert key not in words
    place.patch.delenv("AIRFLOW_CONN_GEMINI_DEFAULT")
    assert GeminiHook().test_connection()[1].startswith("There is no Airflow connection 'gemini_default'.")


def test_keys_of_connections_are_masked(place: Place) -> None:
    from airflow.sdk.log import redact  # type: ignore[attr-defined]

    place.connect("openai", key="emu-secret-in-the-password", account="ours")
    provider_for("openai")
    assert "emu-secret-in-the-password" not in str(redact("the key is emu-secret-in-the-password"))

"""The wait itself, against a scripted provider: what is looked at, how often, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.triggers.base import BaseTrigger, TriggerEvent

from nightbatch.airflow import shared
from nightbatch.airflow.trigger import BatchTrigger
from nightbatch.core.errors import AccountRefused, NightbatchError, Rejected, Transient
from nightbatch.core.ledger import Batch
from nightbatch.core.models import ProviderState

RUNNING = ProviderState(provider_batch_id="batch_1", phase="running", status="in_progress")
ENDED = replace(RUNNING, phase="ended", status="completed")
BATCH = Batch(
    id=41, run_id="manual__1", provider="openai", model="gpt", endpoint="chat", part=1, replaces=None, tag="nb-1",
    state="submitted", epoch=1, job_count=3, account_fingerprint="acc", payload_sha256="00", input_file="file-1",
    provider_batch_id="batch_1", error=None, intent_at=datetime.now(UTC), fenced_at=None,
    submitted_at=datetime.now(UTC), closed_at=None, planned_at=datetime.now(UTC), duplicate_of=None,
    cancel_wanted_at=None,
)  # fmt: skip


class Provider:
    """Says what it is told to, look by look; the last answer stays."""

    name = "openai"

    def __init__(self) -> None:
        self.answers: list[ProviderState | NightbatchError] = []
        self.looks = 0
        self.cancelled = False

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        assert provider_batch_id == "batch_1"
        self.looks += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NightbatchError):
            raise answer
        return answer

    def cancel(self, provider_batch_id: str) -> None:
        self.cancelled = True


@pytest.fixture(autouse=True)
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    scripted = Provider()
    monkeypatch.setenv("NIGHTBATCH_POLL_SECONDS", "0.01")
    monkeypatch.setenv("NIGHTBATCH_POLL_MAX_SECONDS", "0.02")
    monkeypatch.setattr(shared, "provider_for", lambda name: scripted)
    monkeypatch.setattr(shared, "read_batches", lambda ids: {41: BATCH})
    return scripted


def wait(until: datetime | None = None) -> Any:
    async def first_event() -> Any:
        later = datetime.now(UTC) + timedelta(hours=26)
        async for event in BatchTrigger(41, (until or later).timestamp()).run():
            return event.payload

    return asyncio.run(first_event())


def ended(status: str = "completed") -> dict[str, Any]:
    return {"batch_id": 41, "outcome": "ended", "says": status}


def test_a_batch_that_has_ended_already_is_told_at_the_first_look(provider: Provider, monkeypatch: Any) -> None:
    monkeypatch.setenv("NIGHTBATCH_POLL_SECONDS", "60")
    provider.answers = [ENDED]
    start = time.monotonic()
    assert wait() == ended()
    assert provider.looks == 1
    assert time.monotonic() - start < 5


@pytest.mark.fault(25)
def test_a_running_batch_is_looked_at_until_it_ends(provider: Provider) -> None:
    provider.answers = [RUNNING, RUNNING, replace(RUNNING, unknown=True, status="dreaming"), ENDED]
    assert wait() == ended()
    assert provider.looks == 4


def test_a_batch_that_failed_whole_is_over_too(provider: Provider) -> None:
    provider.answers = [replace(RUNNING, phase="failed", status="failed")]
    assert wait() == ended("failed")


def test_passing_trouble_does_not_end_the_wait(provider: Provider) -> None:
    provider.answers = [*[Transient("HTTP 503", status=503)] * 12, RUNNING, Transient("reset"), ENDED]
    assert wait() == ended()
    assert provider.looks == 15


@pytest.mark.fault(23)
def test_a_bad_key_ends_the_wait_after_the_connection_was_read_again(provider: Provider) -> None:
    provider.answers = [AccountRefused("401 invalid key", status=401)]
    assert wait()["outcome"] == "gave_up"
    assert provider.looks == 2


@pytest.mark.fault(24)
def test_another_account_ends_the_wait_at_once(provider: Provider) -> None:
    provider.answers = [Rejected("no such batch", status=404)]
    told = wait()
    assert told["outcome"] == "gave_up"
    assert "another account" in told["says"]
    assert provider.looks == 1


@pytest.mark.fault(6)
def test_a_restarted_wait_keeps_the_deadline_of_the_submission(provider: Provider) -> None:
    provider.answers = [RUNNING]
    deadline = datetime.now(UTC) + timedelta(seconds=0.3)
    for _ in range(2):  # the second triggerer comes after the first one gave up
        told = wait(until=deadline)
        assert told["outcome"] == "gave_up"
        assert "past its deadline" in told["says"]
    assert datetime.now(UTC) - deadline < timedelta(seconds=5)


@pytest.mark.fault(6)
def test_a_batch_that_ended_while_no_triggerer_ran_is_still_told(provider: Provider) -> None:
    provider.answers = [ENDED]
    assert wait(until=datetime.now(UTC) - timedelta(days=2)) == ended()


def test_a_ledger_that_cannot_be_reached_is_asked_again(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    provider.answers = [ENDED]
    reads: list[Batch | NightbatchError] = [Transient("the database restarts"), BATCH]

    def read(ids: set[int]) -> dict[int, Batch]:
        found = reads.pop(0)
        if isinstance(found, NightbatchError):
            raise found
        return {found.id: found}

    monkeypatch.setattr(shared, "read_batches", read)
    assert wait() == ended()


def test_an_attempt_without_a_batch_at_the_provider_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    held = replace(BATCH, state="held", provider_batch_id=None)
    monkeypatch.setattr(shared, "read_batches", lambda ids: {41: held})
    assert wait() == {"batch_id": 41, "outcome": "gave_up", "says": "the ledger says 'held': no provider has it."}


def test_a_slow_connection_does_not_hold_up_other_waits(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(found: Any) -> Callable[[Any], Any]:
        def read(_: Any) -> Any:
            time.sleep(0.8)
            return found

        return read

    monkeypatch.setattr(shared, "read_batches", slow({41: BATCH}))
    monkeypatch.setattr(shared, "provider_for", slow(provider))
    provider.answers = [ENDED]

    async def longest_pause() -> float:
        waiting = asyncio.create_task(_collect(BatchTrigger(41, time.time() + 60)))
        longest = 0.0
        while not waiting.done():
            start = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - start)
        return longest

    assert asyncio.run(longest_pause()) < 0.6


async def _collect(waiting: BatchTrigger) -> list[TriggerEvent]:
    return [event async for event in waiting.run()]


def test_a_trigger_survives_being_stored_and_holds_nothing_but_an_id_and_a_time() -> None:
    path, kwargs = BatchTrigger(41, 1795485600.5).serialize()
    assert kwargs == {"batch_id": 41, "deadline": 1795485600.5}
    row = Trigger.from_object(BatchTrigger(41, 1795485600.5))
    assert (row.classpath, row.kwargs) == (path, kwargs)
    assert path == f"{BatchTrigger.__module__}.{BatchTrigger.__qualname__}"
    assert BatchTrigger(**row.kwargs).serialize() == (path, kwargs)


@pytest.mark.fault(12, 13)
def test_stopping_a_wait_in_any_way_leaves_the_batch_alone(provider: Provider) -> None:
    provider.answers = [RUNNING]

    async def start_and_stop() -> None:
        waiting = BatchTrigger(41, time.time() + 3600)
        running = asyncio.create_task(_collect(waiting))
        async with asyncio.timeout(10):
            while not provider.looks:
                await asyncio.sleep(0.01)
        running.cancel()
        await waiting.on_kill()
        await waiting.cleanup()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(start_and_stop())
    assert not provider.cancelled
    assert BatchTrigger.on_kill is BaseTrigger.on_kill
    assert BatchTrigger.cleanup is BaseTrigger.cleanup


PATHS = ("trigger.BatchTrigger", "notifiers.WebhookNotifier", "sensor.BatchSensor", "retries.RetryByError")


@pytest.mark.parametrize("path", PATHS)
def test_class_paths_that_databases_hold_stay_as_they_were_at_the_first_release(path: str) -> None:
    """A deferred wait, a serialized Dag's notifier or retry policy may be older than the code that reads it."""
    module, name = f"nightbatch.airflow.{path}".rsplit(".", 1)
    assert getattr(import_module(module), name).__module__ == module
    assert BatchTrigger(41, 1.0).serialize()[0] == "nightbatch.airflow.trigger.BatchTrigger"

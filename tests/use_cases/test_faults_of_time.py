"""Faults of days and clocks; docs/reliability.md lists all faults, and who holds them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nightbatch.core.errors import SubmissionInDoubt
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch_local.emulator.process import EmulatorProcess
from tests.use_cases.conftest import World
from tests.use_cases.steps import alerts, planned, recover, sent, until_all_succeed, wait_for_end


@pytest.fixture
def slow(world: World) -> Iterator[None]:
    """Batches take long, until a test says otherwise."""
    world.emulator.control("POST", "turnaround", {"seconds": 60})
    yield
    world.emulator.control("POST", "turnaround", {"seconds": 0.2})


class Past:
    """A world that begins days ago, at the provider and in the ledger, until `today` comes."""

    def __init__(self, world: World, emulator: EmulatorProcess, days: float) -> None:
        self.world, self.days = replace(world, emulator=emulator), days
        emulator.control("POST", "clock", {"advance": -days * 86_400})

    def today(self) -> World:
        self.world.emulator.control("POST", "clock", {"advance": self.days * 86_400})
        columns = ("planned_at", "intent_at", "uploaded_at", "submitted_at")
        older = ", ".join(f"{column} = {column} - make_interval(secs => {self.days * 86_400})" for column in columns)
        self.world.store.connection.execute(f"UPDATE nightbatch.batch SET {older}")
        return self.world


@pytest.fixture
def past_emulator(tmp_path: Path) -> Iterator[EmulatorProcess]:
    """One of its own: the others' time must not jump."""
    with EmulatorProcess(tmp_path, turnaround=0.2) as running:
        yield running


@pytest.mark.fault(14)
@pytest.mark.parametrize(("name", "days"), [("openai", 5), ("anthropic", 5), ("gemini", 1.5)])
def test_what_was_sent_before_the_dag_was_paused_for_days_is_adopted(
    world: World, past_emulator: EmulatorProcess, name: ProviderName, days: float
) -> None:
    past = Past(world, past_emulator, days)
    planned(past.world, name)
    for run, fault in (("r1", None), ("r2", "lose_answer")):
        if fault:
            past.world.insert(name, 2)
            past_emulator.fault(name, "batch_create", fault)
        for batch in past.world.plan(run):
            with suppress(SubmissionInDoubt):
                past.world.submit(batch)
    today = past.today()
    until_all_succeed(today)
    assert today.creates(name) == 2
    today.judge()


@pytest.mark.fault(14, 23)
@pytest.mark.parametrize(("name", "kept_days"), [("openai", 30), ("anthropic", 29), ("gemini", 2)])
def test_results_that_cannot_be_loaded_are_told_of_before_the_provider_deletes_them(
    world: World, past_emulator: EmulatorProcess, name: ProviderName, kept_days: float
) -> None:
    past = Past(world, past_emulator, kept_days * 0.6)
    batch_id = sent(past.world, name)
    wait_for_end(past.world, batch_id)
    today = past.today()
    past_emulator.fault(name, "batch_get", "refuse", status=403, times=None)
    recover(today)
    assert alerts(today) == ["account_refused", "results_expire"]
    (told,) = [alert.message for alert in today.store.open_alerts() if alert.kind == "results_expire"]
    gone = datetime.now(UTC) + timedelta(days=kept_days * 0.4)
    assert f"{gone:%Y-%m-%d}" in told
    past_emulator.control("DELETE", "faults")
    until_all_succeed(today)
    recover(today)
    assert alerts(today) == []
    today.judge()


@pytest.mark.fault(35)
def test_results_past_their_retention_are_lost_and_not_paid_for_again(
    world: World, past_emulator: EmulatorProcess, provider: ProviderName
) -> None:
    past = Past(world, past_emulator, days=32)
    wait_for_end(past.world, sent(past.world, provider))
    today = past.today()
    recover(today)
    assert alerts(today) == ["lost_results"]
    assert set(today.states().values()) == {"failed"}
    assert today.rows("SELECT DISTINCT outcome, billed, batch_cost_usd FROM nightbatch.result") == [
        ("missing", True, None)
    ]
    assert today.plan("r2") == []
    assert today.creates(provider) == 1


@pytest.mark.fault(18)
@pytest.mark.parametrize("days", [-3, 3])
def test_a_machine_whose_clock_is_days_off_decides_by_the_databases(
    world: World, slow: None, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    shift_this_machines_clock(monkeypatch, timedelta(days=days))
    world.settings = replace(world.settings, settle_seconds=3600, create_seconds=3600)
    world.insert("openai", 1, not_before=datetime.now(UTC) + timedelta(hours=1))
    running = planned(world, "openai")
    world.submit(running)
    world.insert("gemini", 2)
    lost = world.plan("r2")[0].id
    world.emulator.fault("gemini", "batch_create", "reset")
    with pytest.raises(SubmissionInDoubt):
        world.submit(lost)
    with pytest.raises(SubmissionInDoubt) as waits:  # a fast clock would think that the settle wait is over
        world.submit(lost)
    assert 3500 < (waits.value.look_again_in or 0) <= 3600
    assert recover(world) == [], "nothing is overdue, and the create may still be under way"
    assert world.plan("r3") == [], "the job's time has not come"
    off = "abs(extract(epoch FROM now() - {})) > 600"
    times = ("planned_at", "uploaded_at", "intent_at", "fenced_at", "submitted_at")
    assert world.rows(f"SELECT id FROM nightbatch.batch WHERE {' OR '.join(map(off.format, times))}") == []
    world.settings = replace(world.settings, wait_hours=1e-9)
    told = recover(world)  # a slow clock would not see that it is late
    assert [sentence for sentence in told if f"Batch {running} is overdue" in sentence] != []


def shift_this_machines_clock(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """As far as nightbatch sees it."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + by

    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + by.total_seconds())
    for name, module in sorted(sys.modules.items()):
        if name.startswith("nightbatch.") and getattr(module, "datetime", None) is datetime:
            monkeypatch.setattr(module, "datetime", Shifted)


@pytest.mark.fault(15)
def test_a_prompt_changed_under_a_batch_in_doubt_does_not_send_it_again(
    world: World, provider: ProviderName, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = planned(world, provider)
    world.emulator.fault(provider, "batch_create", "lose_answer")
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch_id)
    frozen = world.store.batch(batch_id).payload_sha256
    monkeypatch.setattr(job_types()["creative_scoring"], "prompts", {"1": "Another prompt."})
    assert world.submit_until_certain(batch_id) == batch_id
    assert world.store.batch(batch_id).payload_sha256 == frozen
    assert world.creates(provider) == 1
    assert world.load(batch_id).succeeded == 3
    world.judge()

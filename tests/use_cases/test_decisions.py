"""What a person decides about an attempt is done once, recorded, and never pays for a job twice unseen."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from nightbatch.batches import decisions, recovery
from nightbatch.batches.decisions import Choice
from nightbatch.core.errors import NightbatchError, SubmissionInDoubt
from nightbatch.core.ledger import Batch
from nightbatch.job_types import job_types
from nightbatch.reporting import stats
from tests.use_cases.conftest import World


def recover(world: World, *, account: str | None = None) -> list[str]:
    return recovery.recover(
        world.store, lambda name: world.provider(name, account=account), job_types(), world.settings
    )


def held(world: World, fault: str = "reset", **details: Any) -> Batch:
    """An Anthropic attempt of three jobs whose create got no answer, and that the list did not show."""
    world.insert("anthropic")
    (batch,) = world.plan()
    world.emulator.fault("anthropic", "batch_create", fault, times=1, **details)
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    time.sleep(0.4)
    recover(world)
    found = world.store.batch(batch.id)
    assert found.state == "held"
    return found


def decide(world: World, batch: Batch, choice: Choice, **details: Any) -> str:
    return decisions.release(world.store, batch.id, choice=choice, by="ann", reason="looked at it", **details)


def kinds(world: World) -> list[str]:
    return sorted(alert.kind for alert in world.store.open_alerts())


def test_resend_lets_the_jobs_go_with_the_next_run(world: World) -> None:
    batch = held(world)
    assert decide(world, batch, "resend") == f"Batch {batch.id} is released: its 3 jobs go with the next run."
    assert set(world.states().values()) == {"queued"}
    assert kinds(world) == []
    assert [row.succeeded for row in world.night("r2")] == [3]
    assert recover(world) == []
    world.judge()


def test_drop_ends_the_jobs(world: World) -> None:
    batch = held(world)
    decide(world, batch, "drop")
    assert set(world.states().values()) == {"cancelled"}
    assert world.plan("r2") == []
    assert world.bill() == []


def test_adopt_takes_the_batch_that_the_person_found(world: World) -> None:
    batch = held(world, "deliver_late", delay_seconds=3600)
    assert world.emulator.let_the_late_arrive(world.account) == 1
    (found,) = world.provider("anthropic").find_submission(batch.submission)
    decide(world, batch, "adopt", provider_batch_id=found.provider_batch_id)
    assert world.load(batch.id).succeeded == 3
    world.judge()


def test_a_wrong_id_is_found_out_by_its_results(world: World) -> None:
    world.insert("anthropic")
    (other,) = world.plan("r0")
    world.submit(other)
    foreign = world.store.batch(other.id).provider_batch_id
    world.load(other.id)
    batch = held(world)
    with pytest.raises(NightbatchError, match="belongs to another attempt"):
        decide(world, batch, "adopt", provider_batch_id=foreign)
    assert world.store.batch(batch.id).state == "held"
    assert world.rows("SELECT count(*) FROM nightbatch.decision") == [0]


def test_a_decision_is_recorded_with_who_and_why(world: World) -> None:
    batch = held(world)
    decide(world, batch, "resend")
    assert world.rows("SELECT batch_id, choice, decided_by, reason FROM nightbatch.decision") == [
        (batch.id, "resend", "ann", "looked at it")
    ]


def test_a_release_that_proves_wrong_is_found_and_taken_off_the_savings(world: World) -> None:
    """The create was held up for longer than the person looked: the jobs are paid for twice, and the report says so."""
    batch = held(world, "deliver_late", delay_seconds=3600)
    decide(world, batch, "resend")
    assert [row.succeeded for row in world.night("r2")] == [3]
    assert world.emulator.let_the_late_arrive(world.account) == 1
    deadline = time.monotonic() + 300
    while not (told := recover(world)):  # its lines tell whose it is, once it has ended
        assert time.monotonic() < deadline, "nobody tells of it"
        time.sleep(0.05)
    assert any("may be billed twice" in sentence for sentence in told), told
    assert kinds(world) == ["duplicate_batch"]
    recover(world)
    paid, saved, realtime = world.rows(
        "SELECT sum(batch_cost_usd), sum(savings_usd), sum(realtime_cost_usd) FROM nightbatch_report.savings_daily"
    )[0]
    assert len(world.bill()) == 6
    assert world.rows("SELECT sum(batch_cost_usd) FROM nightbatch.result") == [paid]
    assert saved == realtime - paid, "what was paid twice is taken off once"
    assert world.rows("SELECT paid_again FROM nightbatch_report.run_summary WHERE run_id = 'r1'") == [3]
    assert set(world.states().values()) == {"succeeded"}
    assert recover(world) == []


@pytest.mark.parametrize("choice", ["resend", "adopt"])
def test_what_was_accepted_is_never_sent_again_by_a_decision(world: World, choice: Choice) -> None:
    world.insert("openai")
    (batch,) = world.plan()
    world.submit(batch)
    with pytest.raises(NightbatchError, match="may have been billed"):
        decide(world, batch, choice, **({"provider_batch_id": "batch_x"} if choice == "adopt" else {}))


def test_results_that_nobody_can_fetch_are_given_up_and_not_paid_again(world: World) -> None:
    world.insert("openai")
    (batch,) = world.plan()
    world.submit(batch)
    world.emulator.fault("openai", "batch_get", "refuse", status=404, times=None)
    (sentence,) = recover(world)
    assert "does not know" in sentence
    assert kinds(world) == ["unknown_batch"]
    decide(world, batch, "drop")
    assert set(world.states().values()) == {"failed"}
    assert kinds(world) == ["lost_results"]
    assert world.plan("r2") == []


@pytest.mark.parametrize("state", ["planned", "closed", "absent"])
def test_there_is_no_decision_where_nothing_is_to_be_decided(world: World, state: str) -> None:
    world.insert("openai")
    (batch,) = world.plan()
    if state == "closed":
        world.submit(batch)
        world.load(batch.id)
    with pytest.raises(NightbatchError, match=r"settles it by itself|nothing to decide|no batch"):
        decide(world, batch if state != "absent" else replace(batch, id=999_999), "resend")


def test_a_decision_and_a_recovery_at_once_do_one_of_both(world: World) -> None:
    """The recovery took the attempt over between the person's look and the decision: only one of them closes it."""
    batch = held(world)
    world.store.take_over(batch)  # as another process does
    decide(world, batch, "resend")
    with pytest.raises(NightbatchError):
        decide(world, batch, "resend")
    assert world.rows("SELECT count(*) FROM nightbatch.decision") == [1]


def test_the_doctor_says_what_is_known_what_happens_and_what_you_may_do(world: World) -> None:
    batch = held(world)
    (attempt,) = stats.attempts(world.store, world.settings)
    assert (attempt.batch_id, attempt.state, attempt.jobs) == (batch.id, "held", 3)
    assert "does not list it" in attempt.known
    assert "every hour" in attempt.next
    assert attempt.next_at is not None
    assert attempt.next_at.minute == 30
    assert set(attempt.choices) == {"adopt", "resend", "drop"}
    assert stats.other_alerts(world.store) == []


def test_the_doctor_tells_of_a_create_in_doubt_and_when_it_is_settled(world: World) -> None:
    world.settings = replace(world.settings, create_seconds=600, settle_seconds=0.3)
    world.insert("openai")
    (batch,) = world.plan()
    world.emulator.fault("openai", "batch_create", "reset", times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    (attempt,) = stats.attempts(world.store, world.settings)
    assert "its own task" in attempt.next.lower()
    world.settings = replace(world.settings, create_seconds=0.01)
    time.sleep(0.05)
    (attempt,) = stats.attempts(world.store, world.settings)
    assert "proves that there is none" in attempt.next
    assert attempt.choices == {}
    recover(world)
    assert kinds(world) == ["in_doubt"]
    (attempt,) = stats.attempts(world.store, world.settings)
    assert "its input was deleted" in attempt.known
    time.sleep(0.5)
    recover(world)
    assert kinds(world) == []
    assert stats.attempts(world.store, world.settings) == []


@pytest.mark.fault(38)
def test_a_batch_stuck_past_its_window_is_told_and_can_be_cancelled(world: World) -> None:
    world.emulator.control("POST", "turnaround", {"seconds": 60})
    try:
        world.insert("openai", 4)
        (batch,) = world.plan()
        world.submit(batch)
        world.settings = replace(world.settings, wait_hours=1e-9)
        recover(world)
        (attempt,) = stats.attempts(world.store, world.settings)
        assert set(attempt.choices) == {"cancel"}
        decisions.ask_to_cancel(world.store, batch.id, by="ann", reason="stuck")
        (told,) = recover(world)
        assert "was asked to cancel it" in told
    finally:
        world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    deadline = time.monotonic() + 20
    while world.store.batch(batch.id).state == "submitted" and time.monotonic() < deadline:
        time.sleep(0.1)
        recover(world)
    assert kinds(world) == []
    assert set(world.states().values()) <= {"succeeded", "queued"}
    world.night("r2")
    assert set(world.states().values()) == {"succeeded"}
    world.judge()

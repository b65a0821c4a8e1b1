"""What no run takes care of any more is settled, loaded or told to a person by `nightbatch_recover`."""

from __future__ import annotations

import time
from dataclasses import replace
from unittest.mock import ANY

import pytest

from nightbatch.batches import recovery
from nightbatch.core.errors import SubmissionInDoubt
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from tests.use_cases.conftest import World


def recover(world: World, *, account: str | None = None) -> list[str]:
    return recovery.recover(
        world.store, lambda name: world.provider(name, account=account), job_types(), world.settings
    )


def test_nothing_open_is_nothing_to_tell(world: World) -> None:
    assert recover(world) == []


@pytest.mark.fault(13, 14)
def test_a_batch_that_nobody_waits_for_is_loaded(world: World, provider: ProviderName) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    world.submit(batch)
    time.sleep(0.8)
    assert recover(world) == [f"Batch {batch.id} had ended and is loaded: 3 of 3 succeeded."]
    assert recover(world) == []
    world.judge()


@pytest.mark.fault(21)
def test_a_submission_in_doubt_is_adopted_and_loaded_at_once(world: World, provider: ProviderName) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    world.emulator.fault(provider, "batch_create", "lose_answer", times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    time.sleep(0.8)
    (sentence,) = recover(world)
    assert sentence.startswith(f"Batch {batch.id} was found at {provider} as ")
    assert sentence.endswith(f"Batch {batch.id} had ended and is loaded: 3 of 3 succeeded.")
    world.judge()


@pytest.mark.fault(21)
@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_what_was_never_created_goes_back_to_the_queue(world: World, name: ProviderName) -> None:
    world.insert(name)
    (batch,) = world.plan()
    world.emulator.fault(name, "batch_create", "reset", times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    time.sleep(0.2)
    assert recover(world) == [ANY]  # fenced: one more look follows
    time.sleep(0.5)
    assert recover(world) == [f"Batch {batch.id} was never created; its 3 jobs are queued again."]
    assert [row.succeeded for row in world.night("r2")] == [3]
    world.judge()


def test_a_create_under_way_is_left_alone(world: World) -> None:
    world.settings = replace(world.settings, create_seconds=60)
    world.insert("openai")
    (batch,) = world.plan()
    world.emulator.fault("openai", "batch_create", "reset", times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    assert recover(world) == []


@pytest.mark.fault(24)
def test_another_key_is_told_and_never_sends(world: World, provider: ProviderName) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    world.submit(batch)
    (sentence,) = recover(world, account="somebody-else")
    assert "belongs to another" in sentence
    assert [alert.kind for alert in world.store.open_alerts()] == ["other_account"]
    world.load(batch.id)
    world.judge()


def test_one_providers_trouble_does_not_keep_the_others_from_being_settled(world: World) -> None:
    for name in ("openai", "gemini"):
        world.insert(name)
    for batch in world.plan():
        world.submit(batch)
    time.sleep(0.8)
    world.emulator.fault("openai", "batch_get", "refuse", status=403, times=None)
    told = recover(world)
    assert len(told) == 2
    assert any(sentence.endswith("3 of 3 succeeded.") for sentence in told)


def test_an_attempt_whose_run_died_before_sending_frees_its_jobs(world: World) -> None:
    world.insert("openai")
    (batch,) = world.plan()
    assert recover(world) == []
    world.settings = replace(world.settings, wait_hours=1e-9)
    assert recover(world) == [f"Batch {batch.id} was never sent; its 3 jobs are queued again."]
    assert set(world.states().values()) == {"queued"}


@pytest.mark.fault(38)
def test_an_overdue_batch_is_told_until_it_ends(world: World) -> None:
    world.emulator.control("POST", "turnaround", {"seconds": 30})
    try:
        world.insert("openai")
        (batch,) = world.plan()
        world.submit(batch)
        world.settings = replace(world.settings, wait_hours=1e-9)
        for _ in range(2):
            (sentence,) = recover(world)
            assert sentence.startswith(f"Batch {batch.id} is overdue: openai has had it since ")
        assert [alert.kind for alert in world.store.open_alerts()] == ["overdue"]
    finally:
        world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    time.sleep(0.5)
    assert recover(world) == [f"Batch {batch.id} had ended and is loaded: 3 of 3 succeeded."]
    assert world.store.open_alerts() == []
    world.judge()

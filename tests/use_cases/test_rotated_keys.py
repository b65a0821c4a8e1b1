"""A key that is rotated while something is under way: taken over where it proves itself, told where it cannot."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from nightbatch.batches import cost_preview, decisions, recovery
from nightbatch.core.errors import ConfigurationError, SubmissionInDoubt
from nightbatch.core.ledger import Batch
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from tests.use_cases.conftest import World
from tests.use_cases.steps import alerts, until_all_succeed


def rotated(world: World) -> World:
    """The same ledger and account by another key: the emulator has `emu-<account>` and `emu-<account>.2` for one."""
    return replace(world, account=f"{world.account}.2")


def left_in_doubt(world: World, provider: ProviderName, fault: str) -> Batch:
    world.insert(provider, 3)
    (batch,) = world.plan("doubtful")
    world.emulator.fault(provider, "batch_create", fault, times=1, account=world.account)
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    time.sleep(0.2)  # longer than create_seconds: its own task is no longer at it
    return batch


def recover(world: World) -> list[str]:
    return recovery.recover(world.store, world.provider, job_types(), world.settings)


def until_held(world: World, new: World, batch: Batch) -> None:
    deadline = time.monotonic() + 30
    while world.store.batch(batch.id).state != "held":
        told = recover(new)
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


@pytest.mark.fault(74)
@pytest.mark.parametrize("fault", ["lose_answer", "reset"])
def test_a_rotated_key_takes_over_what_is_in_doubt_once_it_sees_a_batch_of_the_account(
    world: World, provider: ProviderName, fault: str
) -> None:
    world.insert(provider, 1)
    world.night("before")
    batch = left_in_doubt(world, provider, fault)
    new = rotated(world)
    if (provider, fault) == ("anthropic", "reset"):
        until_held(world, new, batch)  # nothing tells whether it was created: but it is not held for its key
        assert "held" in alerts(world) and "other_account" not in alerts(world)
        return
    deadline = time.monotonic() + 30
    while world.rows("SELECT count(*) FROM nightbatch.open_job WHERE batch_id IS NOT NULL") != [0]:
        told = recover(new)
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
    new.night("after")
    until_all_succeed(new)
    assert alerts(world) == []
    world.judge()


@pytest.mark.fault(74)
def test_a_rotated_key_loads_what_is_under_way_and_sends_what_was_bound(world: World, provider: ProviderName) -> None:
    world.insert(provider, 1)
    (under_way,) = world.plan("r1")
    world.submit(under_way)
    world.insert(provider, 1)
    (bound,) = world.plan("r2")
    world.store.bind_account(bound.id, world.provider(provider).account)
    new = rotated(world)
    new.submit(bound)
    new.load(under_way.id)
    new.load(bound.id)
    world.insert(provider, 1)
    new.night("r3")
    assert world.rows("SELECT count(DISTINCT account_fingerprint) FROM nightbatch.batch") == [1]
    assert alerts(world) == []
    world.judge()


@pytest.mark.fault(74)
def test_where_the_key_of_a_held_attempt_is_gone_whoever_resends_is_told_that_nobody_looks(
    world: World, provider: ProviderName
) -> None:
    world.insert(provider, 1)
    world.night("before")
    batch = left_in_doubt(world, provider, "lose_answer")
    stranger = replace(world, account=f"{world.account}x")
    recover(stranger)
    assert world.store.batch(batch.id).state == "held"
    promise, _ = cost_preview.of_releasing(world.store, job_types(), batch.id, "resend")
    assert "cannot be looked for" in promise and "goes on looking" not in promise
    said = decisions.release(world.store, batch.id, choice="resend", by="ann", reason="the old key is lost")
    assert "cannot be looked for" in said
    stranger.night("next")
    told = recover(stranger)
    assert any("has no key any more" in sentence for sentence in told)
    assert "not_looked_for" in alerts(world)


@pytest.mark.fault(74)
def test_a_key_put_back_finds_what_was_sent_twice_meanwhile(world: World) -> None:
    world.insert("openai", 1)
    world.night("before")
    batch = left_in_doubt(world, "openai", "lose_answer")
    stranger = replace(world, account=f"{world.account}x")
    recover(stranger)
    decisions.release(world.store, batch.id, choice="resend", by="ann", reason="the old key is lost")
    stranger.night("next")
    recover(world)
    assert "duplicate_batch" in alerts(world)


def test_a_stranger_to_the_account_is_not_taken_over(world: World, provider: ProviderName) -> None:
    world.insert(provider, 1)
    world.night("before")
    world.insert(provider, 1)
    (bound,) = world.plan("r2")
    world.store.bind_account(bound.id, world.provider(provider).account)
    with pytest.raises(ConfigurationError, match="another"):
        replace(world, account=f"{world.account}x").submit(bound)

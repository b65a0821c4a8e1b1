"""After a night every account's list is read once for batches of ours that the ledger does not have."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from nightbatch.batches import recovery
from nightbatch.batches.rendering import rendered as input_file
from nightbatch.core.ledger import Batch
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from tests.unguarded import unguarded
from tests.use_cases.conftest import World
from tests.use_cases.steps import wait_for_end


def recover(world: World) -> list[str]:
    return recovery.recover(world.store, world.provider, job_types(), world.settings)


def kinds(world: World) -> list[str]:
    return sorted(alert.kind for alert in world.store.open_alerts())


def send_again(world: World, batch: Batch) -> str:
    """What a proxy does that repeats a POST."""
    provider = world.provider(batch.provider)
    with input_file(world.store, provider, job_types(), world.settings, batch) as rendered:
        return provider.submit(world.store.batch(batch.id).submission, rendered.path)


def lists(world: World) -> int:
    return sum(entry["operation"] == "batch_list" for entry in world.emulator.log(world.account))


@pytest.mark.fault(59)
def test_a_create_that_a_proxy_sent_twice_is_found_after_the_night_and_counted_once(
    world: World, provider: ProviderName
) -> None:
    world.insert(provider, 3)
    (batch,) = world.plan()
    world.submit(batch)
    second = send_again(world, batch)
    world.load(batch.id)
    before = world.rows("SELECT sum(savings_usd) FROM nightbatch_report.savings_daily")[0]
    wait_until_ended(world, provider, second)
    recover(world)
    assert kinds(world) == ["duplicate_batch"]
    (duplicate,) = world.rows("SELECT id FROM nightbatch.batch WHERE duplicate_of IS NOT NULL")
    assert world.store.batch(duplicate).provider_batch_id == second
    recover(world)
    bill = sum((Decimal(line["cost_usd"]) for line in world.bill()), Decimal(0))
    realtime, paid, wasted, saved = world.rows(
        "SELECT sum(realtime_cost_usd), sum(batch_cost_usd), sum(wasted_cost_usd), sum(savings_usd)"
        " FROM nightbatch_report.savings_daily"
    )[0]
    assert (paid, wasted, saved) == (bill, 0, realtime - bill)
    assert before - saved == bill / 2
    assert set(world.states().values()) == {"succeeded"}


def wait_until_ended(world: World, provider: ProviderName, provider_batch_id: str) -> None:
    batch = world.store.run_batches("r1")[0]
    assert batch.provider == provider
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.use_cases.steps.at_provider", lambda *_: provider_batch_id)
        wait_for_end(world, batch.id)


def test_a_list_is_walked_once_a_night_and_not_before_its_end(world: World, provider: ProviderName) -> None:
    world.insert(provider, 2)
    (batch,) = world.plan()
    world.submit(batch)
    before = lists(world)
    world.load(batch.id)
    recover(world)
    assert lists(world) > before
    walked = lists(world)
    recover(world)
    recover(world)
    assert lists(world) == walked
    assert kinds(world) == []
    world.judge()


def test_nothing_was_sent_so_nothing_is_walked(world: World) -> None:
    world.insert("openai", 2)
    world.plan()
    recover(world)
    assert lists(world) == 0


@pytest.mark.fault(62)
@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_a_batch_of_this_installation_that_the_ledger_does_not_know_is_told(world: World, name: ProviderName) -> None:
    """So it looks after a backup was put back: the provider has what the ledger never heard of."""
    world.insert(name, 2)
    (batch,) = world.plan()
    world.submit(batch)
    lost = send_again(world, batch)
    world.load(batch.id)
    with unguarded(world.store.connection):
        world.store.connection.execute("UPDATE nightbatch.batch SET tag = nightbatch.new_tag()")
    recover(world)
    (alert,) = world.store.open_alerts()
    assert alert.kind == "displaced" and lost in alert.message
    assert world.rows("SELECT count(*) FROM nightbatch.batch") == [1]


def test_a_list_that_cannot_be_read_is_walked_the_next_hour_and_stops_nobody(world: World) -> None:
    world.insert("openai", 2)
    world.night("r1")
    world.emulator.fault("openai", "batch_list", "refuse", status=500, times=10)
    told = recover(world)
    assert any("was not read" in sentence for sentence in told)
    world.emulator.control("DELETE", "faults")
    before = lists(world)
    recover(world)
    assert lists(world) > before


@pytest.mark.fault(74)
def test_an_account_whose_key_is_gone_is_told_and_not_asked_for_ever(world: World) -> None:
    world.insert("openai", 2)
    world.night("r1")
    stranger = replace(world, account=f"{world.account}x")
    assert any("has no key any more" in sentence for sentence in recover(stranger))
    assert kinds(world) == ["not_walked"]
    with unguarded(world.store.connection):
        world.store.connection.execute("UPDATE nightbatch.batch SET intent_at = now() - interval '32 days'")
    asked = len(world.emulator.log(stranger.account))
    assert recover(stranger) == []
    assert (kinds(world), len(world.emulator.log(stranger.account))) == ([], asked)

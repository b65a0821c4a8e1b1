"""Money before the night: what the queue will cost is told beforehand, and a budget is never overspent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from nightbatch.batches import submission
from nightbatch.core.ledger import RunParams
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.planning import estimates
from nightbatch.planning.estimates import Estimate
from nightbatch.postgres.store import open_store
from tests.use_cases.conftest import World


def preview(world: World) -> list[Estimate]:
    return submission.preview(world.store, job_types(), world.settings, params=RunParams())


def budget(world: World, usd: Decimal | str, **covers: Any) -> int:
    names = ["usd_per_night", *covers]
    marks = ", ".join(["%s"] * len(names))
    row = world.store.connection.execute(
        f"INSERT INTO nightbatch.budget ({', '.join(names)}) VALUES ({marks}) RETURNING id", [usd, *covers.values()]
    ).fetchone()
    assert row
    return int(row[0])


def most(estimates: Sequence[Estimate]) -> Decimal:
    """And a little: tokens are shown as whole numbers."""
    return sum((one.batch_usd[1] for one in estimates if one.batch_usd), Decimal(0)) * Decimal("1.01")


def billed(world: World) -> Decimal:
    return sum((Decimal(line["cost_usd"]) for line in world.bill()), Decimal(0))


def test_an_estimate_holds_what_the_night_then_costs(world: World, provider: ProviderName) -> None:
    world.insert(provider, 20)
    (told,) = preview(world)
    world.night("r1")
    assert told.batch_usd and told.realtime_usd and told.price_source
    assert told.batch_usd[0] <= billed(world) <= told.batch_usd[1] < told.realtime_usd[1]
    tokens = sum(line["output_tokens"] for line in world.bill())
    assert told.output_tokens[0] <= tokens <= told.output_tokens[1]


def test_an_estimate_learns_from_what_came_before(world: World, provider: ProviderName) -> None:
    world.insert(provider, 40, headline="The first night of")
    (first,) = preview(world)
    world.night("r1")
    world.insert(provider, 40, headline="The second night of")
    before = billed(world)
    (second,) = preview(world)
    world.night("r2")
    cost = billed(world) - before
    assert first.batch_usd and second.batch_usd
    spread = second.batch_usd[1] - second.batch_usd[0]
    assert spread < first.batch_usd[1] - first.batch_usd[0]
    assert abs(second.batch_usd[1] - cost) < cost / 10


def test_an_unknown_price_is_told_as_unknown(world: World) -> None:
    world.insert("openai", 2, model="nobody-knows-this-model")
    (told,) = preview(world)
    assert (told.jobs, told.batch_usd, told.realtime_usd, told.price_source) == (2, None, None, None)
    assert told.input_tokens[1] > 0


def test_a_preview_sends_and_writes_nothing(world: World) -> None:
    world.insert("openai", 2)
    preview(world)
    assert world.rows("SELECT count(*) FROM nightbatch.run") == [0]
    assert world.rows("SELECT count(*) FROM nightbatch.open_job") == [0]


@pytest.mark.fault(57)
def test_a_night_over_budget_sends_exactly_what_fits_by_priority(world: World, provider: ProviderName) -> None:
    low, high = world.insert(provider, 6, priority=2), world.insert(provider, 6, priority=8)
    each = most(preview(world)) / 12
    number = budget(world, each * Decimal("9.5"), job_type="creative_scoring")
    world.night("r1")
    states = world.states()
    assert [states[job] for job in high] == ["succeeded"] * 6
    assert [states[job] for job in low] == ["succeeded"] * 3 + ["queued"] * 3
    assert billed(world) <= each * Decimal("9.5")
    (alert,) = world.rows("SELECT message FROM nightbatch.alert WHERE kind = 'budget_reached' AND resolved_at IS NULL")
    assert "3 jobs wait" in alert
    assert world.rows("SELECT budget_id FROM nightbatch.reserved") == [number]
    world.judge()


def test_what_one_run_set_aside_another_of_the_same_night_cannot_spend(world: World) -> None:
    world.insert("openai", 4)
    each = most(preview(world)) / 4
    budget(world, each * 4)
    world.plan("r1")
    world.insert("openai", 4)
    assert world.plan("r2") == []
    world.store.connection.execute("UPDATE nightbatch.batch SET planned_at = planned_at - interval '1 day'")
    (batch,) = world.plan("r3")
    assert batch.job_count == 4
    assert not world.rows("SELECT * FROM nightbatch.alert WHERE resolved_at IS NULL"), "the alert is over by itself"


def test_what_was_never_sent_gives_its_money_back(world: World) -> None:
    world.insert("openai", 4)
    budget(world, most(preview(world)))
    (batch,) = world.plan("r1")
    with world.store.transaction():
        world.store.close_attempt(batch, "abandoned", "nobody sent it")
        world.store.free_members(batch.id, counts_as_attempt=False)
    assert [batch.job_count for batch in world.plan("r2")] == [4]


def test_a_successor_inherits_what_was_set_aside(world: World) -> None:
    world.insert("openai", 4)
    budget(world, most(preview(world)))
    (batch,) = world.plan("r1")
    (usd,) = world.rows("SELECT usd FROM nightbatch.reserved")
    with world.store.transaction():
        world.store.close_attempt(batch, "abandoned", "its requests changed")
        successor = world.store.insert_successor(batch.id)
    assert world.rows("SELECT batch_id, usd FROM nightbatch.reserved") == [(successor.id, usd)]
    assert world.rows("SELECT batch_id FROM nightbatch.batch_estimate") == [successor.id]
    world.insert("openai", 1)
    assert world.plan("r2") == []


@pytest.mark.parametrize("label", ["team=growth", "team"])
def test_a_budget_may_cover_a_label_or_a_model(world: World, label: str) -> None:
    growth = world.insert("openai", 3, labels=json.dumps({"team": "growth"}))
    others = world.insert("openai", 3, labels=json.dumps({"squad": "growth"}))
    mini = world.insert("openai", 3, model="gpt-6-sol")
    budget(world, "0", label=label)
    budget(world, "0", model="gpt-6-sol")
    world.plan("r1")
    states = world.states()
    assert {states[job] for job in growth + mini} == {"queued"}
    assert {states[job] for job in others} == {"batched"}


def test_a_job_without_a_price_cannot_be_held_to_a_budget_and_waits(world: World) -> None:
    world.insert("openai", 2, model="nobody-knows-this-model")
    world.insert("openai", 1)
    budget(world, "100")
    (batch,) = world.plan("r1")
    assert (batch.model, batch.job_count) == ("gpt-6-luna", 1)
    (alert,) = world.rows("SELECT message FROM nightbatch.alert WHERE kind = 'price_missing'")
    assert "2 jobs" in alert and "nightbatch.price_override" in alert


def test_two_plans_at_once_do_not_spend_the_same_money(world: World) -> None:
    world.insert("openai", 4)
    budget(world, most(preview(world)))
    world.insert("openai", 4)
    from concurrent.futures import ThreadPoolExecutor

    def plan(run_id: str) -> int:
        with open_store(world.dsn) as store:
            planned = submission.plan_run(
                store, job_types(), world.settings, run_id=run_id, queued_before=None, params=RunParams()
            )
        return sum(batch.job_count for batch in planned)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(plan, ["a", "b", "c", "d"])) == 4


def test_hostile_text_is_counted_like_any_other() -> None:
    assert estimates.count_tokens("<|endoftext|> \ud800 \x00") > 0
    assert estimates.count_tokens("one two three") == 3

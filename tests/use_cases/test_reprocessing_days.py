"""A past day's jobs again: priced beforehand, each once, old beside new."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from nightbatch.core.errors import ConfigurationError
from nightbatch.job_types import job_types
from nightbatch.planning import reprocessing
from nightbatch.planning.reprocessing import ReprocessRequest, ReprocessResult
from nightbatch.postgres.store import open_store
from tests.use_cases.conftest import World


def wish(world: World, **changes: Any) -> ReprocessRequest:
    now = world.store.now()
    return ReprocessRequest(**{"since": now - timedelta(days=1), "until": now + timedelta(days=1), **changes})


def again(world: World, *, dry_run: bool = False, **changes: Any) -> ReprocessResult:
    return reprocessing.send_again(world.store, job_types(), wish(world, **changes), dry_run=dry_run)


def a_past_night(world: World, count: int = 4, provider: str = "openai", **columns: Any) -> list[int]:
    jobs = world.insert(provider, count, **columns)
    world.night("past")
    return jobs


@pytest.mark.parametrize(
    ("changes", "provider", "model"),
    [
        ({"to_model": "gpt-6-sol"}, "openai", "gpt-6-sol"),
        ({"to_provider": "anthropic"}, "anthropic", "claude-haiku-5-5"),
        ({"to_provider": "gemini", "to_model": "gemini-3.7-flash"}, "gemini", "gemini-3.7-flash"),
    ],
)
def test_a_night_goes_again_elsewhere_and_old_stands_beside_new(
    world: World, changes: dict[str, Any], provider: str, model: str
) -> None:
    jobs = a_past_night(world)
    assert again(world, **changes).new == 4
    (loaded,) = world.night("again")
    assert loaded.succeeded == 4
    assert world.rows(
        "SELECT past_job_id, old_model, new_provider, new_model, new_outcome FROM nightbatch.reprocessed ORDER BY 1"
    ) == [(job, "gpt-6-luna", provider, model, "succeeded") for job in jobs]
    world.judge()


def test_the_same_wish_twice_makes_no_job_twice(world: World) -> None:
    a_past_night(world)
    assert (again(world, to_provider="gemini").new, again(world, to_provider="gemini").known) == (4, 4)
    world.night("again")
    after = again(world, to_provider="gemini")
    assert (after.new, after.known) == (0, 4)
    assert world.rows("SELECT count(*) FROM nightbatch.job") == [8]


def test_two_at_once_make_no_job_twice(world: World) -> None:
    a_past_night(world)
    asked = wish(world, to_provider="anthropic")

    def ask(_: int) -> int:
        with open_store(world.dsn) as store:
            return reprocessing.send_again(store, job_types(), asked).new

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(ask, range(4))) == 4


def test_a_part_of_a_day_is_the_same_part_each_time(world: World) -> None:
    low, high = world.insert("openai", 2, priority=1), world.insert("openai", 2, priority=9)
    world.night("past")
    assert again(world, to_provider="gemini", max_jobs=3).new == 3
    assert again(world, to_provider="gemini", max_jobs=3).new == 0
    sent = world.rows("SELECT past_job_id FROM nightbatch.reprocessed ORDER BY 1")
    assert sent == sorted([*high, low[0]])


def test_only_what_was_loaded_then_by_that_model_and_of_that_type_goes_again(world: World) -> None:
    a_past_night(world)
    world.insert("openai", 2, model="gpt-6-sol")
    world.night("sol")
    assert again(world, dry_run=True, to_provider="gemini", from_model="gpt-6-sol").new == 2
    assert again(world, dry_run=True, to_provider="gemini", job_types=("hook_generation",)).new == 0
    earlier = replace(wish(world, to_provider="gemini"), until=world.store.now() - timedelta(hours=1))
    assert reprocessing.send_again(world.store, job_types(), earlier).new == 0


def test_what_would_be_asked_just_as_before_is_left_out(world: World) -> None:
    a_past_night(world)
    assert again(world, to_model="gpt-6-luna") == ReprocessResult(0, 0, ())
    assert again(world, prompt_version="1") == ReprocessResult(0, 0, ())


def test_a_dry_run_prices_and_queues_nothing(world: World) -> None:
    a_past_night(world, 10)
    told = again(world, dry_run=True, to_model="gpt-6-sol")
    (priced,) = told.estimates
    assert (told.new, priced.jobs, priced.model) == (10, 10, "gpt-6-sol")
    assert world.rows("SELECT count(*) FROM nightbatch.job") == [10]
    again(world, to_model="gpt-6-sol")
    before = len(world.bill())
    world.night("again")
    cost = sum((Decimal(line["cost_usd"]) for line in world.bill()[before:]), Decimal(0))
    assert priced.batch_usd
    assert abs(priced.batch_usd[1] - cost) < cost / 5


def test_an_unknown_price_stays_unknown(world: World) -> None:
    a_past_night(world, 1)
    (priced,) = again(world, dry_run=True, to_model="nobody-knows-this-model").estimates
    assert (priced.jobs, priced.batch_usd) == (1, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Say what is to change"),
        ({"to_provider": "anthropic", "job_types": ("embedding_generation",)}, "cannot do embedding_generation"),
        ({"prompt_version": "99"}, "prompt version 99"),
        ({"to_model": "x", "job_types": ("clairvoyance",)}, "no job type clairvoyance"),
        ({"to_model": "x", "until": None}, "interval is empty"),
    ],
)
def test_a_wish_that_nothing_can_meet_is_told(world: World, changes: dict[str, Any], words: str) -> None:
    if "until" in changes:
        changes = {**changes, "until": world.store.now() - timedelta(days=2)}
    with pytest.raises(ConfigurationError, match=words):
        again(world, **changes)

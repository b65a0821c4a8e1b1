"""A job whose deadline no batch can meet is answered in realtime: once, budgeted, and never beside a batch that holds it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from nightbatch.batches import fallback, recovery
from nightbatch.core.models import ProviderName, ResultLine, UnreadableLine
from nightbatch.core.profiles import BUILT_IN
from nightbatch.core.provider import BatchProvider
from nightbatch.job_types import job_types
from nightbatch.job_types.creative_scoring import CreativeScoring
from nightbatch.providers import openai_results
from tests.use_cases import killed
from tests.use_cases.conftest import World

SOON = timedelta(hours=2)  # sooner than the 24 hours that a provider promises


class MayMove(CreativeScoring):
    """Scoring that another provider may answer."""

    fallback = True
    fallback_providers = ("anthropic", "gemini")


def urgent(world: World, provider: str, count: int = 1, *, inside: timedelta = SOON, **columns: Any) -> list[int]:
    return world.insert(provider, count, deadline=datetime.now(UTC) + inside, **{"fallback": True} | columns)


def answer(world: World, **types: Any) -> list[str]:
    def provider_for(name: ProviderName) -> BatchProvider:
        return world.provider(name)

    kinds = MappingProxyType({**job_types(), **types})
    return fallback.answer_urgent(world.store, provider_for, kinds, world.settings)


def paid(world: World) -> list[Decimal]:
    return [Decimal(line["cost_usd"]) for line in world.bill() if line["processing"] == "realtime"]


def test_a_job_that_cannot_wait_is_answered_at_full_price(world: World, provider: ProviderName) -> None:
    (job,) = urgent(world, provider)
    assert world.plan("night") == [], "batches leave it alone"
    (told,) = answer(world)
    assert f"Job {job} could not wait" in told
    assert world.states() == {job: "succeeded"}
    ((outcome, realtime, batch),) = world.rows(
        "SELECT outcome, realtime_cost_usd, batch_cost_usd FROM nightbatch.result"
    )
    assert (outcome, [batch]) == ("succeeded", paid(world))
    assert realtime == batch > 0
    assert world.rows("SELECT savings_usd FROM nightbatch_report.savings_daily") == [0]
    assert answer(world) == []
    assert len(paid(world)) == 1


@pytest.mark.fault(67)
@pytest.mark.parametrize(
    ("tier", "dearer"), [("priority", 2), ("flex", Decimal("0.5")), ("default", 1), ("scale", None)]
)
def test_a_realtime_answer_costs_what_its_service_tier_does(
    world: World, monkeypatch: pytest.MonkeyPatch, tier: str, dearer: Decimal | None
) -> None:
    usual = b'"service_tier":"default"'

    def in_the_tier(line: bytes) -> ResultLine | UnreadableLine:
        assert usual in line
        return openai_results.read(line.replace(usual, b'"service_tier":"%b"' % tier.encode()))

    monkeypatch.setattr("nightbatch.providers.openai._read", in_the_tier)
    urgent(world, "openai")
    answer(world)
    ((realtime, cost, source),) = world.rows(
        "SELECT realtime_cost_usd, batch_cost_usd, price_source FROM nightbatch.result"
    )
    (usually,) = paid(world)
    assert (realtime, cost) == ((usually * dearer,) * 2 if dearer else (None, None))
    assert ("service_tier" in (source or "")) is (tier in ("priority", "flex"))
    assert world.rows("SELECT unpriced FROM nightbatch_report.savings_daily") == [0 if dearer else 1]


def test_geminis_long_name_of_a_model_is_asked_by_its_short_one(world: World) -> None:
    (job,) = urgent(world, "gemini", model="models/gemini-3.5-flash-lite")
    answer(world)
    assert world.states() == {job: "succeeded"}
    assert world.rows("SELECT model FROM nightbatch.batch") == ["gemini-3.5-flash-lite"]
    assert world.rows("SELECT batch_cost_usd FROM nightbatch.result") == paid(world)


@pytest.mark.parametrize("provider", ["openai", "gemini"])
def test_vectors_come_in_realtime_too(world: World, provider: ProviderName) -> None:
    world.store.connection.execute(
        "INSERT INTO nightbatch.job (job_type, provider, input, deadline, fallback)"
        """ VALUES ('embedding_generation', %s, '{"text": "now"}', now() + interval '1 hour', true)""",
        [provider],
    )
    answer(world)
    assert set(world.states().values()) == {"succeeded"}
    assert world.rows("SELECT count(*) FROM nightbatch.embedding") == [1]


@pytest.mark.parametrize(
    ("asked", "deadline"), [(None, SOON), (False, SOON), (True, timedelta(hours=30)), (True, None)]
)
def test_it_is_off_unless_asked_for_and_needed(world: World, asked: bool | None, deadline: timedelta | None) -> None:
    world.insert("openai", 1, fallback=asked, deadline=deadline and datetime.now(UTC) + deadline)
    assert answer(world) == []
    assert not paid(world)
    assert len(world.plan("night")) == 1


def test_how_long_a_batch_takes_is_learned(world: World) -> None:
    world.settings = replace(world.settings, max_batch_jobs=1)
    world.insert("openai", 6)
    world.night("before")
    urgent(world, "openai")
    assert answer(world) == [], "a batch takes less than a second here"
    assert len(world.plan("night")) == 1


def test_a_job_that_a_batch_holds_is_never_asked_for_beside_it(world: World) -> None:
    (job,) = urgent(world, "openai", inside=timedelta(hours=30))
    (batch,) = world.plan("night")
    world.submit(batch)
    world.store.connection.execute("SET session_replication_role = replica")  # time passes
    world.store.connection.execute("UPDATE nightbatch.job SET deadline = now() + interval '1 minute'")
    world.store.connection.execute("SET session_replication_role = origin")
    assert answer(world) == []
    world.load(batch.id)
    assert world.states() == {job: "succeeded"}
    assert not paid(world)
    world.judge()


@pytest.fixture
def its_own_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator's answers count as the provider's own, and not as those of a gateway in front of it."""
    for name in BUILT_IN:
        monkeypatch.setattr(f"nightbatch.providers.{name}.is_own_host", lambda url: True)


@pytest.mark.usefixtures("its_own_host")
def test_another_provider_answers_when_its_own_is_down(world: World) -> None:
    (job,) = urgent(world, "openai", fallback=None)
    world.emulator.fault("openai", "realtime", "refuse", status=503, times=5)
    (told,) = answer(world, creative_scoring=MayMove())
    assert "anthropic answered" in told
    assert world.states() == {job: "succeeded"}
    assert [line["provider"] for line in world.bill()] == ["anthropic"]
    assert world.rows("SELECT provider, state FROM nightbatch.batch ORDER BY id") == [
        ("openai", "abandoned"),
        ("anthropic", "loaded"),
    ]


@pytest.mark.usefixtures("its_own_host")
def test_nobody_else_answers_where_the_type_does_not_allow_it(world: World) -> None:
    (job,) = urgent(world, "openai")
    world.emulator.fault("openai", "realtime", "refuse", status=503, times=1)
    answer(world)
    assert world.states() == {job: "batched"}
    answer(world)
    assert world.states() == {job: "succeeded"}
    assert len(paid(world)) == 1


@pytest.mark.fault(59)
@pytest.mark.parametrize("status", [408, 409, 499, 502, 503, 504, 520, 529])
def test_a_gateway_with_the_providers_words_is_not_believed_that_nothing_was_done(
    world: World, provider: ProviderName, status: int
) -> None:
    (job,) = urgent(world, provider)
    world.emulator.fault(provider, "realtime", "refuse", status=status, times=1)
    (told,) = answer(world, creative_scoring=MayMove())
    assert "may have been billed" in told
    assert answer(world) == []
    assert world.states() == {job: "failed"} and world.bill() == []


@pytest.mark.parametrize("fault", ["lose_answer", "error_after"])
def test_a_lost_answer_is_told_and_never_asked_for_again(world: World, provider: ProviderName, fault: str) -> None:
    (job,) = urgent(world, provider)
    world.emulator.fault(provider, "realtime", fault, times=1)
    (told,) = answer(world, creative_scoring=MayMove())
    assert "may have been billed" in told
    assert answer(world) == []
    assert world.plan("night") == []
    assert world.states() == {job: "failed"}
    assert len(paid(world)) == 1
    (alert,) = world.rows("SELECT message FROM nightbatch.alert WHERE kind = 'lost_results'")
    assert "not sent again" in alert


def test_the_full_price_is_budgeted_beforehand(world: World) -> None:
    jobs = urgent(world, "openai", 4)
    world.store.connection.execute("INSERT INTO nightbatch.budget (usd_per_night) VALUES (0.0000001)")
    assert answer(world) == []
    assert set(world.states().values()) == {"queued"}
    assert not world.rows("SELECT * FROM nightbatch.batch")
    world.store.connection.execute("UPDATE nightbatch.budget SET usd_per_night = 1")
    answer(world)
    assert [world.states()[job] for job in jobs] == ["succeeded"] * 4
    (set_aside,) = world.rows("SELECT sum(usd) FROM nightbatch.reserved")
    assert sum(paid(world)) <= set_aside < 1


def test_an_attempt_whose_account_changed_before_it_was_sent_begins_anew(world: World) -> None:
    (job,) = urgent(world, "openai")
    world.emulator.fault("openai", "realtime", "rate_limit", times=1)
    answer(world)
    world.account = f"{world.account}new"
    answer(world)
    assert world.states() == {job: "queued"}
    answer(world)
    assert world.states() == {job: "succeeded"}
    assert len(paid(world)) == 1


def test_a_request_that_is_refused_costs_nothing_and_says_why(world: World, provider: ProviderName) -> None:
    (job,) = urgent(world, provider, headline="[[emulator:error=400]]")
    (told,) = answer(world)
    assert "rejected" in told
    assert world.states() == {job: "rejected"}
    assert not paid(world)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", range(1, 40, 3))
def test_killed_at_any_step_it_asks_at_most_once(world: World, step: int, moment: str) -> None:
    """A process that dies at every third statement or call; the next one brings the job to a legal end."""
    (job,) = urgent(world, "gemini")
    place = {"dsn": world.dsn, "key": f"emu-{world.account}", "url": world.emulator.gemini_url}
    assert killed.answer_urgent(step, moment, **place) in (0, -9)
    answer(world)
    world.settings = replace(world.settings, create_seconds=0.001)
    recovery.recover(world.store, world.provider, job_types(), world.settings)
    answer(world)
    state = world.states()[job]
    # A death between the intent and the call cannot be told from one after it: never asked then, and a person is told.
    assert len(paid(world)) == 1 or (not paid(world) and state == "failed"), "asked once: neither twice nor never"
    assert state in ("succeeded", "failed")
    if state == "failed":
        assert world.rows("SELECT count(*) FROM nightbatch.alert WHERE kind = 'lost_results'") == [1]
    assert world.rows("SELECT count(*) FROM nightbatch.open_job") == [0]

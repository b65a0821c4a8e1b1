"""Two processes at one attempt, of which the slower one decides on what it read before: the ledger decides, not what was read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest

from nightbatch.batches import fallback, rendering, submission
from nightbatch.core.errors import NightbatchError, Rejected, SubmissionInDoubt
from nightbatch.core.ledger import Batch
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.job_types.creative_scoring import CreativeScoring
from nightbatch.postgres.store import Store, open_store
from tests.use_cases.conftest import World


class MayMove(CreativeScoring):
    fallback = True
    fallback_providers = ("anthropic", "gemini")


MOVING = MappingProxyType({**job_types(), "creative_scoring": MayMove()})


@pytest.fixture
def other(world: World) -> Iterator[Store]:
    """Another process's connection."""
    with open_store(world.dsn) as store:
        yield store


@pytest.mark.fault(9)
def test_a_realtime_attempt_that_another_process_took_over_is_neither_closed_nor_asked_elsewhere(
    world: World, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.insert("openai", 1, deadline=datetime.now(UTC) + timedelta(hours=2), fallback=True)
    world.emulator.fault("openai", "realtime", "refuse", status=429, times=1)
    record_throttled = Store.record_throttled

    def and_then_the_other_intends(self: Store, batch: Batch, error: str) -> Batch | None:
        unsent = record_throttled(self, batch, error)
        assert other.record_intent(other.batch(batch.id))
        return unsent

    monkeypatch.setattr(Store, "record_throttled", and_then_the_other_intends)
    fallback.answer_urgent(world.store, world.provider, MOVING, world.settings)
    (attempt,) = world.store.batches(range(100))
    assert (attempt.state, attempt.epoch) == ("submitting", 2)
    assert {entry["provider"] for entry in world.emulator.log(world.account)} == {"openai"}


@pytest.mark.fault(60)
@pytest.mark.parametrize("finding", ["bad", "too_many", "changed", "none_left"])
def test_a_retry_on_another_release_takes_no_job_out_of_what_was_sent(
    world: World, other: Store, provider: ProviderName, finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read the attempt before the zombie sent it, and finds a job unfit: its worker lacks a file, or has other words."""
    world.insert(provider, 3)
    (batch,) = world.plan()
    stale = other.batch(batch.id)
    world.submit(batch)
    render = rendering._render

    def otherwise(*args: object) -> object:
        rendered = render(*args)  # type: ignore[arg-type]
        match finding:
            case "bad":
                rendered.bad[rendered.job_ids.pop()] = "a media file cannot be read"
            case "too_many":
                rendered.too_many.append(rendered.job_ids.pop())
            case "changed":
                rendered.sha256 = "0" * 64
            case _:
                rendered.bad = dict.fromkeys(rendered.job_ids, "there is no such file")
                rendered.job_ids.clear()
        return rendered

    monkeypatch.setattr(rendering, "_render", otherwise)
    with pytest.raises(SubmissionInDoubt):
        submission._send(other, world.provider(provider), job_types(), world.settings, stale)
    monkeypatch.undo()
    assert world.load(batch.id).succeeded == 3
    assert world.night("next") == []
    assert world.rows("SELECT count(*) FROM nightbatch.reject") == [0]
    world.judge()


@pytest.mark.fault(60)
@pytest.mark.parametrize("until", ["lock_batch", "record_upload", "record_intent"])
def test_two_releases_that_render_otherwise_send_each_job_once(
    world: World, other: Store, provider: ProviderName, until: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The zombie has come as far as ``until`` when its retry, whose words differ, does the whole submit."""
    world.insert(provider, 3)
    (batch,) = world.plan()
    real = getattr(Store, until)
    done: list[bool] = []

    def first_the_other(self: Store, *args: object) -> object:
        if self is world.store and not done:
            done.append(True)
            with pytest.MonkeyPatch.context() as words, suppress(NightbatchError):
                words.setattr(CreativeScoring, "render_request", _other_words(CreativeScoring.render_request))
                submission.submit_batch(other, world.provider(provider), job_types(), world.settings, batch.id)
        return real(self, *args)

    monkeypatch.setattr(Store, until, first_the_other)
    with suppress(NightbatchError):
        world.submit(batch)
    monkeypatch.undo()
    assert done
    for attempt in world.store.open_attempts():
        if (sent := world.submit_until_certain(attempt)) is not None:
            world.load(sent)
    world.night("next")
    assert set(world.states().values()) == {"succeeded"}
    world.judge()


def _other_words(render: object) -> object:
    from msgspec.structs import replace

    def rendered(self: CreativeScoring, text: bytes) -> object:
        prompt = render(self, text)  # type: ignore[operator]
        return replace(prompt, user=f"{prompt.user} (as of the next release)")

    return rendered


@pytest.mark.fault(9)
def test_an_upload_refused_to_a_zombie_closes_nothing_of_its_retry(
    world: World, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.insert("openai", 3)
    (batch,) = world.plan()
    provider = world.provider("openai")

    def refused(*_: object) -> str:
        submission.submit_batch(other, world.provider("openai"), job_types(), world.settings, batch.id)
        raise Rejected("the file is bad", status=400)

    monkeypatch.setattr(provider, "upload", refused)
    with suppress(NightbatchError):
        submission.submit_batch(world.store, provider, job_types(), world.settings, batch.id)
    assert world.store.batch(batch.id).state == "submitted"
    assert world.load(batch.id).succeeded == 3
    world.judge()


@pytest.mark.fault(76)
def test_an_adopted_batch_is_dated_by_its_creation_between_the_intent_and_now(
    world: World, provider: ProviderName
) -> None:
    world.insert(provider, 3)
    (batch,) = world.plan()
    world.emulator.fault(provider, "batch_create", "lose_answer", times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    world.submit_until_certain(batch)
    adopted = world.store.batch(batch.id)
    assert adopted.provider_batch_id and adopted.intent_at and adopted.submitted_at
    created = asyncio.run(world.provider(provider).get_state(adopted.provider_batch_id)).created_at
    assert created is not None
    assert adopted.submitted_at == max(adopted.intent_at, created)
    world.load(batch.id)
    assert world.store.batch(batch.id).submitted_at == adopted.submitted_at
    assert world.rows("SELECT turnaround >= interval '0' FROM nightbatch_report.batch_turnaround") == [True]
    world.judge()


@pytest.mark.fault(76)
@pytest.mark.parametrize(("hours", "dated"), [(-400, "intent_at"), (400, "now")])
def test_a_provider_whose_clock_is_off_dates_nothing_before_the_intent_or_after_now(
    world: World, hours: int, dated: str
) -> None:
    world.insert("openai", 1)
    (batch,) = world.plan()
    world.emulator.fault("openai", "batch_create", "reset", times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    before = world.store.now()
    found = world.store.record_submission(batch.id, "batch_x", before + timedelta(hours=hours))
    assert found and found.submitted_at and found.intent_at
    if dated == "intent_at":
        assert found.submitted_at == found.intent_at
    else:
        assert before <= found.submitted_at <= world.store.now()

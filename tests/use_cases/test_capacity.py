"""An account's queue takes only so many tokens: a big night goes in waves, and nothing fails."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from nightbatch.batches import recovery
from nightbatch.core.errors import Throttled
from nightbatch.core.models import ProviderName
from nightbatch.planning import capacity
from nightbatch.postgres import plans
from tests.use_cases.conftest import World


def limit_queue(world: World, provider: str, tokens: int | None) -> None:
    world.emulator.control("POST", "limits", {"provider": provider, "account": world.account, "tokens": tokens})


def drain(world: World) -> list[str]:
    """Runs, as the Dag starts them, until nothing wants another wave; their ids."""
    runs = ["night"]
    send_until_the_queue_is_full(world, runs[0])
    while True:
        recovery.settle_run(world.store, runs[-1])
        if not plans.wants_another_wave(world.store, runs[-1]):
            return runs
        runs.append(f"night~wave{len(runs) + 1}")
        assert len(runs) < 20, "the waves do not end"
        world.night(runs[-1])


def send_until_the_queue_is_full(world: World, run_id: str) -> None:
    """A run whose batches are in the queue together, however slow this machine is."""
    world.emulator.control("POST", "turnaround", {"seconds": 20})
    try:
        sent, full = world.send_all(world.plan(run_id))
        deadline = time.monotonic() + 20
        while not full and all(world.runs(batch_id) for batch_id in sent):  # OpenAI says so later
            assert time.monotonic() < deadline, "there is room for all of them"
            time.sleep(0.1)
    finally:
        world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    world.load_all(sent, full)


def test_a_night_at_twice_the_accounts_limit_drains_in_waves(world: World, provider: ProviderName) -> None:
    """Nobody said what the limit is: refusals teach it, free of charge, and no job fails."""
    world.settings = replace(world.settings, max_batch_jobs=10)
    jobs = 40
    limit_queue(world, provider, max(tokens_in_lines(world, provider) * jobs // 2, 1))
    world.insert(provider, jobs)
    drain(world)
    assert list(world.states().values()) == ["succeeded"] * jobs
    assert world.rows("SELECT DISTINCT learned FROM nightbatch.token_limit") == [True]
    world.judge()


def tokens_in_lines(world: World, provider: ProviderName) -> int:
    """What the emulator counts for one job: a quarter of the bytes of its line."""
    from nightbatch.core.models import custom_id
    from nightbatch.job_types import job_types

    kind = job_types()["creative_scoring"]
    endpoint = kind.endpoint(provider)
    request = kind.render_request(b'{"headline": "A headline 10"}')
    return (
        len(world.provider(provider).render(custom_id(10, 10, "0" * 16), kind.models[provider], endpoint, request)) // 4
    )


def test_a_known_limit_cuts_the_batches_and_is_never_exceeded(world: World) -> None:
    world.insert("openai", 40)
    (whole,) = world.plan("dry", max_jobs=40)
    (tokens,) = world.rows("SELECT estimated_tokens FROM nightbatch.batch")
    world.store.free_members(whole.id, counts_as_attempt=False)
    world.store.close_attempt(whole, "abandoned", "only measured")
    world.store.connection.execute(
        "INSERT INTO nightbatch.token_limit (provider, model, tokens, note) VALUES ('openai', 'gpt-6-luna', %s, 'tier 1')",
        [tokens // 2],
    )
    first, *others = world.plan("r1")
    assert len(others) >= 1
    assert max(world.rows("SELECT estimated_tokens FROM nightbatch.batch WHERE run_id = 'r1'")) <= tokens // 2
    world.submit(first)
    with pytest.raises(Throttled, match=f"of {tokens // 2:,} input tokens are in openai's queue"):
        world.submit(others[0])
    assert world.creates("openai") == 1
    world.load(first.id)
    world.submit(others[0])
    assert world.creates("openai") == 2


def test_one_request_larger_than_the_limit_still_has_its_turn(world: World) -> None:
    """What we reckon may be wrong: the provider has the last word, once nothing else is in its queue."""
    world.insert("openai", 1)
    world.store.connection.execute(
        "INSERT INTO nightbatch.token_limit (provider, model, tokens, note) VALUES ('openai', 'gpt-6-luna', 1, 'wrong')"
    )
    assert [loaded.succeeded for loaded in world.night("r1")] == [1]


@pytest.mark.parametrize(
    ("message", "full"),
    [
        ("token_limit_exceeded: Enqueued token limit reached for gpt-6. Limit: 90,000 enqueued tokens.", True),
        ("RESOURCE_EXHAUSTED: You exceeded batch_enqueued_tokens", True),
        ("rate_limit_error: Number of requests in the batch queue exceeds your tier", True),
        ("rate_limit_exceeded: 50 requests per minute", False),
    ],
)
def test_a_refusal_is_told_by_its_words(message: str, full: bool) -> None:
    assert capacity.is_full(message) is full


def test_a_lesson_is_what_the_provider_names(world: World) -> None:
    world.insert("openai", 3)
    (batch,) = world.plan()
    world.store.connection.execute("UPDATE nightbatch.batch SET estimated_tokens = 900000, account_fingerprint = 'a'")
    assert capacity.learn(world.store, batch, "Enqueued token limit reached. Limit: 90,000 enqueued tokens.")
    assert world.rows("SELECT tokens FROM nightbatch.token_limit") == [90_000]
    assert not capacity.learn(world.store, batch, "too many requests")


def test_room_is_asked_for_before_anything_is_rendered_or_uploaded(
    world: World, provider: ProviderName, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settings = replace(world.settings, max_batch_jobs=2)
    world.insert(provider, 4)
    first, second = world.plan()
    world.submit_until_certain(first)
    plans.learn_limit(world.store, first, 1, "one token")
    rendered: list[str] = []
    monkeypatch.setattr(type(world.provider(provider)), "render", lambda self, name, *_: rendered.append(name))
    before = len(world.emulator.log(world.account))
    with pytest.raises(Throttled, match="waits: about"):
        world.submit(second)
    assert rendered == []
    assert len(world.emulator.log(world.account)) == before
    assert world.store.batch(second.id).state == "planned"


def test_what_a_run_cannot_send_for_its_number_goes_in_the_next_wave(world: World, provider: ProviderName) -> None:
    world.settings = replace(world.settings, max_batch_jobs=2)
    world.insert(provider, 6)
    first, *rest = world.plan("night")
    plans.leave_to_next_wave(world.store, [batch.id for batch in rest])
    world.submit_until_certain(first)
    world.load(first.id)
    assert recovery.settle_run(world.store, "night") == 4
    assert plans.wants_another_wave(world.store, "night")
    world.night("wave2")
    assert set(world.states().values()) == {"succeeded"}
    assert not plans.wants_another_wave(world.store, "wave2")
    world.judge()

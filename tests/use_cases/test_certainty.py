"""Only what is certain is acted upon: what was not sent, what was refused, and what is proven absent."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from nightbatch.batches import submission
from nightbatch.batches.troubles import PATIENT_TRIES
from nightbatch.core.errors import SubmissionInDoubt, Throttled, Unreachable
from nightbatch.core.models import ProviderName
from nightbatch.core.provider import BatchProvider
from nightbatch.job_types import job_types
from nightbatch.providers import build
from tests.providers.loopback import HTML, Reply, Server, serve
from tests.use_cases.conftest import World


def alerts(world: World) -> list[Any]:
    return world.rows("SELECT kind FROM nightbatch.alert WHERE resolved_at IS NULL ORDER BY kind")


def unreachable(world: World, provider: ProviderName) -> BatchProvider:
    """The account of the world, whose host takes no connection any more."""
    account = world.provider(provider).account
    return build(provider, api_key="k", base_url="http://127.0.0.1:1", account=account)


@pytest.mark.fault(70)
def test_a_refused_connection_at_the_create_leaves_nothing_in_doubt(world: World, provider: ProviderName) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    world.emulator.fault(provider, "batch_create", "rate_limit", times=1)
    with pytest.raises(Throttled):
        world.submit(batch)  # its input is uploaded now
    for _ in range(2):
        with pytest.raises(Unreachable):
            submission.submit_batch(world.store, unreachable(world, provider), job_types(), world.settings, batch.id)
        assert world.store.batch(batch.id).state == "uploaded"
    assert alerts(world) == []
    sent = world.submit(batch)
    assert sent is not None
    world.load(sent)
    world.judge()


@pytest.mark.fault(59, 70)
def test_a_provider_that_gives_no_sign_is_told_once_and_its_jobs_are_kept(world: World, provider: ProviderName) -> None:
    jobs = world.insert(provider)
    (batch,) = world.plan()
    away = unreachable(world, provider)
    for number in range(PATIENT_TRIES + 2):
        with pytest.raises(Unreachable):
            submission.submit_batch(world.store, away, job_types(), world.settings, batch.id)
        assert alerts(world) == (["no_sign"] if number + 1 >= PATIENT_TRIES else [])
    assert world.states() == dict.fromkeys(jobs, "batched")


@pytest.mark.fault(59)
@pytest.mark.parametrize("provider", ["openai", "gemini"])
def test_an_absence_counts_only_where_tags_are_shown(world: World, provider: ProviderName) -> None:
    """Else a gateway that drops them would hide a batch that is there."""
    world.store.connection.execute("DELETE FROM nightbatch.connection_seen")
    jobs = world.insert(provider)
    (batch,) = world.plan()
    world.emulator.fault(provider, "batch_create", "reset", times=1)
    with pytest.raises(SubmissionInDoubt, match="drop") as caught:
        world.submit_until_certain(batch)
    assert caught.value.look_again_in is None
    assert world.states() == dict.fromkeys(jobs, "held")
    world.insert(provider)
    (other,) = world.plan("r2")
    world.submit(other)  # its answer carries its tag
    assert world.submit_until_certain(batch) is not None
    assert set(world.states().values()) == {"batched"}


@pytest.mark.fault(59)
@pytest.mark.parametrize("provider", ["openai", "gemini"])
def test_a_create_too_large_for_a_gateway_is_halved_once_it_is_proven_absent(
    world: World, provider: ProviderName
) -> None:
    jobs = world.insert(provider, 4)
    (batch,) = world.plan()
    with serve() as server:
        _forward(server, world, large_creates=1)
        url = getattr(world.emulator, f"{provider}_url").replace(world.emulator.url, server.url)
        gateway = build(
            provider, api_key=f"emu-{world.account}", base_url=url, account=world.provider(provider).account
        )
        send = partial(submission.submit_batch, world.store, gateway, job_types(), world.settings)
        for _ in range(20):
            with suppress(SubmissionInDoubt):
                sent = send(batch.id)
                break
            time.sleep(0.1)
    assert sent is not None, world.rows("SELECT id, state, error FROM nightbatch.batch")
    assert sent != batch.id and world.store.batch(sent).job_count == 2
    assert sorted(world.states().values()) == ["batched", "batched", "queued", "queued"]
    assert len(jobs) == 4


def _forward(server: Server, world: World, *, large_creates: int) -> None:
    """A gateway in front of the emulator, to which some creates are too large."""
    import httpx2

    left = [large_creates]

    def route(method: str, path: str) -> Reply:
        asked = server.seen[-1]
        if method == "POST" and (path.endswith(":batchGenerateContent") or path.endswith("/batches")) and left[0]:
            left[0] -= 1
            return Reply(b"<h1>413 Request Entity Too Large</h1>", 413, HTML)
        headers = dict(line.split(": ", 1) for line in asked.headers.splitlines() if ": " in line)
        kept = {name: value for name, value in headers.items() if name.lower() not in ("host", "content-length")}
        answer = httpx2.request(method, world.emulator.url + path, content=asked.body, headers=kept)
        hop = ("content-length", "transfer-encoding", "content-encoding", "date", "server", "connection")
        return Reply(
            answer.content, answer.status_code, {k: v for k, v in answer.headers.items() if k.lower() not in hop}
        )

    server.say(route)

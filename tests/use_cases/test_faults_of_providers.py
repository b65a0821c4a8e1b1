"""Faults of providers; docs/reliability.md lists all faults, and who holds them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from nightbatch.batches import loading, recovery
from nightbatch.core.errors import AccountRefused, ReconciliationError, Throttled
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from tests.use_cases.conftest import World
from tests.use_cases.steps import alerts, at_provider, recover, sent, until_all_succeed, wait_for_end


@pytest.fixture
def slow(world: World) -> Iterator[None]:
    """Batches take long, until a test says otherwise."""
    world.emulator.control("POST", "turnaround", {"seconds": 60})
    yield
    world.emulator.control("POST", "turnaround", {"seconds": 0.2})


# -- what a provider refuses


@pytest.mark.fault(22)
def test_a_request_that_the_provider_calls_bad_is_rejected_alone(
    world: World, provider: ProviderName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each provider finds it in its own place: OpenAI in its check of the file, Anthropic at the create, Gemini in the run."""
    good, (bad,) = world.insert(provider, 2), world.insert(provider, 1)
    kind = type(world.provider(provider))
    render = kind.render

    def render_badly(self: Any, custom_id: str, *args: Any) -> bytes:
        if not custom_id.startswith(f"j{bad}_"):
            return render(self, custom_id, *args)
        lines = {
            "openai": f'{{"custom_id":"{custom_id}","method":"POST","url":"/v1/responses","body":{{}}}}',
            "anthropic": f'{{"custom_id":"{custom_id}","params":null}}',
            "gemini": f'{{"key":"{custom_id}","request":{{}}}}',
        }
        return lines[provider].encode()

    monkeypatch.setattr(kind, "render", render_badly)
    world.night("r1")
    world.night("r2")  # OpenAI ran nothing of the first file: the good ones go again
    states = world.states()
    assert [states[job] for job in good] == ["succeeded"] * 2
    assert states[bad] == ("failed" if provider == "gemini" else "rejected")
    assert world.rows("SELECT error IS NOT NULL FROM nightbatch.job_status WHERE job_id = %s", bad) == [True]
    assert world.plan("r3") == []
    world.judge()


@pytest.mark.fault(22)
def test_a_batch_too_large_is_halved_until_the_job_at_fault_is_alone(world: World, provider: ProviderName) -> None:
    world.insert(provider, 3)
    world.emulator.fault(provider, "batch_create", "refuse", status=413, times=2)
    for run in ("r1", "r2", "r3"):
        world.night(run)
    assert sorted(world.states().values()) == ["rejected", "succeeded", "succeeded"]
    world.judge()


@pytest.mark.fault(23)
def test_a_key_refused_in_the_night_sends_nothing_more_and_keeps_what_is_under_way(
    world: World, slow: None, provider: ProviderName
) -> None:
    """A refused account is asked by free calls only, until it takes the key again."""
    world.settings = replace(world.settings, max_batch_jobs=2)
    world.insert(provider, 6)
    first, second, third = (batch.id for batch in world.plan())
    world.submit(first)
    for operation in ("file_upload", "batch_create", "batch_list"):
        world.emulator.fault(provider, operation, "refuse", status=403, times=None)
    sent_before = world.creates(provider)
    for batch_id in (second, third):
        with pytest.raises(AccountRefused):
            world.submit(batch_id)
    assert world.creates(provider) - sent_before <= 1, "the one that told of the refusal"
    assert alerts(world) == ["account_refused"]
    assert world.store.batch(first).state == "submitted"
    world.emulator.control("DELETE", "faults")
    world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    for batch_id in (second, third):
        assert world.submit_until_certain(batch_id) == batch_id
    assert alerts(world) == []
    assert [world.load(batch_id).succeeded for batch_id in (first, second, third)] == [2, 2, 2]
    world.judge()


@pytest.mark.fault(24)
def test_a_batch_that_the_provider_does_not_know_is_told_and_never_sent_again(
    world: World, provider: ProviderName
) -> None:
    sent(world, provider)
    world.emulator.fault(provider, "batch_get", "refuse", status=404, times=None)
    for _ in range(2):
        assert f"{provider} does not know" in " ".join(recover(world))
    assert alerts(world) == ["unknown_batch"]
    assert set(world.states().values()) == {"batched"}
    assert world.plan("r2") == []
    world.emulator.control("DELETE", "faults")
    until_all_succeed(world)
    recover(world)
    assert alerts(world) == []
    assert world.creates(provider) == 1
    world.judge()


@pytest.mark.fault(37)
def test_at_the_token_limit_the_lowest_priority_waits_for_room(
    world: World, slow: None, provider: ProviderName
) -> None:
    world.settings = replace(world.settings, max_batch_jobs=2)
    low, high = world.insert(provider, 2, priority=1), world.insert(provider, 2, priority=9)
    first, second = (batch.id for batch in world.plan())
    world.submit(first)
    limit = {"provider": provider, "account": world.account, "tokens": int(enqueued_tokens(world) * 1.5)}
    world.emulator.control("POST", "limits", limit)
    with suppress(Throttled):  # OpenAI takes the batch and fails it then; the others refuse the create
        world.submit(second)
        world.load(second)
    assert [world.states()[job] for job in high] == ["batched"] * 2
    assert {world.states()[job] for job in low} <= {"queued", "batched"}
    assert world.bill() == []
    world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    assert world.load(first).succeeded == 2
    recovery.settle_run(world.store, "r1")
    assert [loaded.succeeded for loaded in world.night("r2")] == [2]
    assert [world.states()[job] for job in low] == ["succeeded"] * 2
    world.judge()


def enqueued_tokens(world: World) -> int:
    """What the provider counts for this account's batches, all of which are open."""
    with sqlite3.connect(f"file:{world.emulator.state_dir}/state.sqlite?mode=ro", uri=True) as state:
        row = state.execute("SELECT sum(tokens) FROM batch WHERE account = ?", (world.account,)).fetchone()
    return int(row[0])


# -- what comes back


@pytest.mark.fault(27)
def test_a_cancelled_batch_is_waited_for_and_keeps_what_finished(
    world: World, slow: None, provider: ProviderName
) -> None:
    batch_id = sent(world, provider, 4)
    world.provider(provider).cancel(at_provider(world, batch_id))
    world.emulator.control("POST", "clock", {"advance": -600})  # for real it takes up to ten minutes
    try:
        with pytest.raises(ReconciliationError, match=r"(?i)still cancel"):
            loading.load_batch(world.store, world.provider(provider), job_types(), batch_id)
    finally:
        world.emulator.control("POST", "clock", {"advance": 600})
    loaded = world.load(batch_id)
    assert loaded.succeeded == len(world.bill())
    assert loaded.succeeded + loaded.requeued == 4
    world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    world.night("r2")
    assert set(world.states().values()) == {"succeeded"}
    world.judge()


@pytest.mark.fault(28)
def test_a_batch_with_an_error_file_only_has_its_errors_loaded(world: World) -> None:
    batch_id = sent(world, "openai", headline="[[emulator:error=400]]")
    wait_for_end(world, batch_id)
    shown = openai_batch(world, batch_id)
    assert (shown["status"], shown["output_file_id"], bool(shown["error_file_id"])) == ("completed", None, True)
    world.load(batch_id)
    assert (
        world.rows("SELECT outcome, billed, error LIKE '400: %%' FROM nightbatch.result")
        == [("errored", False, True)] * 3
    )
    assert set(world.states().values()) == {"failed"}
    world.judge()


@pytest.mark.fault(28)
def test_an_error_file_whose_id_is_an_empty_text_is_no_file(world: World) -> None:
    batch_id = sent(world, "openai")
    world.emulator.fault("openai", "batch_get", "blank_error_file", times=None)
    wait_for_end(world, batch_id)
    assert openai_batch(world, batch_id)["error_file_id"] == ""
    assert world.load(batch_id).succeeded == 3
    world.judge()


def openai_batch(world: World, batch_id: int) -> dict[str, Any]:
    answer = httpx.get(
        f"{world.emulator.openai_url}/batches/{at_provider(world, batch_id)}",
        headers={"Authorization": f"Bearer emu-{world.account}"},
        trust_env=False,
    )
    shown: dict[str, Any] = answer.raise_for_status().json()
    return shown


def results_file(world: World, batch_id: int) -> Path:
    """The file from which the emulator serves a batch's results, to be spoilt."""
    wait_for_end(world, batch_id)
    name = at_provider(world, batch_id).rpartition("/")[2]
    (found,) = world.emulator.state_dir.rglob(f"{name}.output")
    return found


@pytest.mark.fault(29)
def test_a_second_line_that_says_something_else_goes_to_quarantine(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider, 4)
    file = results_file(world, batch_id)
    first = file.read_bytes().splitlines()[0]
    other = first.replace(b"score", b"scare", 1)
    assert other != first
    file.write_bytes(file.read_bytes() + other + b"\n")
    loaded = world.load(batch_id)
    assert (loaded.jobs, loaded.succeeded, loaded.quarantined) == (4, 4, 1)
    assert world.rows("SELECT raw, reason LIKE 'a second, different line for job %%' FROM nightbatch.reject") == [
        (other, True)
    ]
    world.judge()


@pytest.mark.fault(31)
def test_a_line_for_another_attempt_is_not_matched_by_its_place_or_its_job(
    world: World, provider: ProviderName
) -> None:
    batch_id = sent(world, provider, 4)
    file = results_file(world, batch_id)
    lines = file.read_bytes().splitlines()
    mine = f"_a{batch_id}_".encode()
    lines[0] = lines[0].replace(mine, b"_a9%d_" % batch_id)
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    loaded = world.load(batch_id)
    assert (loaded.succeeded, loaded.failed, loaded.requeued) == (3, 1, 0)
    assert lines[0] in world.rows("SELECT raw FROM nightbatch.reject")
    assert sorted(world.rows("SELECT outcome FROM nightbatch.result")) == ["missing", *["succeeded"] * 3]


@pytest.mark.fault(33)
def test_a_corrupt_line_is_kept_byte_for_byte_and_the_rest_goes_on(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider, 4)
    file = results_file(world, batch_id)
    lines = file.read_bytes().splitlines()
    lines[0] = lines[0][:40] + b"\x00\xff\xfe{{~"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    loaded = world.load(batch_id)
    assert (loaded.succeeded, loaded.requeued) == (3, 0)
    assert lines[0] in world.rows("SELECT raw FROM nightbatch.reject")
    assert world.plan("r2") == [], "it was paid for, as far as anybody knows"

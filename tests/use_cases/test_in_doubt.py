"""A create whose answer was lost is found, proven absent or held; and never through another account."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from nightbatch.batches import decisions, in_doubt, loading, recovery, submission
from nightbatch.core.errors import (
    Absent,
    AccountRefused,
    ConfigurationError,
    NightbatchError,
    ReconciliationError,
    SubmissionInDoubt,
    Throttled,
)
from nightbatch.core.ledger import Batch
from nightbatch.core.models import ProviderName, Submission
from nightbatch.core.provider import BatchProvider
from nightbatch.job_types import job_types
from nightbatch.providers import build
from tests.unguarded import unguarded
from tests.use_cases.conftest import World

DAY = 86_400.0


def recover(world: World, *, account: str | None = None) -> list[str]:
    return recovery.recover(
        world.store, lambda name: world.provider(name, account=account), job_types(), world.settings
    )


def kinds(world: World) -> list[str]:
    return sorted(alert.kind for alert in world.store.open_alerts())


def left_in_doubt(world: World, name: ProviderName, fault: str = "lose_answer") -> Batch:
    world.insert(name)
    (batch,) = world.plan()
    world.emulator.fault(name, "batch_create", fault, times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    return world.store.batch(batch.id)


def ended(world: World, provider: BatchProvider, provider_batch_id: str) -> None:
    deadline = time.monotonic() + 20
    while asyncio.run(provider.get_state(provider_batch_id)).phase == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def elsewhere(world: World, count: int, tmp_path: Any) -> str:
    """Another tool's batch on the same Anthropic workspace, as many requests as ours."""
    provider = world.provider("anthropic")
    kind = job_types()["creative_scoring"]
    request = kind.render_request(json.dumps({"headline": "not ours"}).encode())
    path = tmp_path / "elsewhere.jsonl"
    path.write_bytes(
        b"".join(
            provider.render(f"theirs-{number}", kind.models["anthropic"], "chat", request) + b"\n"
            for number in range(count)
        )
    )
    return provider.submit(Submission(1, "nb-theirs", kind.models["anthropic"], "chat", count), path)


def test_another_tools_batch_of_the_same_size_is_told_apart_by_its_results(world: World, tmp_path: Any) -> None:
    batch = left_in_doubt(world, "anthropic", "reset")
    theirs = elsewhere(world, 3, tmp_path)
    ended(world, world.provider("anthropic"), theirs)
    assert in_doubt.find(world.store, world.provider("anthropic"), batch) == []


def test_ours_and_another_tools_are_told_apart_once_they_end(world: World, tmp_path: Any) -> None:
    world.emulator.control("POST", "turnaround", {"seconds": 1.5})
    try:
        batch = left_in_doubt(world, "anthropic")
        elsewhere(world, 3, tmp_path)
        with pytest.raises(SubmissionInDoubt, match="2 batches"):
            world.submit(batch)
        assert world.store.batch(batch.id).state == "held"
    finally:
        world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    time.sleep(1.6)
    assert world.submit(batch) == batch.id
    assert world.load(batch.id).succeeded == 3
    assert world.creates("anthropic") == 2


def test_a_batch_adopted_by_mistake_is_put_back_and_not_taken_again(world: World, tmp_path: Any) -> None:
    batch = left_in_doubt(world, "anthropic", "reset")
    world.emulator.control("POST", "turnaround", {"seconds": 60})
    try:
        elsewhere(world, 3, tmp_path)  # still running: the only candidate there is
        assert world.submit(batch) == batch.id
    finally:
        world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    with pytest.raises(ReconciliationError, match="results of another"):
        world.load(batch.id)
    assert world.store.batch(batch.id).state == "held"
    time.sleep(0.4)
    with pytest.raises(SubmissionInDoubt, match="does not list it"):
        world.submit(batch)


class _SlowToTell:
    """A provider whose list is read, and then something else happens before the answer is used."""

    def __init__(self, provider: BatchProvider, meanwhile: Any) -> None:
        self._provider, self._meanwhile = provider, meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def find_submission(self, sent: Submission) -> Any:
        found = self._provider.find_submission(sent)
        self._meanwhile(found)
        return found


@pytest.mark.fault(9)
def test_found_but_adopted_by_another_process_meanwhile_fences_nothing(world: World, provider: ProviderName) -> None:
    batch = left_in_doubt(world, provider)

    def adopt(found: Any) -> None:
        world.store.record_submission(batch.id, found[0].provider_batch_id)

    slow: Any = _SlowToTell(world.provider(provider), adopt)
    with pytest.raises(SubmissionInDoubt, match="moved on"):
        submission.submit_batch(world.store, slow, job_types(), world.settings, batch.id)
    assert world.store.batch(batch.id).fenced_at is None
    assert world.load(batch.id).succeeded == 3
    world.judge()


@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_a_batch_that_exists_twice_is_told_and_its_bill_is_taken_off_the_savings_once(
    world: World, name: ProviderName
) -> None:
    """No part of nightbatch does this: somebody, or something on the way, sent the same create again."""
    world.insert(name)
    (batch,) = world.plan()
    world.submit(batch)
    sent = world.store.batch(batch.id).submission
    world.provider(name).submit(sent, None)  # type: ignore[arg-type]  # their create needs no file
    with unguarded(world.store.connection):
        world.store.connection.execute(
            "UPDATE nightbatch.batch SET state = 'submitting', provider_batch_id = NULL, submitted_at = NULL"
        )
    assert world.submit(batch) == batch.id
    assert kinds(world) == ["duplicate_batch"]
    assert world.load(batch.id).succeeded == 3
    time.sleep(0.5)
    recover(world)
    assert len(world.bill()) == 6
    booked, saved, realtime = world.rows(
        "SELECT sum(batch_cost_usd), sum(savings_usd), sum(realtime_cost_usd) FROM nightbatch_report.savings_daily"
    )[0]
    assert (booked, saved) == (world.rows("SELECT sum(batch_cost_usd) FROM nightbatch.result")[0], realtime - booked)
    assert world.rows("SELECT outcome, count(*) FROM nightbatch.result GROUP BY 1 ORDER BY 1") == [
        ("duplicate", 3), ("succeeded", 3),
    ]  # fmt: skip
    assert set(world.states().values()) == {"succeeded"}


# -- found by tests/use_cases/test_any_order.py and its author


def submit_somehow(world: World, batch_id: int) -> None:
    with suppress(NightbatchError):
        world.submit(batch_id)


@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_a_fence_that_the_provider_refuses_is_no_fence(world: World, name: ProviderName) -> None:
    world.insert(name)
    (batch,) = world.plan()
    world.emulator.fault(name, "batch_create", "deliver_late", delay_seconds=3600)
    submit_somehow(world, batch.id)
    world.emulator.fault(name, "file_delete", "refuse", status=400)
    submit_somehow(world, batch.id)
    time.sleep(0.4)
    submit_somehow(world, batch.id)
    assert world.emulator.let_the_late_arrive(world.account) == 1
    recover(world)
    world.judge()


def test_an_upload_that_arrives_after_the_fence_does_not_lift_it(world: World) -> None:
    world.insert("gemini")
    (batch,) = world.plan()
    world.emulator.fault("gemini", "file_upload", "deliver_late", after_matches=1, delay_seconds=3600)
    world.emulator.fault("gemini", "batch_create", "deliver_late", delay_seconds=3600)
    submit_somehow(world, batch.id)
    submit_somehow(world, batch.id)
    time.sleep(0.4)
    submit_somehow(world, batch.id)
    assert world.emulator.let_the_late_arrive() == 2  # of all accounts: an upload names none
    for sent in world.rows("SELECT provider_batch_id FROM nightbatch.batch WHERE state = 'submitted'"):
        ended(world, world.provider("gemini"), sent)
    recover(world)
    world.judge()


def test_a_throttled_attempt_does_not_take_the_batch_of_one_in_doubt(world: World) -> None:
    world.emulator.control("POST", "turnaround", {"seconds": 3})
    try:
        world.insert("anthropic")
        (throttled,) = world.plan("r1")
        world.insert("anthropic")
        (doubtful,) = world.plan("r2")
        world.emulator.fault("anthropic", "batch_create", "rate_limit")
        submit_somehow(world, throttled.id)
        world.emulator.fault("anthropic", "batch_create", "lose_answer")
        submit_somehow(world, doubtful.id)
        submit_somehow(world, throttled.id)  # adopts the other's batch: same count, same time, still running
        time.sleep(0.4)
        submit_somehow(world, doubtful.id)  # held
    finally:
        world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    for _ in range(6):
        time.sleep(0.4)
        recover(world)
        for batch_id in (throttled.id, doubtful.id):
            submit_somehow(world, batch_id)
    world.judge()
    assert set(world.states().values()) == {"succeeded"}


def test_a_held_anthropic_attempt_keeps_nobody_from_sending(world: World) -> None:
    held = left_in_doubt(world, "anthropic", "reset")
    with pytest.raises(SubmissionInDoubt):
        world.submit_until_certain(held)
    assert world.store.batch(held.id).state == "held"
    world.insert("anthropic", 2)
    world.night("r2")
    world.insert("anthropic", 3)
    (lost,) = world.plan("r3")
    world.emulator.fault("anthropic", "batch_create", "lose_answer", times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(lost)
    deadline = time.monotonic() + 30
    while (
        world.store.batch(lost.id).state != "loaded"
    ):  # as many requests as the held one has: the results tell whose they are
        recover(world)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert world.store.batch(held.id).state == "held"
    decisions.release(world.store, held.id, choice="resend", by="ann", reason="looked")
    world.night("r4")
    assert set(world.states().values()) == {"succeeded"}
    world.judge()


# -- accounts


@pytest.mark.parametrize("state", ["planned", "submitting", "submitted"])
def test_another_account_never_sends_what_this_one_began(world: World, provider: ProviderName, state: str) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    if state == "planned":
        world.store.bind_account(batch.id, world.provider(provider).account)
    elif state == "submitting":
        world.emulator.fault(provider, "batch_create", "reset", times=1)
        with pytest.raises(SubmissionInDoubt):
            world.submit(batch)
        time.sleep(0.4)
    else:
        world.submit(batch)
    before = world.creates(provider)
    if state != "submitted":
        with pytest.raises(ConfigurationError, match="another"):
            world.submit(batch, account="other")
    for _ in range(2):
        recover(world, account="other")
    assert world.creates(provider) == before
    assert (
        sum(entry["account"] == "other" and entry["operation"] == "batch_create" for entry in world.emulator.log()) == 0
    )
    if state == "submitting":
        assert world.store.batch(batch.id).state == "held"
        assert kinds(world) == ["other_account"]


def test_the_key_put_back_settles_what_another_key_held(world: World) -> None:
    batch = left_in_doubt(world, "openai")
    time.sleep(0.2)
    recover(world, account="other")
    assert world.store.batch(batch.id).state == "held"
    time.sleep(0.4)
    recover(world)
    assert world.store.batch(batch.id).state == "loaded"
    assert kinds(world) == []
    assert set(world.states().values()) == {"succeeded"}
    world.judge()


@pytest.mark.parametrize("doubtful", [False, True])
def test_a_key_rotated_in_flight_goes_on_if_the_connection_names_the_account(
    world: World, provider: ProviderName, doubtful: bool
) -> None:
    """Two keys of one account at the emulator: `emu-<account>` and `emu-<account>.2`."""

    def keyed(key: str) -> BatchProvider:
        return build(
            provider, api_key=key, base_url=getattr(world.emulator, f"{provider}_url"), account="the marketing team"
        )

    old, new = keyed(f"emu-{world.account}"), keyed(f"emu-{world.account}.2")
    assert old.account == new.account
    world.insert(provider)
    (batch,) = world.plan()
    if doubtful:
        world.emulator.fault(provider, "batch_create", "lose_answer", times=1)
        with pytest.raises(SubmissionInDoubt):
            submission.submit_batch(world.store, old, job_types(), world.settings, batch.id)
    else:
        submission.submit_batch(world.store, old, job_types(), world.settings, batch.id)
    assert submission.submit_batch(world.store, new, job_types(), world.settings, batch.id) == batch.id
    ended(world, new, world.store.batch(batch.id).provider_batch_id or "")
    assert loading.load_batch(world.store, new, job_types(), batch.id).succeeded == 3
    assert world.creates(provider) == 1
    world.judge()


@pytest.mark.fault(23)
def test_a_refused_account_sends_nothing_more_until_it_is_mended(world: World, provider: ProviderName) -> None:
    world.settings = replace(world.settings, max_batch_jobs=2)
    world.insert(provider, 6)
    first, second, third = world.plan()
    world.submit(first)
    world.emulator.fault(provider, "batch_create", "refuse", status=401, times=1)
    with pytest.raises(AccountRefused):
        world.submit(second)
    assert kinds(world) == ["account_refused"]
    creates = world.creates(provider)
    world.emulator.fault(provider, "batch_list", "refuse", status=401, times=None)
    for batch in (second, third):
        with pytest.raises(AccountRefused):
            world.submit(batch)
    assert world.creates(provider) == creates, "a refused key was used for another create"
    world.emulator.control("DELETE", "faults")
    for batch in (second, third):
        assert world.submit_until_certain(batch) == batch.id
    assert kinds(world) == []
    assert [world.load(batch.id).succeeded for batch in (first, second, third)] == [2, 2, 2]
    world.judge()


# -- what a provider has no more


@pytest.mark.fault(24)
def test_a_batch_that_the_provider_does_not_know_is_held_and_never_sent_again(
    world: World, provider: ProviderName
) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    world.submit(batch)
    world.emulator.fault(provider, "batch_get", "refuse", status=404, times=None)
    for _ in range(2):
        (sentence,) = recover(world)
        assert "does not know" in sentence
    assert kinds(world) == ["unknown_batch"]
    assert world.plan("r2") == []
    assert world.creates(provider) == 1
    world.emulator.control("DELETE", "faults")
    time.sleep(0.4)
    recover(world)
    assert kinds(world) == []
    world.judge()


@pytest.mark.fault(35)
def test_results_past_retention_are_lost_and_not_paid_again(world: World, provider: ProviderName) -> None:
    world.emulator.control("POST", "clock", {"advance": -40 * DAY})
    try:
        world.insert(provider)
        (batch,) = world.plan()
        world.submit(batch)
        provider_batch_id = world.store.batch(batch.id).provider_batch_id or ""
        ended(world, world.provider(provider), provider_batch_id)
        world.emulator.fault(provider, "file_download", "refuse", status=404, times=None)
        loaded = world.load(batch.id)
    finally:
        world.emulator.control("POST", "clock", {"advance": 40 * DAY})
    assert (loaded.jobs, loaded.failed, loaded.requeued) == (3, 3, 0)
    assert kinds(world) == ["lost_results"]
    assert world.plan("r2") == []
    assert world.rows("SELECT unpriced FROM nightbatch_report.run_summary WHERE run_id = 'r1'") == [3]


def test_results_that_are_missing_just_after_the_end_are_waited_for(world: World, provider: ProviderName) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    world.submit(batch)
    world.emulator.fault(provider, "file_download", "refuse", status=404, times=1)
    with pytest.raises(Absent):
        world.load(batch.id)
    assert world.load(batch.id).succeeded == 3
    world.judge()


@pytest.mark.fault(14)
def test_paid_results_that_cannot_be_loaded_are_told_before_the_provider_deletes_them(
    world: World, provider: ProviderName
) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    world.submit(batch)
    world.store.connection.execute("UPDATE nightbatch.batch SET submitted_at = now() - interval '20 days'")
    time.sleep(0.5)
    recover(world, account="other")  # the key was changed while the Dag was paused
    assert kinds(world) == ["other_account", "results_expire"]
    recover(world)
    assert kinds(world) == []
    assert set(world.states().values()) == {"succeeded"}


@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_an_input_that_expired_while_the_provider_was_busy_is_uploaded_again(world: World, name: ProviderName) -> None:
    world.insert(name)
    (batch,) = world.plan()
    world.emulator.fault(name, "batch_create", "rate_limit", times=1)
    with pytest.raises(Throttled):
        world.submit(batch)
    world.provider(name).fence(world.store.batch(batch.id).submission)  # gone, as after its last day
    successor = world.submit_until_certain(batch)
    assert successor not in (None, batch.id)
    assert world.load(successor or 0).succeeded == 3
    world.judge()

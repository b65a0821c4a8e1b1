"""Payloads go when their time is over, and nothing else: hashes, states, costs and reports stay as they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from nightbatch.batches import retention
from nightbatch.core.errors import ConfigurationError
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.job_types.creative_scoring import CreativeScoring
from nightbatch.jobs.cancelling import cancel_jobs
from nightbatch.postgres import lifecycle
from tests.unguarded import unguarded
from tests.use_cases.conftest import World
from tests.use_cases.steps import end_unfinished, recover, sent

CANARY = "canary-in-a-prompt"


@pytest.fixture
def thirty_days(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a team's own type would say it."""
    monkeypatch.setattr(CreativeScoring, "retention_days", 30)
    yield


def erase(world: World, **settings: Any) -> list[str]:
    return retention.erase(world.store, job_types(), replace(world.settings, **settings))


def age(world: World, days: float) -> None:
    """Everything that has ended so far ended so many days earlier."""
    for statement in (
        "UPDATE nightbatch.result SET finished_at = finished_at - make_interval(secs => %s)",
        "UPDATE nightbatch.batch SET closed_at = closed_at - make_interval(secs => %s) WHERE closed_at IS NOT NULL",
        "UPDATE nightbatch.dismissed SET dismissed_at = dismissed_at - make_interval(secs => %s)",
        "UPDATE nightbatch.cached SET answered_at = answered_at - make_interval(secs => %s)",
    ):
        world.store.connection.execute(statement, (days * 86_400,))


def payloads(world: World) -> list[Any]:
    return world.rows("SELECT id FROM nightbatch.job WHERE input::text <> 'null' ORDER BY id")


def outputs(world: World) -> list[Any]:
    return world.rows("SELECT job_id FROM nightbatch.result WHERE output IS NOT NULL ORDER BY job_id")


def figures(world: World) -> list[Any]:
    """All that has to stay."""
    return [
        world.rows(f"SELECT t::text FROM {table} AS t ORDER BY 1")
        for table in (
            "nightbatch.job_status",
            "nightbatch.batch_job",
            "nightbatch_report.savings_daily",
            "nightbatch_report.run_summary",
            "(SELECT job_id, batch_id, outcome, billed, finish_reason, input_tokens, output_tokens, realtime_cost_usd,"
            " batch_cost_usd, price_source, error FROM nightbatch.result)",
            "(SELECT id, job_type, provider, model, priority, dedup_key, labels, created_at FROM nightbatch.job)",
        )
    ]


@pytest.mark.usefixtures("thirty_days")
def test_after_its_days_a_payload_is_gone_and_its_hash_and_costs_stay(world: World) -> None:
    ids = world.insert("openai", 3, headline=CANARY)
    hashes = [hashlib.sha256(text.encode()).digest() for text in world.rows("SELECT input::text FROM nightbatch.job")]
    world.night("r1")
    age(world, 29.9)
    before = figures(world)
    assert erase(world) == []
    assert (payloads(world), outputs(world)) == (ids, ids)
    age(world, 0.2)
    before = figures(world)
    assert erase(world) == ["Inputs and outputs of 3 jobs are erased; their retention is over."]
    assert (payloads(world), outputs(world)) == ([], [])
    assert world.rows("SELECT input_sha256 FROM nightbatch.job ORDER BY id") == hashes
    assert figures(world) == before
    assert erase(world) == []
    world.judge()


@pytest.mark.usefixtures("thirty_days")
def test_the_hourly_recovery_does_it(world: World) -> None:
    world.insert("openai", 2)
    world.night("r1")
    age(world, 31)
    assert recover(world) == ["Inputs and outputs of 2 jobs are erased; their retention is over."]


@pytest.mark.usefixtures("thirty_days")
def test_a_canary_is_found_nowhere_in_the_database(world: World) -> None:
    world.insert("openai", 1, headline=CANARY)
    world.insert("openai", 1, headline=CANARY, labels=json.dumps({"team": "x"}))
    world.night("r1")
    age(world, 31)
    erase(world)
    for table in world.rows(
        "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname LIKE 'nightbatch%%'"
    ):
        assert not world.rows(f"SELECT t::text FROM {table} AS t WHERE t::text LIKE '%%{CANARY}%%'"), table


@pytest.mark.parametrize("state", ["new", "waiting", "planned", "sent", "in doubt"])
@pytest.mark.usefixtures("thirty_days")
def test_what_has_not_ended_is_never_touched(world: World, state: str) -> None:
    if state == "new":
        world.insert("openai", 1)
    elif state == "waiting":
        world.insert("openai", 2)
        world.plan("r1", max_jobs=1)
    elif state == "planned":
        world.insert("openai", 1)
        world.plan("r1")
    else:
        batch_id = sent(world, "openai", 1)
        if state == "in doubt":
            with unguarded(world.store.connection):
                world.store.connection.execute(
                    "UPDATE nightbatch.batch SET state = 'submitting', provider_batch_id = NULL WHERE id = %s",
                    (batch_id,),
                )
    before = payloads(world)
    world.store.connection.execute("UPDATE nightbatch.batch SET planned_at = planned_at - interval '400 days'")
    assert erase(world) == []
    assert payloads(world) == before


@pytest.mark.usefixtures("thirty_days")
def test_a_job_that_goes_again_is_left_to_its_last_attempt(world: World) -> None:
    (job,) = world.insert("openai", 1)
    (batch,) = world.plan("r1")
    end_unfinished(world, batch.id)
    assert world.states()[job] == "queued"
    age(world, 31)
    assert erase(world) == []
    assert payloads(world) == [job]
    world.night("r2")
    assert erase(world) == []  # its first attempt is old enough, its second is not
    assert (payloads(world), outputs(world)) == ([job], [job])
    age(world, 31)
    assert len(erase(world)) == 1
    assert (payloads(world), outputs(world)) == ([], [])


@pytest.mark.usefixtures("thirty_days")
def test_rejected_and_cancelled_jobs_are_erased_as_well(world: World) -> None:
    bad = world.store.insert_job("creative_scoring", "openai", '{"no": "headline"}')
    (gone,) = world.insert("openai", 1)
    cancel_jobs(world.store, [gone], by="ada", reason="typo")
    world.night("r1")
    assert erase(world) == []
    age(world, 31)
    assert len(erase(world)) == 1
    assert payloads(world) == []
    assert world.states() == {bad: "rejected", gone: "cancelled"}
    assert erase(world) == []


@pytest.mark.usefixtures("thirty_days")
def test_an_answer_from_the_cache_has_days_of_its_own(world: World) -> None:
    (first,) = world.insert("openai", 1)
    world.night("r1")
    age(world, 20)
    (second,) = world.insert("openai", 1, cache_days=25)
    assert world.plan("r2") == []
    age(world, 11)
    erase(world)
    assert (payloads(world), outputs(world)) == ([second], [second])
    age(world, 20)
    erase(world)
    assert (payloads(world), outputs(world)) == ([], [])
    assert world.states() == {first: "succeeded", second: "succeeded"}


@pytest.mark.usefixtures("thirty_days")
def test_what_is_erased_answers_nobody(world: World) -> None:
    world.insert("openai", 1)
    world.night("r1")
    world.insert("openai", 1, cache_days=3_650)
    world.plan("r2")  # there is an entry for it now
    age(world, 31)
    erase(world)
    world.insert("openai", 1, cache_days=3_650)
    assert len(world.plan("r3")) == 1


def test_vectors_are_an_output(world: World) -> None:
    job = world.store.insert_job("embedding_generation", "openai", '{"text": "A text"}')
    world.night("r1")
    age(world, 8)
    assert world.rows("SELECT job_id FROM nightbatch.embedding") == [job]
    erase(world, retention_days=7)
    assert world.rows("SELECT job_id FROM nightbatch.embedding") == []


@pytest.mark.usefixtures("thirty_days")
def test_raw_lines_stay_as_long_as_the_longest_of_the_batchs_types(world: World) -> None:
    world.insert("openai", 1)
    world.store.insert_job("hook_generation", "openai", json.dumps({"product": "Tea", "audience": "all", "count": 2}))
    world.night("r1")
    assert world.rows("SELECT count(*) FROM nightbatch.batch") == [1]
    world.store.connection.execute(
        "INSERT INTO nightbatch.reject (batch_id, reason, raw) SELECT id, 'torn', 'raw' FROM nightbatch.batch"
    )
    age(world, 31)
    erase(world)
    assert world.rows("SELECT raw FROM nightbatch.reject") == [b"raw"]
    assert len(payloads(world)) == 1
    erase(world, retention_days=32)
    assert world.rows("SELECT raw FROM nightbatch.reject") == [b"raw"]
    age(world, 2)
    erase(world, retention_days=32)
    assert world.rows("SELECT raw, erased_at IS NOT NULL, reason FROM nightbatch.reject") == [(None, True, "torn")]
    assert payloads(world) == []


def test_by_default_everything_is_kept_and_a_type_may_say_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = world.insert("openai", 2)
    world.night("r1")
    age(world, 4_000)
    assert erase(world) == []
    monkeypatch.setattr(CreativeScoring, "retention_days", 0)
    assert erase(world, retention_days=7) == []
    assert payloads(world) == ids


def test_the_setting_is_in_days_and_not_negative() -> None:
    assert Settings.from_env({"NIGHTBATCH_RETENTION_DAYS": "90"}).retention_days == 90
    with pytest.raises(ConfigurationError, match="NIGHTBATCH_RETENTION_DAYS must be 0"):
        Settings.from_env({"NIGHTBATCH_RETENTION_DAYS": "-1"})


@pytest.mark.usefixtures("thirty_days")
def test_many_jobs_are_erased_in_pieces_and_a_crash_between_two_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PIECE", 3)
    world.insert("openai", 8)
    world.night("r1")
    age(world, 31)
    seen: list[int] = []
    original = lifecycle.erase_members

    def dies_at_the_second(*args: Any) -> tuple[int, int] | None:
        if len(seen) == 1:
            raise psycopg.OperationalError("the server is gone")
        page = original(*args)
        assert page is not None
        seen.append(page[1])
        return page

    with monkeypatch.context() as once:
        once.setattr(lifecycle, "erase_members", dies_at_the_second)
        with pytest.raises(psycopg.OperationalError):
            erase(world)
    assert (seen, len(payloads(world))) == ([3], 5)
    assert len(erase(world)) == 1
    assert (payloads(world), outputs(world)) == ([], [])


@pytest.mark.usefixtures("thirty_days")
def test_a_reprocessing_of_an_erased_job_is_rejected_with_the_reason(world: World) -> None:
    (past,) = world.insert("openai", 1)
    again = world.store.insert_job("historical_reprocessing", "openai", json.dumps({"job_id": past}))
    world.night("r1")
    age(world, 31)
    erase(world)
    assert world.states()[again] == "succeeded"
    late = world.store.insert_job("historical_reprocessing", "openai", json.dumps({"job_id": past}))
    world.night("r2")
    assert world.rows("SELECT state, error FROM nightbatch.job_status WHERE job_id = %s", late) == [
        ("rejected", "its input is empty, or was erased when the retention of its type was over")
    ]
    # Old still stands beside new: the reference is no payload.
    assert world.rows("SELECT past_job_id, new_outcome FROM nightbatch.reprocessed WHERE job_id = %s", again) == [
        (past, "succeeded")
    ]
    world.judge()


@pytest.mark.usefixtures("thirty_days")
def test_the_worker_role_may_erase_and_change_nothing_else(world: World) -> None:
    (job,) = world.insert("openai", 1)
    world.night("r1")
    (fresh,) = world.insert("openai", 1)
    age(world, 31)
    connection = world.store.connection
    connection.execute("SET ROLE nightbatch_worker")
    for column in ("priority = 9", "job_type = 'x'", "cache_days = 1", "labels = '{}'"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"UPDATE nightbatch.job SET {column}")
    half = (
        "UPDATE nightbatch.job SET input = 'null', erased_at = now(), input_sha256 = sha256('something else')",
        "UPDATE nightbatch.job SET input = '{}', erased_at = now(), input_sha256 = sha256(input::text::bytea)",
        "UPDATE nightbatch.job SET input = '{}'",
    )
    for statement in half:
        with pytest.raises(psycopg.errors.RestrictViolation, match="never change"):
            connection.execute(f"{statement} WHERE id = {job}")
    whole = "UPDATE nightbatch.job SET input = 'null', erased_at = now(), input_sha256 = sha256(input::text::bytea)"
    with pytest.raises(psycopg.errors.RestrictViolation, match="never change"):
        connection.execute(f"{whole} WHERE id = {fresh}")  # it has not ended
    assert len(erase(world)) == 1
    with pytest.raises(psycopg.errors.RestrictViolation, match="never change"):
        connection.execute(f"UPDATE nightbatch.job SET erased_at = now() WHERE id = {job}")  # once
    connection.execute("RESET ROLE")
    assert payloads(world) == [fresh]

"""A job that asks for it is answered by an equal one's result: at no cost, within its days, and counted as saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from nightbatch import reporting
from nightbatch.batches import fallback, submission
from nightbatch.core.ledger import RunParams
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.job_types.creative_scoring import CreativeScoring
from tests.surroundings import require_pgvector
from tests.use_cases.conftest import World
from tests.use_cases.steps import end_unfinished


def insert(world: World, provider: str = "openai", *, days: int | None = 30, **columns: Any) -> int:
    """The same scoring job each time, unless the columns say otherwise."""
    values = {
        "job_type": "creative_scoring", "provider": provider, "input": '{"headline": "The same"}', "cache_days": days,
    } | columns  # fmt: skip
    marks = ", ".join(["%s"] * len(values))
    row = world.store.connection.execute(
        f"INSERT INTO nightbatch.job ({', '.join(values)}) VALUES ({marks}) RETURNING id", list(values.values())
    ).fetchone()
    assert row is not None
    return int(row[0])


def sent(world: World) -> int:
    return len(world.bill())


def age(world: World, days: float) -> None:
    """Everything that has happened so far happened so many days earlier."""
    for statement in (
        "UPDATE nightbatch.result SET finished_at = finished_at - make_interval(secs => %s)",
        "UPDATE nightbatch.batch SET closed_at = closed_at - make_interval(secs => %s)",
        "UPDATE nightbatch.cache_entry SET finished_at = finished_at - make_interval(secs => %s)",
    ):
        world.store.connection.execute(statement, (days * 86_400,))


def test_an_equal_job_is_answered_by_the_earlier_result_and_never_sent(world: World, provider: ProviderName) -> None:
    first = insert(world, provider, days=None)
    world.night("r1")
    second = insert(world, provider)
    assert world.plan("r2") == []
    assert world.states() == {first: "succeeded", second: "succeeded"}
    (old, new) = world.rows(
        "SELECT output::text, finish_reason, outcome, batch_id FROM nightbatch.result ORDER BY job_id"
    )
    assert new == old
    assert world.rows(
        "SELECT billed, batch_cost_usd, realtime_cost_usd, input_tokens FROM nightbatch.result WHERE job_id = %s",
        second,
    ) == [(False, None, None, None)]
    assert world.rows("SELECT job_id, from_job_id, run_id FROM nightbatch.cached") == [(second, first, "r2")]
    assert world.rows("SELECT attempts FROM nightbatch.job_status ORDER BY job_id") == [1, 0]
    assert sent(world) == 1
    assert world.plan("r3") == []
    world.judge()


def test_what_it_would_have_cost_is_saved_wherever_savings_are_told(world: World) -> None:
    insert(world, days=None)
    world.night("r1")
    insert(world)
    insert(world)
    world.night("r2")
    (cost,) = world.rows("SELECT realtime_cost_usd FROM nightbatch.result WHERE billed")
    assert cost > 0
    assert world.rows(
        "SELECT jobs, succeeded, from_cache, batches, batch_cost_usd, realtime_cost_usd, savings_usd"
        " FROM nightbatch_report.run_summary WHERE run_id = 'r2'"
    ) == [(2, 2, 2, 0, 0, 2 * cost, 2 * cost)]
    before, after = reporting.run_report(world.store, "r1"), reporting.run_report(world.store, "r2")
    assert after.totals.savings_usd == 2 * cost
    told = reporting.to_json(after)
    assert (told["from_cache"], told["by_provider"]["openai"]["savings_usd"]) == (2, told["savings_usd"])
    assert "2 answered from the cache" in reporting.render_markdown(after)
    assert world.rows(
        "SELECT sum(savings_usd), sum(jobs)::int, sum(from_cache)::int FROM nightbatch_report.savings_daily"
    ) == [(before.totals.savings_usd + 2 * cost, 3, 2)]


def test_the_roll_up_is_what_a_full_recompute_gives(world: World) -> None:
    for provider in ("openai", "gemini"):
        insert(world, provider, days=None)
    world.night("r1")
    for run_id in ("r2", "r3"):
        for provider in ("openai", "openai", "gemini"):
            insert(world, provider)
        world.plan(run_id)
    recomputed = world.rows(
        "SELECT c.run_id, j.provider, b.model, j.job_type, count(*)::int, coalesce(sum(r.realtime_cost_usd), 0)"
        " FROM nightbatch.cached AS c JOIN nightbatch.job AS j ON j.id = c.job_id"
        " JOIN nightbatch.result AS mine ON mine.job_id = c.job_id JOIN nightbatch.batch AS b ON b.id = mine.batch_id"
        " JOIN nightbatch.result AS r ON r.job_id = c.from_job_id AND r.batch_id = b.id GROUP BY 1, 2, 3, 4"
    )
    kept = world.rows(
        "SELECT run_id, provider, model, job_type, jobs, realtime_cost_usd FROM nightbatch_report.cache_rollup"
    )
    assert len(kept) == 4
    assert sorted(kept) == sorted(recomputed)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"days": None}, "it does not ask"),
        ({"input": '{"headline":  "The same"}'}, "its bytes differ"),
        ({"model": "gpt-6-astra"}, "another model"),
        ({"provider": "gemini"}, "another provider"),
        ({"job_type": "hook_generation", "input": '{"product": "The same", "audience": "all"}'}, "another type"),
    ],
)
def test_what_is_not_equal_is_sent(world: World, columns: dict[str, Any], why: str) -> None:
    insert(world, days=None)
    world.night("r1")
    other = insert(world, **columns)
    (batch,) = world.plan("r2")
    assert world.store.members(batch.id).keys() == {other}, why


@pytest.fixture
def newer_prompt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    versions = dict(CreativeScoring.prompts)
    monkeypatch.setattr(CreativeScoring, "prompts", versions | {"new": "Score it otherwise."})
    yield


def test_a_newer_prompt_asks_anew(world: World, request: pytest.FixtureRequest) -> None:
    insert(world)
    world.night("r1")
    request.getfixturevalue("newer_prompt")
    insert(world)
    assert len(world.plan("r2")) == 1


def test_the_default_model_by_name_is_the_same_model(world: World) -> None:
    insert(world)
    world.night("r1")
    insert(world, model=job_types()["creative_scoring"].models["openai"])
    assert world.plan("r2") == []


def test_only_what_is_recent_enough_for_the_job_answers_it(world: World) -> None:
    insert(world)
    world.night("r1")
    age(world, 3.01)
    insert(world, days=4)
    assert world.plan("r2") == []
    late = insert(world, days=3)
    (batch,) = world.plan("r3")
    assert world.store.members(batch.id).keys() == {late}


def test_an_answer_from_the_cache_answers_nobody_so_that_no_result_outlives_its_days(world: World) -> None:
    insert(world)
    world.night("r1")
    age(world, 2)
    insert(world, days=3)
    assert world.plan("r2") == []
    age(world, 2)
    insert(world, days=3)  # the copy is two days old, what it is a copy of four
    assert len(world.plan("r3")) == 1


@pytest.mark.parametrize("outcome", ["failed", "refused", "errored", "expired"])
def test_only_a_success_answers(world: World, outcome: str) -> None:
    first = insert(world)
    world.night("r1")
    world.store.connection.execute("UPDATE nightbatch.result SET outcome = %s WHERE job_id = %s", (outcome, first))
    insert(world)
    assert len(world.plan("r2")) == 1


def test_a_job_that_was_sent_before_goes_its_own_way(world: World) -> None:
    """It has a result under that attempt already, and one answer is enough to wait for."""
    again = insert(world, priority=1)
    (batch,) = world.plan("r1")
    end_unfinished(world, batch.id)
    assert world.states()[again] == "queued"
    insert(world, days=None)
    world.night("r2", max_jobs=1)
    world.night("r3")
    assert set(world.states().values()) == {"succeeded"}
    assert sent(world) == 2
    assert world.rows("SELECT count(*) FROM nightbatch.cached") == [0]
    world.judge()


def test_of_two_equal_jobs_in_one_night_both_are_sent(world: World) -> None:
    insert(world)
    insert(world)
    world.night("r1")
    assert sent(world) == 2


def test_an_answered_job_counts_towards_the_runs_limit(world: World) -> None:
    insert(world, days=None)
    world.night("r1")
    insert(world, priority=10)
    other = world.insert("openai", 1)[0]
    assert world.plan("r2", max_jobs=1) == []
    (batch,) = world.plan("r3", max_jobs=1)
    assert world.store.members(batch.id).keys() == {other}


def test_a_job_that_cannot_wait_is_answered_from_the_cache_before_full_price_is_paid(world: World) -> None:
    insert(world, days=None)
    world.night("r1")
    urgent = insert(world, deadline=world.store.now() + timedelta(minutes=5), fallback=True)
    assert world.plan("r2") == []  # no batch would be back in time
    assert world.states()[urgent] == "queued"
    assert fallback.answer_urgent(world.store, world.provider, job_types(), world.settings) == []
    assert world.states()[urgent] == "succeeded"
    assert (sent(world), world.rows("SELECT job_id FROM nightbatch.cached")) == (1, [urgent])


def test_a_realtime_answer_answers_equal_jobs_too(world: World) -> None:
    insert(world, days=None, deadline=world.store.now() + timedelta(minutes=5), fallback=True)
    fallback.answer_urgent(world.store, world.provider, job_types(), world.settings)
    equal = insert(world)
    assert world.plan("r2") == []
    assert (world.states()[equal], sent(world)) == ("succeeded", 1)


def test_a_job_that_waited_is_answered_as_well(world: World) -> None:
    insert(world, days=None)
    world.insert("openai", 1, priority=10)
    waiting = insert(world, priority=1)
    world.night("r1", max_jobs=2)
    assert world.rows("SELECT job_id FROM nightbatch.open_job") == [waiting]
    assert world.plan("r2") == []
    assert world.rows("SELECT count(*) FROM nightbatch.open_job") == [0]
    assert world.states()[waiting] == "succeeded"


def test_embeddings_are_copied_with_their_vectors(world: World) -> None:
    require_pgvector(world.dsn)
    job: dict[str, Any] = {"job_type": "embedding_generation", "input": '{"texts": ["One", "Two"]}'}
    first = insert(world, **job, days=None)
    world.night("r1")
    second = insert(world, **job)
    assert world.plan("r2") == []
    old, new = (
        world.rows(
            "SELECT position, embedding::text FROM nightbatch.embedding WHERE job_id = %s ORDER BY position", job_id
        )
        for job_id in (first, second)
    )
    assert len(old) == 2
    assert new == old
    assert world.rows("SELECT n.job_id FROM nightbatch.similar(ARRAY[%s]::bigint[], 1) AS n", second) == [first, first]


def test_a_reprocessing_is_always_a_new_answer(world: World) -> None:
    past = insert(world, days=None)
    reference: dict[str, Any] = {"job_type": "historical_reprocessing", "input": json.dumps({"job_id": past})}
    insert(world, **reference)
    world.night("r1")
    insert(world, **reference)
    assert len(world.plan("r2")) == 1


def test_an_estimate_leaves_out_what_the_cache_answers_and_changes_nothing(world: World) -> None:
    insert(world, days=None)
    world.night("r1")
    insert(world)
    world.insert("openai", 2)
    (told,) = submission.preview(world.store, job_types(), world.settings, params=RunParams())
    assert told.jobs == 2
    assert world.rows("SELECT count(*) FROM nightbatch.cached") == [0]
    (batch,) = world.plan("r2")
    assert batch.job_count == 2


def test_an_unpriced_answer_is_counted_as_unpriced_not_as_nothing(world: World) -> None:
    insert(world, days=None)
    world.night("r1")
    world.store.connection.execute(
        "UPDATE nightbatch.result SET realtime_cost_usd = NULL, batch_cost_usd = NULL, price_source = NULL"
    )
    insert(world)
    world.plan("r2")
    assert world.rows("SELECT jobs, realtime_cost_usd, unpriced FROM nightbatch_report.cache_rollup") == [
        (1, Decimal(0), 1)
    ]


def test_each_night_reads_only_the_batches_that_were_loaded_since(world: World) -> None:
    insert(world)
    world.night("r1")
    insert(world)
    world.insert("openai", 1)
    world.night("r2")
    entries = "SELECT count(*) FROM nightbatch.cache_entry"
    assert world.rows(entries) == [1]
    insert(world)
    world.plan("r3")
    assert world.rows(entries) == [2]


def test_the_worker_role_may_do_all_of_it(world: World) -> None:
    insert(world, days=None)
    world.night("r1")
    insert(world)
    world.store.connection.execute("SET ROLE nightbatch_worker")
    assert world.plan("r2") == []
    world.store.connection.execute("RESET ROLE")
    assert world.rows("SELECT count(*) FROM nightbatch.cached") == [1]

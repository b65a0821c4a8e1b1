"""Taking jobs out of the queue: sent or cancelled, never both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from typer.testing import CliRunner

from nightbatch.batches import submission
from nightbatch.cli import app
from nightbatch.core.ledger import RunParams
from nightbatch.job_types import job_types
from nightbatch.jobs.cancelling import CancelledJobs, cancel_jobs
from nightbatch.postgres.store import open_store
from tests import surroundings
from tests.use_cases.conftest import World

WHY = {"by": "ada", "reason": "a typing error"}


def cancel(world: World, *jobs: int) -> CancelledJobs:
    return cancel_jobs(world.store, jobs, **WHY)


def test_a_new_job_ends_at_once_with_the_reason_and_is_never_sent(world: World) -> None:
    kept, gone = world.insert("openai", 2)
    assert cancel(world, gone) == CancelledJobs((gone,), {}, {}, ())
    assert world.rows("SELECT state, error FROM nightbatch.job_status WHERE job_id = %s", gone) == [
        ("cancelled", "Cancelled by ada: a typing error")
    ]
    world.night("r1")
    world.night("r2")
    assert world.states() == {kept: "succeeded", gone: "cancelled"}
    assert [line["custom_id"].partition("_")[0] for line in world.bill()] == [f"j{kept}"]


def test_a_job_that_waits_for_another_run_ends_too(world: World) -> None:
    kept, gone = world.insert("openai", 2)
    world.plan("r1", max_jobs=1)  # the other one waits in open_job from now on
    assert cancel(world, gone).cancelled == (gone,)
    assert world.plan("r2") == []
    assert world.states() == {kept: "batched", gone: "cancelled"}


def test_a_job_in_a_batch_stays_there_and_the_batch_is_named(world: World) -> None:
    ids = world.insert("openai", 2)
    (batch,) = world.plan()
    done = cancel(world, ids[0])
    assert done == CancelledJobs((), {ids[0]: batch.id}, {}, ())
    assert f"`nightbatch cancel {batch.id}`" in done.sentences()[0]
    assert world.states() == dict.fromkeys(ids, "batched")


def test_what_has_ended_stays_as_it_is_and_what_is_no_job_is_told(world: World) -> None:
    done, gone = world.insert("openai", 2)
    cancel(world, gone)
    world.night("r1")
    found = cancel(world, done, gone, 999_999, gone)
    assert found == CancelledJobs((), {}, {done: "succeeded", gone: "cancelled"}, (999_999,))
    assert world.states() == {done: "succeeded", gone: "cancelled"}
    world_errors = world.rows("SELECT reason FROM nightbatch.dismissed")
    assert world_errors == ["Cancelled by ada: a typing error"]


@pytest.mark.parametrize("known", [False, True], ids=["new", "waiting"])
def test_a_plan_and_a_cancel_at_the_same_moment_agree(world: World, known: bool) -> None:
    """Whoever is first holds the other up, who then sees what was done: both orders, on two connections."""
    ids = world.insert("openai", 2)
    if known:
        world.plan("r0", max_jobs=1)
        ids = ids[1:]

    def plan(run_id: str) -> int:
        with open_store(world.dsn) as store:
            made = submission.plan_run(
                store, job_types(), world.settings, run_id=run_id, queued_before=None, params=RunParams()
            )
            return sum(batch.job_count for batch in made)

    with ThreadPoolExecutor(1) as pool:
        with world.store.transaction():  # a cancel that has not committed yet
            assert cancel(world, ids[0]).cancelled == (ids[0],)
            planned = pool.submit(plan, "r1")
            _wait_for_the_lock(world)
        assert planned.result() == len(ids) - 1
        (late,) = world.insert("openai", 1)
        with world.store.transaction():  # a plan that has not committed yet
            world.plan("r2")
            cancelled = pool.submit(_cancel_elsewhere, world, late)
            _wait_for_the_lock(world)
        assert list(cancelled.result().under_way) == [late]
    assert world.states()[ids[0]] == "cancelled"
    assert world.states()[late] == "batched"


def _cancel_elsewhere(world: World, job: int) -> CancelledJobs:
    with open_store(world.dsn) as store:
        return cancel_jobs(store, [job], **WHY)


def _wait_for_the_lock(world: World) -> None:
    with psycopg.connect(surroundings.past(world.dsn), autocommit=True) as looker:
        while not looker.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone():
            pass


def test_the_command_cancels_jobs_names_the_others_and_asks_for_one_kind(world: World) -> None:
    run = CliRunner(env={"NIGHTBATCH_DSN": world.dsn, "NO_COLOR": "1", "COLUMNS": "200"})
    first, second, third = world.insert("openai", 3)
    done = run.invoke(app, ["cancel", "--job", str(first), "--job", str(second), "--reason", "typo", "--by", "ada"])
    assert (done.exit_code, done.output) == (0, f"Job {first} is cancelled.\nJob {second} is cancelled.\n")
    (batch,) = world.plan()
    done = run.invoke(app, ["cancel", "--job", str(third), "--reason", "typo"])
    assert done.exit_code == 1
    assert f"Job {third} is in batch {batch.id} and cannot be taken out" in done.output
    assert run.invoke(app, ["cancel", "--reason", "typo"]).exit_code == 2
    assert run.invoke(app, ["cancel", "1", "--job", "1", "--reason", "typo"]).exit_code == 2
    assert run.invoke(app, ["cancel", str(batch.id), "--reason", "typo"]).exit_code == 1  # it is not with its provider


def test_cancelled_jobs_are_in_no_run_and_cost_nothing(world: World) -> None:
    cancel(world, *world.insert("openai", 3))
    world.night("r1")
    assert world.rows("SELECT jobs, rejected, batches FROM nightbatch_report.run_summary") == [(0, 0, 0)]
    assert world.bill() == []

"""Ids say nothing of when: sequences hand them out in advance, and producers bring their own."""

from __future__ import annotations

import psycopg
import pytest

from tests import surroundings
from tests.use_cases.conftest import World
from tests.use_cases.steps import end_unfinished, planned

INSERT = (
    "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('creative_scoring', 'openai', '{\"headline\": \"x\"}')"
    " RETURNING id"
)


def waiting(world: World) -> int:
    (jobs,) = world.rows("SELECT coalesce(sum(jobs), 0) FROM nightbatch_report.queue_depth")
    return int(jobs)


@pytest.mark.fault(71)
def test_a_session_that_draws_fifty_ids_at_once_has_no_job_out_of_sight(world: World) -> None:
    world.store.connection.execute("ALTER SEQUENCE nightbatch.job_id_seq CACHE 50")
    dsn = surroundings.past(world.dsn)
    with psycopg.connect(dsn, autocommit=True) as first, psycopg.connect(dsn, autocommit=True) as second:
        ids = [connection.execute(INSERT).fetchone() for connection in (first, second)]
        assert sum(batch.job_count for batch in world.plan("r1")) == 2
        ids.append(first.execute(INSERT).fetchone())
    assert max(ids, key=str) != ids[-1]
    assert waiting(world) == 1
    assert [batch.job_count for batch in world.plan("r2")] == [1]
    assert (world.plan("r3"), waiting(world)) == ([], 0)


@pytest.mark.fault(71)
@pytest.mark.parametrize("own", [-7, -(2**63), 2**63 - 1, 1_000_000])
def test_a_producer_that_brings_ids_along_has_no_job_out_of_sight(world: World, own: int) -> None:
    world.insert("openai", 3)
    world.plan("r1")
    for id_ in (own, 17, 1000):
        with (
            world.store.connection.cursor() as cursor,
            cursor.copy("COPY nightbatch.job (id, job_type, provider, input) FROM STDIN") as copy,
        ):
            copy.write(f'{id_}\tcreative_scoring\topenai\t{{"headline": "y"}}\n')
        world.insert("openai", 1)
        assert waiting(world) == 2
        assert sum(batch.job_count for batch in world.plan(f"with {id_}")) == 2
    assert (world.plan("last"), waiting(world)) == ([], 0)


@pytest.mark.fault(71)
def test_a_job_committed_late_is_planned_by_the_next_night(world: World) -> None:
    """Its transaction began before the plan, and ended after it."""
    with psycopg.connect(world.dsn) as producer:
        producer.execute(INSERT)
        world.insert("openai", 2)
        assert sum(batch.job_count for batch in world.plan("r1")) == 2
        producer.commit()
        assert waiting(world) == 1
        assert sum(batch.job_count for batch in world.plan("r2")) == 1
        assert world.plan("r3") == []


@pytest.mark.fault(71)
def test_a_dump_restored_into_another_cluster_looks_at_everything_once(world: World) -> None:
    """Its numbers of transactions are another cluster's, and may lie in this one's future."""
    world.insert("openai", 2)
    world.plan("r1")
    world.store.connection.execute("UPDATE nightbatch.gathered SET seen_before = '9000000000000'")
    world.insert("openai", 3)
    assert waiting(world) == 3
    assert sum(batch.job_count for batch in world.plan("r2")) == 3
    world.insert("openai", 1)
    assert sum(batch.job_count for batch in world.plan("r3")) == 1


@pytest.mark.fault(71)
def test_what_came_later_is_told_by_time_also_when_attempts_count_down(world: World) -> None:
    world.store.connection.execute("ALTER SEQUENCE nightbatch.batch_id_seq INCREMENT -1 MAXVALUE 5000 RESTART 5000")
    end_unfinished(world, planned(world, "openai", 2))
    assert set(world.states().values()) == {"queued"}
    world.night("r2")
    assert set(world.states().values()) == {"succeeded"}
    (first,), (second,) = (world.store.run_batches(run) for run in ("r1", "r2"))
    assert first.id > second.id
    assert world.rows("SELECT DISTINCT batch_id FROM nightbatch.request WHERE requeued") == [first.id]
    assert world.rows("SELECT DISTINCT batch_id FROM nightbatch.job_status") == [second.id]
    world.judge()

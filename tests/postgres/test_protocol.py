"""The submit protocol, held by the database: whatever statement comes, and from whatever release."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import Connection, errors

BATCH = """
WITH job AS (
    INSERT INTO nightbatch.job (job_type, provider, input) SELECT 'creative_scoring', 'openai', '{}' FROM generate_series(1, 3)
    RETURNING id
), run AS (
    INSERT INTO nightbatch.run (id) VALUES ('r1') RETURNING id
), batch AS (
    INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, job_count)
    SELECT id, 'openai', 'gpt', 'chat', 1, 3 FROM run RETURNING id
), member AS (
    INSERT INTO nightbatch.batch_job (batch_id, job_id) SELECT batch.id, job.id FROM batch, job RETURNING job_id
)
INSERT INTO nightbatch.open_job (job_id, batch_id, attempts) SELECT job_id, batch.id, 1 FROM member, batch
"""

STEPS = {
    "planned": "",
    "fixed": "UPDATE nightbatch.batch SET payload_sha256 = 'h', account_fingerprint = 'a'",
    "uploaded": "UPDATE nightbatch.batch SET state = 'uploaded', uploaded_at = now(), input_file = 'f'",
    "submitting": "UPDATE nightbatch.batch SET state = 'submitting', epoch = epoch + 1, intent_at = now()",
    "held": "UPDATE nightbatch.batch SET state = 'held'",
    "submitted": "UPDATE nightbatch.batch SET state = 'submitted', provider_batch_id = 'b1', submitted_at = now()",
}
"""The way of an attempt, one statement a step."""

MAY_HAVE_BEEN_SENT = ("fixed", "uploaded", "submitting", "held", "submitted")


@pytest.fixture
def connection(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


def bring(connection: Connection, state: str) -> None:
    """One attempt with three jobs, in this state."""
    connection.execute(BATCH)
    for name, step in STEPS.items():
        if step:
            connection.execute(step)
        if name == state:
            return


@pytest.mark.fault(60)
@pytest.mark.parametrize("state", MAY_HAVE_BEEN_SENT)
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM nightbatch.batch_job WHERE job_id = 1",
        "UPDATE nightbatch.batch_job SET job_id = 4 WHERE job_id = 1",
        "INSERT INTO nightbatch.batch_job SELECT max(id), 4 FROM nightbatch.batch",
        "DELETE FROM nightbatch.open_job WHERE job_id = 1",
        "UPDATE nightbatch.open_job SET batch_id = NULL WHERE job_id = 1",
        "INSERT INTO nightbatch.open_job (job_id, batch_id) SELECT 4, max(id) FROM nightbatch.batch",
        "UPDATE nightbatch.batch SET job_count = 2",
        "UPDATE nightbatch.batch SET payload_sha256 = 'other'",
        "UPDATE nightbatch.batch SET payload_sha256 = NULL",
        "UPDATE nightbatch.batch SET nonce = repeat('0', 16)",
        "UPDATE nightbatch.batch SET account_fingerprint = 'other'",
        "UPDATE nightbatch.batch SET tag = 'nb-other'",
        "UPDATE nightbatch.batch SET state = 'planned'",
    ],
)
def test_an_attempt_whose_requests_are_fixed_keeps_its_jobs_and_its_words(
    connection: Connection, state: str, statement: str
) -> None:
    bring(connection, state)
    if state == "fixed" and "state = 'planned'" in statement:
        return  # it is planned
    with pytest.raises(errors.IntegrityError):
        connection.execute(statement)


def test_a_planned_attempt_may_lose_jobs(connection: Connection) -> None:
    bring(connection, "planned")
    connection.execute("DELETE FROM nightbatch.batch_job WHERE job_id = 1")
    connection.execute("UPDATE nightbatch.open_job SET batch_id = NULL WHERE job_id = 1")
    connection.execute("DELETE FROM nightbatch.open_job WHERE job_id = 2")


@pytest.mark.parametrize("state", ["planned", *MAY_HAVE_BEEN_SENT])
def test_no_job_is_left_under_a_closed_attempt(connection: Connection, state: str) -> None:
    bring(connection, state)
    closed = {"submitted": "loaded"}.get(state, "abandoned")
    with pytest.raises(errors.IntegrityError, match="jobs are left under it"):
        connection.execute("UPDATE nightbatch.batch SET state = %s, closed_at = now()", (closed,))
    with connection.transaction():
        connection.execute("UPDATE nightbatch.batch SET state = %s, closed_at = now()", (closed,))
        connection.execute("UPDATE nightbatch.open_job SET batch_id = NULL")
    assert connection.execute("SELECT state FROM nightbatch.batch").fetchone() == (closed,)


@pytest.mark.parametrize(
    ("state", "statement"),
    [
        ("planned", "UPDATE nightbatch.batch SET state = 'submitting', epoch = 1, intent_at = now()"),
        ("planned", "UPDATE nightbatch.batch SET state = 'submitted', provider_batch_id = 'x', submitted_at = now()"),
        ("uploaded", "UPDATE nightbatch.batch SET state = 'submitting', intent_at = now()"),
        ("uploaded", "UPDATE nightbatch.batch SET state = 'submitting', epoch = epoch + 2, intent_at = now()"),
        ("uploaded", "UPDATE nightbatch.batch SET intent_at = now()"),
        ("submitting", "UPDATE nightbatch.batch SET epoch = epoch - 1"),
        ("submitting", "UPDATE nightbatch.batch SET intent_at = NULL, state = 'uploaded'"),
        ("submitting", "UPDATE nightbatch.batch SET state = 'loaded', closed_at = now()"),
        ("held", "UPDATE nightbatch.batch SET state = 'uploaded'"),
        ("held", "UPDATE nightbatch.batch SET state = 'submitting', epoch = epoch + 1, intent_at = now()"),
        ("submitted", "UPDATE nightbatch.batch SET provider_batch_id = 'b2'"),
        ("submitted", "UPDATE nightbatch.batch SET state = 'submitting', epoch = epoch + 1, intent_at = now()"),
        ("submitted", "UPDATE nightbatch.batch SET state = 'abandoned', closed_at = now()"),
    ],
)
def test_a_step_that_the_protocol_does_not_have_fails(connection: Connection, state: str, statement: str) -> None:
    bring(connection, state)
    with pytest.raises(errors.IntegrityError):
        connection.execute(statement)


@pytest.mark.parametrize("then", ["uploaded", "submitting", "submitted", "loaded", "planned"])
def test_a_closed_attempt_is_never_opened_again(connection: Connection, then: str) -> None:
    bring(connection, "uploaded")
    with connection.transaction():
        connection.execute("UPDATE nightbatch.batch SET state = 'abandoned', closed_at = now()")
        connection.execute("UPDATE nightbatch.open_job SET batch_id = NULL")
    with pytest.raises(errors.IntegrityError):
        connection.execute(
            "UPDATE nightbatch.batch SET state = %s, closed_at = CASE %s WHEN 'loaded' THEN now() END", (then, then)
        )


@pytest.mark.parametrize("state", ["uploaded", "submitting", "submitted", "loaded"])
def test_an_attempt_begins_as_planned(connection: Connection, state: str) -> None:
    connection.execute("INSERT INTO nightbatch.run (id) VALUES ('r1')")
    with pytest.raises(errors.IntegrityError):
        connection.execute(
            "INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, job_count, state, payload_sha256,"
            " account_fingerprint, intent_at, submitted_at, provider_batch_id, closed_at) VALUES ('r1', 'openai', 'gpt',"
            " 'chat', 1, 1, %s, 'h', 'a', now(), now(), 'x', CASE %s WHEN 'loaded' THEN now() END)",
            (state, state),
        )


def test_a_job_cannot_leave_while_another_process_fixes_what_is_sent(connection: Connection, dsn: str) -> None:
    """The two lock the attempt, so one of them comes second and sees what the first did."""
    bring(connection, "planned")
    with psycopg.connect(dsn) as other:
        other.execute("UPDATE nightbatch.batch SET payload_sha256 = 'h'")
        connection.execute("SET lock_timeout = '200ms'")
        with pytest.raises(errors.LockNotAvailable):
            connection.execute("DELETE FROM nightbatch.batch_job WHERE job_id = 1")

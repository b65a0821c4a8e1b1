"""The ``wait``: what it hands to the triggerer, and what it makes of the trigger's event."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from nightbatch.airflow.sensor import BatchSensor
from nightbatch.core.errors import Transient
from tests.unguarded import unguarded


def resume(event: Any) -> None:
    BatchSensor(task_id="wait", batch_id=41).execute_complete({}, event)


@pytest.mark.fault(7, 16)
def test_an_ended_batch_lets_the_load_begin_however_often_it_is_told() -> None:
    for _ in range(2):
        resume({"batch_id": 41, "outcome": "ended", "says": "completed"})


def test_a_wait_that_was_given_up_fails_for_good_with_the_reason() -> None:
    with pytest.raises(AirflowFailException) as failed:
        resume({"batch_id": 41, "outcome": "gave_up", "says": "the account is refused."})
    assert str(failed.value) == (
        "Batch 41: the account is refused. The batch itself goes on: nightbatch_recover loads it when it has ended."
    )


@pytest.mark.fault(16)
@pytest.mark.parametrize(
    "event",
    [
        {},
        "ended",
        {"outcome": "ended", "says": "completed"},
        {"batch_id": 41, "outcome": "done", "says": "completed"},
    ],
)
def test_an_event_that_makes_no_sense_fails_loudly(event: Any) -> None:
    with pytest.raises(AirflowFailException, match="makes no sense"):
        resume(event)


@pytest.mark.fault(12, 13)
def test_a_sensor_has_nothing_that_cancels() -> None:
    assert "on_kill" not in vars(BatchSensor)


SENT = datetime(2026, 11, 23, 2, 1, tzinfo=UTC)


@pytest.fixture
def ledger(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:
    monkeypatch.setenv("NIGHTBATCH_DSN", dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO nightbatch.run (id) VALUES ('manual__1')")
        yield connection


def attempt(ledger: psycopg.Connection[Any], state: str, provider: str = "openai") -> int:
    """One attempt of one job, as it stands in the ledger in that state."""
    sent = state in ("submitted", "loaded")
    values = {
        "provider": provider,
        "state": state,
        "intent": SENT if sent or state == "held" else None,
        "id": f"batch_{state}" if sent else None,
        "submitted": SENT if sent else None,
        "closed": SENT if state in ("loaded", "refused") else None,
    }
    with unguarded(ledger):
        row = ledger.execute(
            "INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, job_count, state, intent_at,"
            " provider_batch_id, submitted_at, closed_at, error) VALUES ('manual__1', %(provider)s, 'm', 'chat',"
            " 1, 1, %(state)s, %(intent)s, %(id)s, %(submitted)s, %(closed)s, 'too large') RETURNING id",
            values,
        ).fetchone()
    assert row is not None
    return int(row[0])


def deferred(batch_id: int) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as told:
        BatchSensor(task_id="wait", batch_id=batch_id).execute({})
    return told.value


@pytest.mark.fault(6)
@pytest.mark.parametrize(("provider", "hours"), [("openai", 26), ("anthropic", 26), ("gemini", 50)])
def test_the_deadline_counts_from_the_submission(ledger: psycopg.Connection[Any], provider: str, hours: int) -> None:
    batch_id = attempt(ledger, "submitted", provider)
    told = deferred(batch_id)
    deadline = (SENT + timedelta(hours=hours)).timestamp()
    assert told.trigger.serialize()[1] == {"batch_id": batch_id, "deadline": deadline}
    assert told.method_name == "execute_complete"
    assert told.timeout is None, "Airflow's own timeout would end the wait without a word"


@pytest.mark.fault(6)
def test_a_retry_waits_for_the_same_batch_until_the_same_moment(ledger: psycopg.Connection[Any]) -> None:
    batch_id = attempt(ledger, "submitted")
    assert deferred(batch_id).trigger.serialize() == deferred(batch_id).trigger.serialize()


def test_a_loaded_batch_needs_no_wait(ledger: psycopg.Connection[Any]) -> None:
    BatchSensor(task_id="wait", batch_id=attempt(ledger, "loaded")).execute({})


def test_a_refused_batch_is_skipped_with_its_reason(ledger: psycopg.Connection[Any]) -> None:
    with pytest.raises(AirflowSkipException, match="was refused: too large"):
        BatchSensor(task_id="wait", batch_id=attempt(ledger, "refused")).execute({})


def test_a_batch_that_nobody_has_yet_is_not_waited_for(ledger: psycopg.Connection[Any]) -> None:
    with pytest.raises(AirflowFailException, match="is held: there is nothing to wait for yet"):
        BatchSensor(task_id="wait", batch_id=attempt(ledger, "held")).execute({})


@pytest.mark.fault(12, 16)
@pytest.mark.parametrize("event", [None, {"batch_id": 9999, "outcome": "ended", "says": "completed"}])
def test_a_wait_that_is_resumed_by_no_event_of_its_own_waits_again(ledger: psycopg.Connection[Any], event: Any) -> None:
    """Seen in Airflow 3.3.2: a wait that was cleared while it ran is resumed so."""
    wait = BatchSensor(task_id="wait", batch_id=attempt(ledger, "submitted"))
    with pytest.raises(TaskDeferred):
        wait.execute_complete({}, event)


@pytest.mark.fault(12)
def test_a_wait_whose_submit_was_cleared_under_it_is_tried_again() -> None:
    with pytest.raises(Transient, match="submit was cleared"):
        BatchSensor(task_id="wait", batch_id=None).execute({})

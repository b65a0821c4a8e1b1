"""Runs that another run starts: for what a provider's queue had no room for, and for jobs that are reprocessed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowSkipException, DagRunTriggerException

from nightbatch.airflow import runs
from nightbatch.airflow.runs import NextWaveOperator, SendAgainOperator, StartedRunLink, wave_after
from nightbatch.postgres import plans


@pytest.mark.parametrize(
    ("run_id", "after"),
    [
        ("scheduled__2026-11-23T02:00:00+00:00", "wave2_of_scheduled__2026-11-23T02:00:00+00:00"),
        ("wave2_of_manual__x", "wave3_of_manual__x"),
        ("wave9_of_x", "wave10_of_x"),
    ],
)
def test_waves_are_numbered(run_id: str, after: str) -> None:
    assert wave_after(run_id) == after


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that another wave is wanted for."""
    followed: list[str] = []

    @contextmanager
    def store() -> Iterator[None]:
        yield None

    monkeypatch.setattr(runs, "store", store)
    monkeypatch.setattr(plans, "wants_another_wave", lambda ledger, run_id: run_id in followed)
    return followed


def next_wave(run_id: str) -> tuple[NextWaveOperator, Any]:
    operator = NextWaveOperator(task_id="next_wave")
    return operator, lambda: NextWaveOperator.execute.__wrapped__(  # type: ignore[attr-defined]  # past Airflow's guard
        operator, {"run_id": run_id, "params": {"max_jobs": 5}}
    )


def test_the_next_wave_is_a_run_with_the_same_params_and_a_link_leads_to_it(wanted: list[str]) -> None:
    wanted.append("manual__a+b")
    operator, execute = next_wave("manual__a+b")
    with pytest.raises(DagRunTriggerException) as asked:
        execute()
    told = asked.value
    assert (told.trigger_dag_id, told.dag_run_id, told.conf) == ("nightbatch", "wave2_of_manual__a+b", {"max_jobs": 5})
    assert told.skip_when_already_exists and not (told.reset_dag_run or told.wait_for_completion)
    assert StartedRunLink().get_link(operator, ti_key=None).endswith("/dags/nightbatch/runs/wave2_of_manual__a%2Bb")


def test_a_night_that_found_room_is_not_followed_by_another(wanted: list[str]) -> None:
    operator, execute = next_wave("manual__1")
    with pytest.raises(AirflowSkipException):
        execute()
    assert StartedRunLink().get_link(operator, ti_key=None) == ""


def test_jobs_to_reprocess_are_sent_by_a_run_that_is_waited_for_in_the_triggerer() -> None:
    operator = SendAgainOperator(task_id="send", poll_seconds=0.2)
    with pytest.raises(DagRunTriggerException) as asked:
        SendAgainOperator.execute.__wrapped__(operator, {"run_id": "backfill__1"})  # type: ignore[attr-defined]
    told = asked.value
    assert (told.trigger_dag_id, told.dag_run_id) == ("nightbatch", "again_of_backfill__1")
    assert told.conf == {"job_types": ["historical_reprocessing"]}
    assert told.wait_for_completion and told.deferrable and told.poke_interval == 1


def test_the_task_fails_with_the_run_that_it_waited_for() -> None:
    operator = SendAgainOperator(task_id="send", poll_seconds=30)
    ended = {"run_ids": ["again_of_x"], "again_of_x": "success"}
    operator.execute_complete({}, ("airflow.Trigger", ended))
    assert StartedRunLink().get_link(operator, ti_key=None).endswith("/runs/again_of_x")
    with pytest.raises(AirflowException, match="again_of_x"):
        operator.execute_complete({}, ("airflow.Trigger", ended | {"again_of_x": "failed"}))

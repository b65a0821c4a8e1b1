"""The tasks' own functions, called as Airflow calls them, on a real ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from nightbatch.job_types import job_types

DAGS = Path(__file__).parents[2] / "dags"
EVERYTHING = {
    "providers": ["openai", "anthropic", "gemini"],
    "job_types": [],
    "job_ids": [],
    "max_jobs": None,
    "dry_run": False,
}
NOTHING: dict[str, list[int]] = {"openai": [], "anthropic": [], "gemini": []}


@dataclass
class Run:
    """As much of a Dag run, and of a task instance, as the tasks read."""

    run_id: str = "manual__1"
    run_type: str = "manual"
    data_interval_end: datetime | None = None
    dag_id: str = "nightbatch"
    states: dict[str, str] = field(default_factory=dict)

    def get_task_states(self, **_: Any) -> dict[str, dict[str, str]]:
        return {self.run_id: self.states}


@pytest.fixture(scope="module")
def tasks() -> dict[str, Callable[..., Any]]:
    dag = DagBag(str(DAGS / "nightbatch_nightly.py")).dags["nightbatch"]
    return {task.task_id: task.python_callable for task in dag.tasks if hasattr(task, "python_callable")}


@pytest.fixture
def ledger(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:
    """No connection leads to a provider here, so a task that called one would fail."""
    monkeypatch.setenv("NIGHTBATCH_DSN", dsn)
    for name in ("OPENAI", "ANTHROPIC", "GEMINI"):
        monkeypatch.delenv(f"AIRFLOW_CONN_{name}_DEFAULT", raising=False)
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def queue(ledger: psycopg.Connection[Any], provider: str, created_at: datetime | None = None) -> None:
    text = json.dumps(job_types()["creative_scoring"].example)
    ledger.execute(
        "INSERT INTO nightbatch.job (job_type, provider, input, created_at)"
        " VALUES ('creative_scoring', %s, %s, coalesce(%s, now()))",
        (provider, text, created_at),
    )


def count(ledger: psycopg.Connection[Any], table: str) -> int:
    row = ledger.execute(f"SELECT count(*) FROM nightbatch.{table}").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.fault(19)
def test_an_empty_queue_makes_a_run_without_batches(ledger: psycopg.Connection[Any], tasks: Any) -> None:
    assert tasks["plan"](dag_run=Run(), params=EVERYTHING) == NOTHING
    tasks["settle"](ti=Run())
    tasks["watch"](ti=Run())


def test_a_dry_run_says_what_it_would_send_and_takes_nothing(
    ledger: psycopg.Connection[Any], tasks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    queue(ledger, "gemini")
    dry = {**EVERYTHING, "dry_run": True}
    with caplog.at_level("INFO", logger="nightbatch"):
        planned = tasks["plan"](dag_run=Run(), params=dry)
    assert [planned.get(name, []) for name in NOTHING] == [[], [], []]
    assert "Would send 1 creative_scoring jobs to gemini, model gemini-3.5-flash-lite, for 0.0" in caplog.text
    assert [count(ledger, table) for table in ("run", "batch", "open_job")] == [0, 0, 0]
    with pytest.raises(AirflowSkipException, match="dry run"):
        tasks["report"](ti=Run(), params=dry, outlet_events={})
    tasks["watch"](ti=Run())


@pytest.mark.fault(11)
def test_a_run_planned_twice_has_the_same_batches(ledger: psycopg.Connection[Any], tasks: Any) -> None:
    queue(ledger, "openai")
    queue(ledger, "anthropic")
    first = tasks["plan"](dag_run=Run(), params=EVERYTHING)
    queue(ledger, "openai")
    assert tasks["plan"](dag_run=Run(), params=EVERYTHING) == first
    assert [len(first[name]) for name in NOTHING] == [1, 1, 0]
    assert tasks["batches_of_openai"](first, "openai") == first["openai"]


def test_a_scheduled_run_leaves_what_came_after_its_interval(ledger: psycopg.Connection[Any], tasks: Any) -> None:
    end = datetime(2026, 11, 23, 2, tzinfo=UTC)
    queue(ledger, "openai", datetime(2026, 11, 23, 1, 59, tzinfo=UTC))
    queue(ledger, "anthropic", end)
    planned = tasks["plan"](dag_run=Run("scheduled__1", "scheduled", end), params=EVERYTHING)
    assert [len(planned[name]) for name in NOTHING] == [1, 0, 0]


def test_settle_puts_back_what_was_never_sent_and_watch_then_tells_of_the_failure(
    ledger: psycopg.Connection[Any], tasks: Any
) -> None:
    queue(ledger, "openai")
    tasks["plan"](dag_run=Run(), params=EVERYTHING)
    run = Run(states={"openai.submit_0": "failed"})
    with pytest.raises(AirflowFailException, match=r"was not sent"):
        tasks["watch"](ti=run)
    tasks["settle"](ti=run)
    with pytest.raises(AirflowFailException, match=r"^openai\.submit failed\.$"):
        tasks["watch"](ti=run)
    assert ledger.execute("SELECT state FROM nightbatch.job_status").fetchall() == [("queued",)]


@pytest.mark.fault(75)
def test_no_more_batches_are_handed_on_than_airflow_maps_and_the_rest_waits_for_the_next_wave(
    tasks: dict[str, Callable[..., Any]], ledger: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "3")
    for number in range(5):
        ledger.execute(
            "INSERT INTO nightbatch.job (job_type, provider, model, input) VALUES ('creative_scoring', 'openai', %s, %s)",
            (f"model-{number}", json.dumps({"headline": "x"})),
        )
    queue(ledger, "gemini")
    planned = tasks["plan"](dag_run=Run(), params=EVERYTHING)
    assert {name: len(ids) for name, ids in planned.items()} == {"openai": 3, "anthropic": 0, "gemini": 1}
    assert tasks["plan"](dag_run=Run(), params=EVERYTHING) == planned
    waiting = ledger.execute("SELECT id FROM nightbatch.batch WHERE lacked_room").fetchall()
    assert len(waiting) == 2 and not {row[0] for row in waiting} & set(planned["openai"])

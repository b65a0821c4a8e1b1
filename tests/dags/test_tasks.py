"""The tasks' own functions, called as Airflow calls them, on a real ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from nightbatch.airflow.retries import RetryByError
from nightbatch.airflow.tasks import RESULTS
from nightbatch.core.errors import ConfigurationError
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
    conf: dict[str, Any] | None = None

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


# -- what a run is given and its Dag does not know


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"dryrun": True},
        r"given 'dryrun' \(is 'dry_run' meant\?\), which its Dag does not know. It takes providers, job_types",
    ),
    ({"dry-run": True}, "is 'dry_run' meant"),
    ({"DryRun": True}, "is 'dry_run' meant"),
    ({"dry_run": True, "job_type": ["raw"]}, "'job_type' .is 'job_types' meant"),
    ({"limit": 5}, "given 'limit', which"),
    ({"job_types": ["creative_scorin"]}, r"no job type 'creative_scorin' \(is 'creative_scoring' meant\?\); there are"),
    ({"job_ids": [999_999, 2**70]}, f"There is no job 999999, {2**70}"),
    ({"providers": ["mistral"]}, "providers does not fit: 'mistral' is not one of"),
    ({"providers": "openai"}, "providers does not fit: 'openai' is not of type 'array'"),
    ({"dry_run": "yes"}, "dry_run does not fit: 'yes' is not of type 'boolean'"),
    ({"dry_run": None}, "dry_run does not fit"),
    ({"max_jobs": "5"}, "max_jobs does not fit"),
    ({"job_ids": 7}, "job_ids does not fit"),
]


def given(conf: dict[str, Any]) -> dict[str, Any]:
    """As Airflow merges a run's conf into its params: names that it does not know are kept."""
    return EVERYTHING | conf


@pytest.mark.parametrize(("conf", "words"), REFUSED)
def test_a_run_that_was_given_what_cannot_be_meant_claims_and_reports_nothing(
    ledger: psycopg.Connection[Any], tasks: Any, conf: dict[str, Any], words: str
) -> None:
    queue(ledger, "openai")
    run, params = Run(conf=conf, states={"plan": "failed"}), given(conf)
    with pytest.raises(ConfigurationError, match=words):
        tasks["plan"](dag_run=run, params=params)
    assert [count(ledger, table) for table in ("run", "batch", "open_job")] == [0, 0, 0]
    if not conf.get("dry_run"):
        with pytest.raises(AirflowSkipException, match=f"refused has nothing to report.*{words}"):
            tasks["report"](ti=run, dag_run=run, params=params, outlet_events={})
    with pytest.raises(AirflowFailException, match=words) as told:
        tasks["watch"](ti=run, dag_run=run, params=params)
    assert "plan failed." in str(told.value)


def test_a_refused_run_is_not_tried_again() -> None:
    decision = RetryByError().evaluate(ConfigurationError("The run was given 'dryrun'"), 1, 5)
    assert decision.action == RetryAction.FAIL


def test_a_conf_that_airflow_does_not_hand_on_is_refused(ledger: psycopg.Connection[Any], tasks: Any) -> None:
    queue(ledger, "openai")
    with pytest.raises(ConfigurationError, match="given dry_run, and Airflow does not hand that on"):
        tasks["plan"](dag_run=Run(conf={"dry_run": True}), params=EVERYTHING)
    assert count(ledger, "run") == 0


def test_what_airflow_and_an_earlier_run_put_into_a_conf_is_heeded(ledger: psycopg.Connection[Any], tasks: Any) -> None:
    queue(ledger, "openai")
    conf = {**EVERYTHING, "openlineage": {"parentRunId": "x"}}
    assert len(tasks["plan"](dag_run=Run("wave2_of_manual__1", conf=conf), params=given(conf))["openai"]) == 1
    again = {"job_types": ["historical_reprocessing"]}
    assert tasks["plan"](dag_run=Run("again_of_backfill__1", conf=again), params=given(again)) == NOTHING


def test_a_run_that_was_planned_is_reported_whatever_it_was_given(
    ledger: psycopg.Connection[Any], tasks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run of an earlier release that sent the whole night in spite of a misspelt name."""
    queue(ledger, "openai")
    tasks["plan"](dag_run=Run(), params=EVERYTHING)
    run, told = Run(conf={"dryrun": True}), {RESULTS: SimpleNamespace(extra={})}
    tasks["report"](ti=run, dag_run=run, params=given({"dryrun": True}), outlet_events=told)
    assert told[RESULTS].extra["batches"] == 1


def test_a_run_of_recover_that_was_given_anything_does_nothing(ledger: psycopg.Connection[Any]) -> None:
    dag = DagBag(str(DAGS / "nightbatch_recover.py")).dags["nightbatch_recover"]
    for name in ("recover", "fall_back"):
        task: Any = dag.get_task(name)
        with pytest.raises(ConfigurationError, match=r"given 'dry_run', which its Dag does not know\. It takes none"):
            task.python_callable(dag_run=Run(conf={"dry_run": True}), params={"dry_run": True})
        task.python_callable(dag_run=Run(), params={})


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"to_model": "x", "dryrun": True}, "'dryrun' .is 'dry_run' meant"),
        ({"model": "x"}, "'model' .is 'to_model' meant"),
        ({"to_model": "x", "job_types": ["creative_scorin"]}, "no job type creative_scorin"),
        ({"to_model": "x", "to_provider": "mistral"}, "to_provider does not fit"),
        ({"to_model": "x", "from_day": "yesterday"}, "from_day does not fit"),
        ({"to_model": "x", "to_day": "2026-11-20"}, "give from_day too"),
        ({}, "Say what is to change"),
    ],
)
def test_a_reprocessing_that_cannot_be_meant_queues_nothing(
    ledger: psycopg.Connection[Any], conf: dict[str, Any], words: str
) -> None:
    dag = DagBag(str(DAGS / "nightbatch_reprocess.py")).dags["nightbatch_reprocess"]
    task: Any = dag.get_task("choose")
    params = {name: dag.params[name] for name in dag.params} | conf
    run = ManyDays(data_interval_end=datetime(2026, 11, 23, 2, tzinfo=UTC), conf=conf)
    with pytest.raises(ConfigurationError, match=words):
        task.python_callable(dag_run=run, params=params)
    assert count(ledger, "job") == 0


@dataclass
class ManyDays(Run):
    """As much as `choose` reads."""

    data_interval_start: datetime | None = datetime(2026, 11, 22, 2, tzinfo=UTC)

"""The Dag files: what they hold, and what reading them costs."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.sdk import DAG, Asset, CronTriggerTimetable
from airflow.sdk.definitions.param import ParamsDict
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction

from nightbatch.airflow.tasks import counts, failed_tasks, queued_before, run_params
from nightbatch.core.ledger import RunParams
from nightbatch.core.profiles import BUILT_IN
from nightbatch.job_types import job_types

DAGS = Path(__file__).parents[2] / "dags"
HEAVY = (
    "openai", "anthropic", "google.genai", "genai_prices", "pandas", "pygal", "psycopg", "nightbatch.postgres.store",
    "airflow.models.dagrun",  # Airflow's database: half a second of SQLAlchemy, for each task that a fresh process runs
)  # fmt: skip


@pytest.fixture(scope="module")
def dags() -> dict[str, DAG]:
    from airflow.dag_processing.dagbag import DagBag

    found = DagBag(str(DAGS))
    assert found.import_errors == {}
    return dict(found.dags)


@pytest.fixture(scope="module")
def night(dags: dict[str, DAG]) -> DAG:
    return dags["nightbatch"]


@pytest.mark.parametrize("file", ["nightbatch_nightly.py", "nightbatch_recover.py", "nightbatch_reprocess.py"])
def test_reading_a_dag_file_is_quick_and_imports_nothing_heavy(file: str) -> None:
    script = (
        "import airflow.sdk, json, runpy, sys, time\n"
        "start = time.process_time(); runpy.run_path(sys.argv[1]); took = time.process_time() - start\n"
        "print(json.dumps([took, sorted(sys.modules)]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(DAGS / file)], capture_output=True, text=True, check=True, timeout=60
    )
    took, modules = json.loads(run.stdout.splitlines()[-1])
    assert [name for name in HEAVY if name in modules] == []
    assert took < 1.5


def test_every_dag_and_every_task_says_what_it_does(dags: dict[str, DAG]) -> None:
    assert {"nightbatch", "nightbatch_recover"} <= set(dags)
    for dag_id in ("nightbatch", "nightbatch_recover"):
        assert (dags[dag_id].doc_md or "").strip().startswith("### nightbatch")
        undocumented = [
            task.task_id for task in dags[dag_id].tasks if not (task.doc_md or task.doc_rst or task.__doc__)
        ]
        assert undocumented == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_provider_goes_its_own_way_batch_by_batch(night: DAG, name: str) -> None:
    upstream = {task.task_id: task.upstream_task_ids for task in night.tasks}
    assert upstream[f"batches_of_{name}"] == {"plan"}
    assert upstream[f"{name}.submit"] == {f"batches_of_{name}"}
    assert upstream[f"{name}.wait"] == {f"{name}.submit"}
    assert upstream[f"{name}.load"] == {f"{name}.submit", f"{name}.wait"}
    assert {night.get_task(f"{name}.{task}").pool for task in ("submit", "wait", "load")} == {f"nightbatch_{name}"}
    assert night.get_task(f"{name}.submit").max_active_tis_per_dagrun == (1 if name == "anthropic" else None)


def test_the_end_of_the_night_always_runs_and_watch_alone_decides(night: DAG) -> None:
    upstream = {task.task_id: task.upstream_task_ids for task in night.tasks}
    assert upstream["settle"] == {f"{name}.load" for name in BUILT_IN}
    assert upstream["report"] == {"settle"}
    assert upstream["next_wave"] == {"settle"}
    assert upstream["watch"] == {"report", "next_wave"}
    assert {night.get_task(task).trigger_rule for task in ("settle", "report", "next_wave", "watch")} == {"all_done"}
    assert [task.task_id for task in night.leaves] == ["watch"]


def test_the_report_tells_the_dags_that_follow(night: DAG) -> None:
    assert night.get_task("report").outlets == [Asset("nightbatch://results")]


def test_the_dags_survive_serialization(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        restored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        assert {task.task_id for task in restored.tasks} == {task.task_id for task in dag.tasks}


def test_the_form_takes_everything_by_default_and_only_what_makes_sense(night: DAG) -> None:
    form = night.params
    assert run_params(form.validate()) == RunParams(providers=BUILT_IN)
    asked = {
        "providers": ["gemini"],
        "job_types": sorted(job_types())[:1],
        "job_ids": [7],
        "max_jobs": 5,
        "dry_run": True,
    }
    assert run_params(_filled(form, asked)) == RunParams(("gemini",), (sorted(job_types())[0],), (7,), 5, True)
    for wrong in (
        {"providers": ["mistral"]},
        {"job_ids": [0]},
        {"max_jobs": 0},
        {"max_jobs": "all"},
        {"dry_run": "maybe"},
    ):
        with pytest.raises(Exception, match="Invalid input"):
            _filled(form, wrong)


def _filled(form: ParamsDict, values: dict[str, Any]) -> dict[str, Any]:
    filled = copy.deepcopy(form)
    filled.update(values)
    return dict(filled.validate())


class Run:
    """As much of a Dag run as `queued_before` reads."""

    def __init__(self, run_type: str, data_interval_end: datetime | None) -> None:
        self.run_type = run_type
        self.data_interval_end = data_interval_end


def test_only_scheduled_and_backfilled_runs_stop_at_their_intervals_end() -> None:
    end = datetime(2026, 11, 23, 2, tzinfo=UTC)
    assert [queued_before(Run(kind, end)) for kind in ("scheduled", "backfill", "manual")] == [end, end, None]
    assert queued_before(Run("manual", None)) is None


class Task:
    """As much of a running task as `failed_tasks` reads."""

    dag_id, run_id = "nightbatch", "manual__1"

    def __init__(self, states: dict[str, str | None]) -> None:
        self.states = states

    def get_task_states(self, *, dag_id: str, run_ids: list[str]) -> dict[str, dict[str, str | None]]:
        assert (dag_id, run_ids) == (self.dag_id, [self.run_id])
        return {self.run_id: self.states}


def test_failures_are_told_once_for_each_task() -> None:
    states = {"plan": "success", "openai.load_0": "failed", "openai.load_1": "failed", "openai.load_2": "success"}
    assert failed_tasks(Task({**states, "settle": "failed", "watch": None})) == [
        "openai.load failed for 2 batches.",
        "settle failed.",
    ]


def test_skipped_groups_are_no_failures() -> None:
    assert failed_tasks(Task({"gemini.submit": "skipped", "gemini.wait": "skipped", "gemini.load": "skipped"})) == []


def _nights(dag: DAG, start: datetime, count: int) -> list[DataInterval]:
    """The intervals of the next scheduled runs; each run comes at its interval's end."""
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    restriction = TimeRestriction(pendulum.instance(start), None, catchup=True)
    nights: list[DataInterval] = []
    for _ in range(count):
        info = timetable.next_dagrun_info(
            last_automated_data_interval=nights[-1] if nights else None, restriction=restriction
        )
        assert info is not None
        assert info.data_interval is not None
        assert info.run_after == info.data_interval.end
        nights.append(info.data_interval)
    return nights


def test_a_night_covers_the_day_before_it(night: DAG) -> None:
    first, second = _nights(night, datetime(2026, 11, 22, 12, tzinfo=UTC), 2)
    assert first == (datetime(2026, 11, 22, 2, tzinfo=UTC), datetime(2026, 11, 23, 2, tzinfo=UTC))
    assert second.end - first.end == timedelta(days=1)


@pytest.mark.fault(17)
@pytest.mark.parametrize("eve", [datetime(2026, 10, 23, 12, tzinfo=UTC), datetime(2027, 3, 26, 12, tzinfo=UTC)])
def test_a_change_of_the_clocks_neither_skips_nor_doubles_a_night(eve: datetime) -> None:
    timetable = CronTriggerTimetable("0 2 * * *", timezone="Europe/Berlin", interval=timedelta(days=1))
    with DAG("berlin", schedule=timetable) as dag:
        pass
    ends = [night.end for night in _nights(dag, eve, 4)]
    assert [end.date() for end in ends] == [(eve + timedelta(days=day)).date() for day in (1, 2, 3, 4)]


def test_the_asset_event_carries_the_totals_alone() -> None:
    assert counts({"jobs": 3, "savings_usd": "0.1", "reasons": [], "by_provider": {}}) == {
        "jobs": 3,
        "savings_usd": "0.1",
    }

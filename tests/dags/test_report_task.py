"""The task `report`: its figures are told even where no file can be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk._shared.observability.metrics import stats
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger

from nightbatch.airflow.tasks import RESULTS
from nightbatch.job_types import job_types

DAGS = Path(__file__).parents[2] / "dags"


@dataclass
class Run:
    run_id: str = "manual__1"
    run_type: str = "manual"
    data_interval_end: None = None
    dag_id: str = "nightbatch"


@dataclass
class Event:
    extra: dict[str, Any] = field(default_factory=dict)


Report = Callable[[Path], dict[str, Any]]


@pytest.fixture
def report(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Plan a run of one job, and report it into a folder; what the asset event tells."""
    monkeypatch.setenv("NIGHTBATCH_DSN", dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('creative_scoring', 'openai', %s)",
            (json.dumps(job_types()["creative_scoring"].example),),
        )
    everything = {"providers": ["openai"], "job_types": [], "job_ids": [], "max_jobs": None, "dry_run": False}

    def run(folder: Path) -> dict[str, Any]:
        monkeypatch.setenv("NIGHTBATCH_REPORT_DIR", str(folder))
        dag = DagBag(str(DAGS / "nightbatch_nightly.py")).dags["nightbatch"]
        tasks = {task.task_id: task.python_callable for task in dag.tasks if hasattr(task, "python_callable")}
        tasks["plan"](dag_run=Run(), params=everything)
        event = Event()
        tasks["report"](ti=Run(), params=everything, outlet_events={RESULTS: event})
        return event.extra

    return run


def test_a_night_is_kept_in_every_format(report: Report, tmp_path: Path) -> None:
    told = report(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {f"manual__1.{kind}" for kind in ("csv", "html", "json", "md")}
    kept = json.loads((tmp_path / "manual__1.json").read_text())
    assert told == {name: value for name, value in kept.items() if not isinstance(value, (dict, list))}
    assert (told["run_id"], told["batches"], told["open_batches"]) == ("manual__1", 1, 1)


def test_a_folder_that_cannot_be_written_to_hides_no_figures_and_fails_no_night(
    report: Report, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level("INFO", logger="nightbatch"):
        told = report(tmp_path / "file" / "reports")
    assert told["run_id"] == "manual__1"
    figures, error = [record for record in caplog.records if "report" in record.message or "# Night" in record.message]
    assert "# Night manual\\_\\_1" in figures.message and figures.levelname == "INFO"
    assert (
        error.levelname == "ERROR" and "Not a directory" in error.message and "NIGHTBATCH_REPORT_DIR" in error.message
    )


def test_the_totals_go_where_airflows_own_metrics_go(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A StatsD server of Airflow's configuration gets them; OpenTelemetry hangs on the same call."""
    told: dict[str, float] = {}

    class Backend(NoStatsLogger):
        @classmethod
        def gauge(cls, stat: str, value: float, *_: Any, **__: Any) -> None:
            told[stat] = value

    monkeypatch.setattr(stats, "_backend", Backend())
    report(tmp_path)
    assert {name: told[f"nightbatch.{name}"] for name in ("jobs", "succeeded", "savings_usd")} == {
        "jobs": 0,
        "succeeded": 0,
        "savings_usd": 0,
    }

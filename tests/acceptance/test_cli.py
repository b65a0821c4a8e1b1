"""The command line as a person uses it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nightbatch.cli import app
from nightbatch.ledger import RunParams
from nightbatch.postgres.store import open_store

GOOD = '{"job_type": "creative_scoring", "provider": "openai", "input": {"headline": "Good"}}'


@pytest.fixture
def run(dsn: str) -> CliRunner:
    return CliRunner(env={"NIGHTBATCH_DSN": dsn, "NO_COLOR": "1", "COLUMNS": "120"})


def test_help_lists_the_commands_and_answers_at_once() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "nightbatch.cli", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("enqueue", "status", "results", "report", "migrate", "doctor", "emulator", "run"):
        assert command in done.stdout
    assert time.monotonic() - began < 5  # 0.2 s on a machine that does nothing else


def test_help_imports_no_airflow_no_sdk_and_no_database_driver() -> None:
    code = (
        "import sys, nightbatch.cli; print([m for m in ('airflow', 'openai', 'psycopg', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_with_a_bad_line_queues_the_others_and_exits_with_1(run: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(f'{GOOD}\n{{"job_type": "creative_scoring"}}\n{GOOD}\n')
    done = run.invoke(app, ["enqueue", str(path)])
    assert done.exit_code == 1
    assert done.stdout == "2 jobs queued, 1 bad lines left out.\n"
    assert done.stderr == "jobs.jsonl:2: Object missing required field `provider`\n"


def test_the_same_as_json(run: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(GOOD)
    done = run.invoke(app, ["enqueue", str(path), "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"new": 1, "known": 0, "bad": []})


def test_status_shows_the_queue(run: CliRunner, dsn: str) -> None:
    with open_store(dsn) as store:
        store.insert_job("creative_scoring", "openai", "{}")
    (row,) = json.loads(run.invoke(app, ["status", "--json"]).stdout)["queue"]
    assert (row["provider"], row["job_type"], row["priority"], row["jobs"]) == ("openai", "creative_scoring", 5, 1)
    assert "creative_scoring" in run.invoke(app, ["status"]).stdout


def test_there_is_nothing_to_report_before_the_first_run(run: CliRunner) -> None:
    done = run.invoke(app, ["report"])
    assert done.exit_code == 1
    assert "No run was planned yet." in done.stderr


def test_a_run_is_reported_as_text_markdown_and_json(run: CliRunner, dsn: str) -> None:
    with open_store(dsn) as store, store.transaction():
        store.start_run("nightly | <b>", None, RunParams())
    assert json.loads(run.invoke(app, ["report", "--json"]).stdout)["jobs"] == 0
    assert run.invoke(app, ["report", "--markdown"]).stdout.startswith("# Night nightly \\| &lt;b&gt;\n")
    assert "Saved $0.00" in run.invoke(app, ["report"]).stdout


def test_results_of_an_empty_database(run: CliRunner) -> None:
    assert run.invoke(app, ["results"]).stdout == "Results: nothing.\n"
    assert run.invoke(app, ["results", "--json"]).stdout == ""


def test_the_doctor_exits_with_1_when_a_person_is_needed(run: CliRunner, dsn: str) -> None:
    assert run.invoke(app, ["doctor"]).exit_code == 0
    with open_store(dsn) as store:
        store.raise_alert("held", "7", "Batch 7 is held.")
    done = run.invoke(app, ["doctor"])
    assert (done.exit_code, done.stdout) == (1, "- Batch 7 is held.\n")


@pytest.mark.parametrize("command", [["migrate"], ["status"], ["results"], ["report"], ["doctor"]])
def test_without_a_database_every_command_says_what_to_set(command: list[str]) -> None:
    done = CliRunner(env={"NIGHTBATCH_DSN": ""}).invoke(app, command)
    assert done.exit_code == 1
    assert "set NIGHTBATCH_DSN" in done.stderr


def test_an_unreachable_database_is_told_without_a_traceback_and_without_the_password() -> None:
    dsn = "postgresql://someone:canary-4711@127.0.0.1:1/nightbatch"
    done = CliRunner(env={"NIGHTBATCH_DSN": dsn}).invoke(app, ["status"])
    assert done.exit_code == 1
    assert "cannot be reached" in done.stderr
    assert "canary" not in done.output


def test_wrong_usage_exits_with_2(run: CliRunner) -> None:
    assert run.invoke(app, ["enqueue", "no-such-file.jsonl"]).exit_code == 2
    assert run.invoke(app, ["results", "--limit", "0"]).exit_code == 2

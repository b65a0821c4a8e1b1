"""The command line as a person uses it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from typer.testing import CliRunner

from nightbatch.batches import cost_preview, submission
from nightbatch.cli import app
from nightbatch.core.ledger import RunParams
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.postgres.store import open_store

GOOD = '{"job_type": "creative_scoring", "provider": "openai", "input": {"headline": "Good"}}'

HEAVY = ("airflow", "openai", "anthropic", "google.genai", "genai_prices", "psycopg", "pandas", "pygal")


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


def test_neither_import_nor_help_imports_airflow_an_sdk_or_a_database_driver() -> None:
    for asked in ("import nightbatch", "from nightbatch.cli import app; app(['--help'], standalone_mode=False)"):
        code = f"import sys; {asked}; print([name for name in {HEAVY} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", asked


def test_what_happened_to_a_database_is_said_by_a_person(run: CliRunner, dsn: str) -> None:
    assert run.invoke(app, ["identify"]).stdout == "This database is where it was.\n"
    refused = run.invoke(app, ["identify", "--moved", "--reason", "a larger server"])
    assert (refused.exit_code, "nothing to say of it" in refused.stderr) == (1, True)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE nightbatch.installation SET system_identifier = 1")
    told = run.invoke(app, ["identify"])
    assert (told.exit_code, "it is on another server than before" in told.stderr) == (1, True)
    assert [line.partition(":")[0] for line in told.stdout.splitlines()] == [
        f"nightbatch identify --{what}" for what in ("moved", "restored", "copy")
    ]
    assert "nightbatch identify" in run.invoke(app, ["doctor"]).stdout
    both = run.invoke(app, ["identify", "--moved", "--copy"])
    assert (both.exit_code, "Choose one" in both.stderr) == (2, True)
    said = json.loads(run.invoke(app, ["identify", "--copy", "--reason", "staging", "--json"]).stdout)
    assert said["said"] == "copy" and "an installation of its own" in said["told"]
    assert run.invoke(app, ["identify"]).exit_code == 0
    assert run.invoke(app, ["doctor"]).exit_code == 0


def test_the_queue_is_priced_before_anything_is_sent(run: CliRunner, tmp_path: Path) -> None:
    assert run.invoke(app, ["estimate"]).stdout == "Nothing is due, or the budgets have no room for it.\n"
    path = tmp_path / "jobs.jsonl"
    unpriced = GOOD.replace('"input"', '"model": "nobody-knows-it", "input"')
    path.write_text("\n".join([GOOD] * 1000 + [GOOD.replace("openai", "gemini"), unpriced]))
    run.invoke(app, ["enqueue", str(path)])
    told = json.loads(run.invoke(app, ["estimate", "--json"]).stdout)
    assert (told["jobs"], told["unpriced"]) == (1002, 1)
    low, high = (float(usd) for usd in told["batch_usd"])
    assert 0 < low < high < float(told["realtime_usd"][1])
    shown = run.invoke(app, ["estimate", "--providers", "openai"])
    assert "1,001" in shown.stdout
    assert "unpriced" in shown.stdout
    assert "gemini" not in shown.stdout
    past = ["estimate", "--from-day", "2026-01-01", "--to-day", "2026-01-07"]
    assert json.loads(run.invoke(app, [*past, "--to-model", "gpt-6-sol", "--json"]).stdout)["jobs"] == 0
    done = run.invoke(app, past)
    assert (done.exit_code, "Say what is to change" in done.stderr) == (1, True)


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
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"new": 1, "known": 0, "rejected": [], "bad": []})


def queued(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM nightbatch.job").fetchone()
    assert row is not None
    return int(row[0])


def test_a_check_tells_and_inserts_nothing(run: CliRunner, dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(f"{GOOD}\n")
    good = run.invoke(app, ["enqueue", str(path), "--check"])
    assert (good.exit_code, good.stdout) == (0, "1 jobs would be queued, 0 bad lines left out.\n")
    path.write_text(f"{GOOD}\n{GOOD.replace('headline', 'headlin')}\n")
    bad = run.invoke(app, ["enqueue", str(path), "--check"], env={"NIGHTBATCH_DSN": None})
    assert (bad.exit_code, bad.stdout) == (1, "1 jobs would be queued, 1 bad lines left out.\n")
    assert bad.stderr == "jobs.jsonl:2: headlin: there is no such member; headline was probably meant\n"
    assert queued(dsn) == 0


def test_all_or_nothing_queues_nothing_for_one_bad_line(run: CliRunner, dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(f"{GOOD}\nnonsense\n")
    done = run.invoke(app, ["enqueue", str(path), "--all-or-nothing"])
    assert (done.exit_code, done.stdout) == (1, "0 jobs queued, 1 bad lines, so nothing was queued.\n")
    assert done.stderr.startswith("jobs.jsonl:2: not a JSON object")
    assert queued(dsn) == 0


def test_a_file_again_queues_nothing_unless_it_is_asked_for(run: CliRunner, dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(f"{GOOD}\n{GOOD}\n")
    assert run.invoke(app, ["enqueue", str(path)]).stdout == "2 jobs queued, 0 bad lines left out.\n"
    known = "0 jobs queued, 2 were queued before (--again queues them anew), 0 bad lines left out.\n"
    assert run.invoke(app, ["enqueue", str(path)]).stdout == known
    assert run.invoke(app, ["enqueue", str(path), "--again"]).stdout == "2 jobs queued, 0 bad lines left out.\n"
    assert queued(dsn) == 4


def test_a_batch_file_of_geminis_needs_a_model(run: CliRunner, dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    path.write_text('{"key": "a", "request": {"contents": []}}\n')
    assert "say which one by --model" in run.invoke(app, ["enqueue", str(path)]).stderr
    assert run.invoke(app, ["enqueue", str(path), "--model", "gemini-3.5-flash-lite"]).exit_code == 0
    assert queued(dsn) == 1


def test_a_file_that_there_is_not_is_wrong_usage(run: CliRunner, dsn: str, tmp_path: Path) -> None:
    for file in (tmp_path / "none.jsonl", tmp_path):
        done = run.invoke(app, ["enqueue", str(file)])
        assert (done.exit_code, done.stderr) == (2, f"nightbatch: {file} is no file.\n")
    stored = run.invoke(app, ["enqueue", f"file://{tmp_path}/none.jsonl"])
    assert (stored.exit_code, "is no file" in stored.stderr) == (1, True)


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


@pytest.fixture
def held(dsn: str) -> int:
    """An attempt of one job that nothing but a person can settle."""
    with open_store(dsn) as store:
        store.insert_job("creative_scoring", "anthropic", '{"headline": "One"}')
        (batch,) = submission.plan_run(
            store, job_types(), Settings(), run_id="r1", queued_before=None, params=RunParams()
        )
        store.bind_account(batch.id, "an account")
        store.record_hash(batch, "a hash", b"8 bytes.")
        uploaded = store.record_upload(store.batch(batch.id), None)
        assert uploaded is not None
        intent = store.record_intent(uploaded)
        assert intent is not None
        store.record_held(intent, "Nobody knows whether Anthropic has it.")
    return batch.id


def test_the_doctor_lists_an_attempt_with_what_is_known_what_follows_and_the_choices(run: CliRunner, held: int) -> None:
    done = run.invoke(app, ["doctor"])
    assert done.exit_code == 1
    told = " ".join(done.stdout.split())
    assert f"Batch {held} (1 jobs, anthropic, " in told
    assert "Known: Nobody knows whether Anthropic has it." in told
    assert "By itself: nightbatch_recover looks for it" in told
    for choice in ("--adopt ID", "--resend", "--drop"):
        assert f"You may: nightbatch release {held} {choice}: " in told
    (attempt,) = json.loads(run.invoke(app, ["doctor", "--json"]).stdout)["attempts"]
    assert (attempt["batch_id"], attempt["state"], sorted(attempt["choices"])) == (
        held, "held", ["adopt", "drop", "resend"],
    )  # fmt: skip


def test_a_release_is_done_and_recorded(run: CliRunner, dsn: str, held: int) -> None:
    done = run.invoke(app, ["release", str(held), "--resend", "--by", "ann", "--reason", "not in the console"])
    assert (done.exit_code, done.stdout) == (0, f"Batch {held} is released: its 1 jobs go with the next run.\n")
    assert run.invoke(app, ["doctor"]).exit_code == 0
    with open_store(dsn) as store:
        row = store.connection.execute("SELECT choice, decided_by, reason FROM nightbatch.decision").fetchone()
    assert row == ("resend", "ann", "not in the console")


@pytest.mark.parametrize("choice", ["resend", "drop"])
def test_a_dry_run_tells_what_a_release_costs_as_the_api_does(
    run: CliRunner, dsn: str, held: int, choice: Literal["resend", "drop"]
) -> None:
    command = ["release", str(held), f"--{choice}", "--dry-run"]
    told = json.loads(run.invoke(app, [*command, "--json"]).stdout)
    with open_store(dsn) as store:
        message, price = cost_preview.of_releasing(store, job_types(), held, choice)
        assert store.connection.execute("SELECT FROM nightbatch.decision").fetchall() == []
        assert store.batch(held).state == "held"
    assert told == {"batch_id": held, "choice": choice, "told": message, "price_usd": f"{price:f}"}
    assert run.invoke(app, command).stdout == f"{message}\n"


def test_a_dry_run_tells_what_cancelling_a_batch_costs(run: CliRunner, dsn: str, held: int) -> None:
    adopted = run.invoke(app, ["release", str(held), "--adopt", "msgbatch_1", "--reason", "found it"])
    assert adopted.exit_code == 0
    told = json.loads(run.invoke(app, ["cancel", str(held), "--dry-run", "--json"]).stdout)
    with open_store(dsn) as store:
        message, price = cost_preview.of_cancelling(store, job_types(), held)
        assert store.batch(held).cancel_wanted_at is None
    assert told == {"batch_id": held, "told": message, "price_usd": f"{price:f}"}
    assert run.invoke(app, ["cancel", "--job", "1", "--dry-run"]).exit_code == 2


@pytest.mark.parametrize("choices", [[], ["--resend", "--drop"]])
def test_a_release_without_one_choice_explains_them_and_does_nothing(
    run: CliRunner, held: int, choices: list[str]
) -> None:
    done = run.invoke(app, ["release", str(held), *choices, "--reason", "?"])
    assert done.exit_code == 2
    assert "paid for twice" in " ".join(done.stderr.split())
    assert run.invoke(app, ["doctor"]).exit_code == 1


def test_what_cannot_be_decided_is_told(run: CliRunner, held: int) -> None:
    done = run.invoke(app, ["cancel", str(held), "--reason", "?"])
    assert done.exit_code == 1
    assert "only one that is with its provider can be cancelled" in " ".join(done.stderr.split())
    assert run.invoke(app, ["release", "999", "--drop", "--reason", "?"]).exit_code == 1


@pytest.mark.parametrize(
    "command",
    [["migrate"], ["status"], ["status", "--watch"], ["results"], ["report"], ["doctor"], ["alerts"], ["estimate"]],
)
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


def test_a_request_is_shown_with_what_is_known_of_the_one_that_was_sent(run: CliRunner, held: int) -> None:
    shown = run.invoke(app, ["request", "1"])
    assert shown.exit_code == 1, "its hash is none of this request"
    assert '"custom_id":"j1_a1_' in shown.stdout
    assert shown.stderr == (
        "Job 1 in batch 1: Not as it was sent: its job type, its media or the adapter have changed since.\n"
    )
    told = json.loads(run.invoke(app, ["request", "1", "--batch", str(held), "--json"]).stdout)
    assert (told["job_id"], told["batch_id"], told["as_sent"]) == (1, 1, False)
    assert json.loads(told["line"])["params"]["messages"]
    assert "is in no batch 7" in run.invoke(app, ["request", "1", "--batch", "7"]).stderr

"""Nights at the command line: watched while they run, reported, exported, and what failed asked for again."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nightbatch import reporting
from nightbatch.cli import app
from nightbatch.postgres.store import open_store
from nightbatch.reporting import stats
from tests.acceptance.cli import NIGHTBATCH, SECONDS, at_terminal, environment, piped
from tests.use_cases.conftest import World, emulator, world

__all__ = ["emulator", "world"]

FORMULA = '=HYPERLINK("x")'


@pytest.fixture
def run(dsn: str) -> CliRunner:
    return CliRunner(env={"NIGHTBATCH_DSN": dsn})


def shown(run: CliRunner, *words: str) -> Any:
    done = run.invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_report_has_the_figures_of_the_night_and_of_its_days_in_every_format(
    world: World, run: CliRunner, tmp_path: Path
) -> None:
    world.insert("openai", 3)
    world.night("r1")
    world.insert("gemini", 2)
    world.night("r2")
    today = stats.last_days(world.store, 1)
    ranges = (["--last", "1"], ["--from-day", f"{today.since}"], ["--to-day", f"{today.until}"])
    expected = json.loads(json.dumps(reporting.to_json(reporting.range_report(world.store, today))))
    assert [shown(run, "report", *words) for words in ranges] == [expected] * 3
    assert (shown(run, "report")["run_id"], shown(run, "report", "r1")["jobs"]) == ("r2", 3)
    assert shown(run, "report", "r1", "r2")["savings_usd"] == expected["savings_usd"]
    for ending in ("json", "md", "csv", "html"):
        path = tmp_path / f"report.{ending}"
        done = run.invoke(app, ["report", "--last", "1", "--output", str(path)])
        assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"The report is in {path}.\n")
        wanted = {"md": "markdown"}.get(ending, ending)
        assert path.read_text(encoding="utf-8").splitlines() == (
            run.invoke(app, ["report", "--last", "1", "--format", wanted]).stdout.splitlines()
        )
    assert json.loads((tmp_path / "report.json").read_text()) == expected
    assert sorted(tmp_path.iterdir()) == sorted(tmp_path.glob("report.*"))  # no draft is left


def test_a_file_that_cannot_be_written_leaves_the_old_one(run: CliRunner, world: World, tmp_path: Path) -> None:
    world.insert("openai", 1)
    world.night("r1")
    done = run.invoke(app, ["report", "--output", str(tmp_path / "nowhere" / "r.json")])
    assert (done.exit_code, "cannot be written: No such file" in done.stderr) == (2, True)
    path = tmp_path / "all.csv"
    path.write_text("as it was")
    world.store.connection.execute("DROP TABLE nightbatch.result CASCADE")
    assert run.invoke(app, ["results", "--run", "r1", "--output", str(path)]).exit_code == 1
    assert [path.read_text(), *tmp_path.iterdir()] == ["as it was", path]


def test_results_of_a_run_or_batch_are_written_whole(world: World, run: CliRunner, tmp_path: Path) -> None:
    jobs = world.insert("openai", 150)  # of two batches, by the settings of these tests
    world.insert("gemini", 2, headline="[[emulator:misfit]]")
    _, first, second = world.night("r1")  # Gemini's comes first
    lines = tmp_path / "all.jsonl"
    assert run.invoke(app, ["results", "--run", "r1", "--output", str(lines)]).stderr.startswith("152 results written")
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert {row["job_id"] for row in rows} >= set(jobs)
    assert len(rows) == 152
    table = tmp_path / "all.csv"
    run.invoke(app, ["results", "--run", "r1", "--output", str(table)])
    with table.open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [(cell["job_id"], cell["batch_cost_usd"]) for cell in cells] == [
        (str(row["job_id"]), row["batch_cost_usd"]) for row in rows
    ]
    assert json.loads(cells[0]["output"]) == rows[0]["output"]
    one = run.invoke(app, ["results", "--batch", str(second.batch_id), "--limit", "3", "--json"]).stdout.splitlines()
    assert [json.loads(line)["batch_id"] for line in one] == [second.batch_id] * 3
    assert len(run.invoke(app, ["results", "--batch", str(first.batch_id), "--json"]).stdout.splitlines()) == 20
    assert run.invoke(app, ["results", "--run", "nope", "--output", str(table)]).exit_code == 1


def test_a_cell_that_is_a_formula_is_none_any_more(world: World, run: CliRunner) -> None:
    world.insert("openai", 1)
    world.night("r1")
    world.store.connection.execute(
        "UPDATE nightbatch.result SET outcome = 'failed', error = %s, output = NULL", [FORMULA]
    )
    (cells,) = csv.DictReader(run.invoke(app, ["results", "--format", "csv"]).stdout.splitlines())
    assert (cells["error"], cells["output"]) == (f"'{FORMULA}", "")


def test_status_tells_of_the_night_and_of_open_alerts(world: World, run: CliRunner) -> None:
    assert "No run was planned yet." in run.invoke(app, ["status"]).stdout
    world.insert("openai", 3)
    world.night("r1")
    world.store.raise_alert("backlog", "queue", "The queue is long.")
    told = shown(run, "status")
    assert (told["night"]["run"]["run_id"], told["night"]["jobs_back"], told["open_alerts"]) == ("r1", 3, 1)
    words = run.invoke(app, ["status"]).stdout
    assert "Latest run r1, planned at" in words
    assert "all of it is back; 3 jobs counted, 3 succeeded" in words
    assert "1 alert is open: see `nightbatch alerts`.\n" in words


@pytest.mark.parametrize("as_json", [False, True])
def test_a_running_night_is_followed_line_by_line_until_it_is_over(world: World, as_json: bool) -> None:
    world.insert("openai", 3)
    world.insert("gemini", 2)
    batches = world.plan("r1")
    watch = subprocess.Popen(
        [*NIGHTBATCH, "status", "--watch", "--every", "0.1", *(["--json"] if as_json else [])],
        env=environment(world.dsn), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watch.stdout is not None
    first = watch.stdout.readline()  # it looks on from here
    for batch in batches:
        world.submit_until_certain(batch)
        world.load(batch.id)
    rest = watch.stdout.readlines()
    assert watch.wait(SECONDS) == 0
    if as_json:
        nights = [json.loads(line) for line in (first, *rest)]
        assert (nights[0]["jobs_back"], nights[-1]["jobs_back"], nights[-1]["jobs_sent"]) == (0, 5, 5)
        assert {batch["state"] for batch in nights[-1]["batches"]} == {"loaded"}
        return
    assert "is planned after" in first
    for batch in batches:
        assert any(f"batch {batch.id} (" in line and "is loaded as" in line for line in rest)
    assert "5 of 5 jobs back" in rest[-2]
    assert rest[-1].startswith("Run r1: all of its 2 batches are closed; 5 jobs succeeded, 0 failed")


def test_a_terminal_shows_the_night_live_and_ctrl_c_ends_it_cleanly(world: World) -> None:
    world.insert("openai", 3)
    (batch,) = world.plan("r1")
    watch = subprocess.Popen(
        [*NIGHTBATCH, "status", "--watch", "--every", "0.1"],
        env=environment(world.dsn), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # tests in the background ignore it
    )  # fmt: skip
    assert watch.stdout is not None
    assert "is planned" in watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    assert (watch.wait(SECONDS), watch.communicate()[1]) == (130, "")
    world.submit_until_certain(batch)
    world.load(batch.id)
    code, screen = at_terminal(world.dsn, "status", "--watch")
    assert code == 0
    for text in ("Run r1 at ", "━━━━━", "3 of 3 jobs back", "typical", "gpt-6-luna", "all of its 1 batches are closed"):
        assert text in screen


def test_a_retry_tells_the_price_and_asks_first(world: World, run: CliRunner) -> None:
    world.insert("openai", 2, headline="[[emulator:misfit]]")
    (loaded,) = world.night("r1")
    batch = str(loaded.batch_id)
    refused = piped(world.dsn, "retry", batch, "--reason", "a better prompt")
    assert refused.returncode == 2
    assert "2 of them were billed before and are paid for again, at about 0.0" in refused.stderr
    assert "There is nobody to ask: agree with --yes." in refused.stderr
    code, screen = at_terminal(world.dsn, "retry", batch, "--reason", "a better prompt", typed="n\n")
    assert (code, "Nothing is sent again." in screen) == (1, True)
    code, screen = at_terminal(world.dsn, "retry", batch, typed="a better prompt\n\x04")
    assert (code, "Send them again? [y/N]: " in screen, "Abort" in screen) == (130, True, False)
    assert set(world.states().values()) == {"failed"}
    code, screen = at_terminal(world.dsn, "retry", batch, "--reason", "a better prompt", "--by", "ada", typed="y\n")
    assert (code, "2 jobs of batch" in screen) == (0, True)
    assert set(world.states().values()) == {"queued"}
    assert world.rows("SELECT choice, decided_by, reason FROM nightbatch.decision") == [
        ("retry", "ada", "a better prompt")
    ]
    again = run.invoke(app, ["retry", batch, "--reason", "x", "--yes"])
    assert (again.exit_code, "no job to send again" in again.stderr) == (1, True)


def test_a_retry_by_a_script_is_told_as_json(world: World, run: CliRunner) -> None:
    world.insert("openai", 2, headline="[[emulator:misfit]]")
    (loaded,) = world.night("r1")
    told = shown(run, "retry", str(loaded.batch_id), "--reason", "x", "--yes")
    assert (told["batch_id"], told["jobs"], told["paid_again"]) == (loaded.batch_id, 2, 2)
    assert float(told["price"]) > 0


def test_an_alert_is_listed_until_it_is_over_and_acknowledged_by_name(world: World, run: CliRunner) -> None:
    assert run.invoke(app, ["alerts"]).stdout == "Alerts: nothing.\n"
    world.store.raise_alert("overdue", "7", "Batch 7 is overdue.")
    (alert,) = shown(run, "alerts")["alerts"]
    assert (alert["kind"], alert["message"], alert["acknowledged_by"]) == ("overdue", "Batch 7 is overdue.", None)
    done = run.invoke(app, ["alerts", "--acknowledge", str(alert["id"]), "--by", "ann"])
    assert (done.exit_code, "is acknowledged" in done.stdout) == (0, True)
    assert "seen by ann" in run.invoke(app, ["alerts"]).stdout
    world.store.resolve_alert("overdue", "7")
    assert run.invoke(app, ["alerts"]).stdout == "Alerts: nothing.\n"
    assert "resolved 20" in run.invoke(app, ["alerts", "--all"]).stdout
    assert shown(run, "alerts", "--all")["alerts"][0]["acknowledged_by"] == "ann"


def test_a_years_savings_are_told_with_and_without_a_database(world: World, run: CliRunner) -> None:
    words = ["calculate", "1000", "--job-type", "creative_scoring", "--model", "gpt-6-luna"]
    alone = CliRunner(env={"NIGHTBATCH_DSN": ""})
    told = alone.invoke(app, words)
    assert told.exit_code == 0
    assert told.stdout.startswith("1,000 calls a day of creative_scoring, by gpt-6-luna of openai:\n")
    assert "the job type's example" in told.stdout
    world.insert("openai", 3)
    world.night("r1")
    measured = shown(run, *words)
    assert measured["tokens_from"].startswith("the average of 3 answers")
    given = shown(alone, *words, "--input-tokens", "1000000", "--output-tokens", "0")
    assert given["tokens_from"] == "as given"
    assert float(given["savings_usd"]) == float(given["realtime_usd"]) / 2
    unknown = alone.invoke(app, [*words[:4], "--model", "nobody-knows-it", "--provider", "openai"])
    assert (unknown.exit_code, "nightbatch.price_override" in unknown.stdout) == (1, True)


def airflows_own(dsn: str, airflow: dict[str, str], *words: str) -> None:
    command = [NIGHTBATCH[0], "-m", "airflow", *words]
    subprocess.run(command, env=environment(dsn, **airflow), capture_output=True, check=True, timeout=SECONDS)


def test_a_run_is_started_in_airflow_with_what_was_asked_for(dsn: str, tmp_path: Path) -> None:
    airflow = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[2] / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
    }
    told = piped(dsn, "run", **airflow)
    assert told.returncode == 1
    assert told.stderr.startswith("nightbatch: Airflow did not start the Dag: Database migration required.")
    airflows_own(dsn, airflow, "db", "migrate")
    told = piped(dsn, "run", "--json", **airflow)
    assert told.returncode == 1
    why = json.loads(told.stderr)["error"]  # not Airflow's traceback
    assert why.startswith("Airflow did not start the Dag: Dag id nightbatch not found in DagModel")
    airflows_own(dsn, airflow, "dags", "reserialize")
    with open_store(dsn) as store:
        ids = [store.insert_job("raw", "openai", "{}") for _ in range(2)]
    wanted = ",".join(map(str, ids))
    words = ["--providers", "openai", "--job-types", "raw", "--job-ids", wanted, "--max-jobs", "5", "--dry-run"]
    told = piped(dsn, "run", *words, "--json", **airflow)
    started = json.loads(told.stdout)
    assert started["run_id"].startswith("manual__")
    assert (started["state"], started["conf"]) == ("queued", {
        "providers": ["openai"], "job_types": ["raw"], "job_ids": ids, "max_jobs": 5, "dry_run": True,
    })  # fmt: skip
    told = piped(dsn, "run", **airflow)
    assert (told.returncode, told.stdout.startswith("Run manual__")) == (0, True)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--job-ids", "999999"), "There is no job 999999."),
        (("--job-types", "creative_scorin"), "There is no job type creative_scorin"),
        (("--providers", "mistral"), "There is no provider mistral"),
    ],
)
def test_a_run_for_what_there_is_not_is_refused_before_airflow_is_asked(
    dsn: str, words: tuple[str, str], why: str
) -> None:
    told = piped(dsn, "run", *words, PATH="/nowhere")
    assert told.returncode and why in told.stderr

"""What the command line writes can be read by a person, a program and a pipe; so can its errors."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nightbatch.cli import app
from nightbatch.core.ledger import RunParams
from nightbatch.postgres.store import open_store
from tests.acceptance.cli import NIGHTBATCH, at_terminal, environment, piped

LONG = "a-model-with-a-name-that-no-screen-of-eighty-columns-has-room-for-" + "x" * 120


def plan(dsn: str, run_id: str = "r1") -> None:
    with open_store(dsn) as store, store.transaction():
        store.start_run(run_id, None, RunParams())


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["status", "--watch"], ["report"], ["doctor"]])
def test_a_reader_that_has_gone_away_ends_a_command_without_a_word(dsn: str, words: list[str]) -> None:
    plan(dsn)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*NIGHTBATCH, *words], env=environment(dsn), stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_in_a_pipe_nothing_is_cut_wrapped_framed_or_coloured(dsn: str) -> None:
    plan(dsn, LONG)
    with open_store(dsn) as store:
        store.raise_alert("held", "7", f"Batch 7 is {LONG}.")
    for words in (["status"], ["alerts"], ["doctor"], ["report"]):
        done = piped(dsn, *words)
        assert any(LONG in line for line in done.stdout.splitlines()), words
        assert not set(done.stdout) & set("\x1b│╭─"), words


def test_colours_and_frames_are_for_a_terminal_without_no_color(dsn: str) -> None:
    plan(dsn)
    code, shown = at_terminal(dsn, "report")
    assert code == 0
    assert "╭" in shown
    assert "\x1b[" in shown
    code, shown = at_terminal(dsn, "report", NO_COLOR="1")
    assert code == 0
    assert "Saved $0.00" in shown
    assert not set(shown) & set("\x1b│╭")


def test_on_a_narrow_terminal_ids_are_wrapped_and_not_cut(dsn: str) -> None:
    with open_store(dsn) as store:
        store.raise_alert("backlog", LONG, "The queue is long.")
    shown = at_terminal(dsn, "alerts")[1]
    assert "…" not in shown
    assert shown.count("x") >= 120


def test_a_text_from_outside_cannot_move_the_cursor(dsn: str) -> None:
    with open_store(dsn) as store:
        store.raise_alert("held", "7", "Batch 7\x1b[2J\x9b31m is held.\r")
    for words in (["alerts"], ["doctor"]):
        code, shown = at_terminal(dsn, *words, NO_COLOR="1")
        assert code in (0, 1)
        assert "Batch 7�[2J�31m is held." in shown
        assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["report", "nope", "--json"], 1, "There is no run nope yet."),
        (["results", "--batch", "9", "--json"], 1, "There is no batch 9 in the ledger."),
        (["retry", "9", "--reason", "x", "--json"], 1, "There is no batch 9 in the ledger."),
        (["cancel", "9", "--reason", "x", "--json"], 1, "There is no batch 9 in the ledger."),
        (["alerts", "--acknowledge", "9", "--json"], 1, "There is no alert 9."),
        (["status", "--watch", "--json"], 1, "No run was planned yet."),
        (["report", "r1", "--last", "3", "--json"], 2, "Name runs or days, not both."),
        (
            ["report", "--last", "3", "--to-day", "2026-11-01", "--json"],
            2,
            "--last goes without --from-day and --to-day.",
        ),
        (["report", "--from-day", "2026-11-02", "--to-day", "2026-11-01", "--json"], 1, "give the first day first"),
        (["results", "--output", "all.csv", "--json"], 2, "Name the --run or the --batch"),
        (["results", "--output", "all.txt"], 2, "does not say its format"),
        (["estimate", "--providers", "opnai", "--json"], 2, "There is no provider opnai"),
        (["estimate", "--job-types", "scoring", "--json"], 2, "There is no job type scoring"),
        (["estimate", "--to-model", "gpt-6-sol", "--json"], 2, "go with --from-day"),
        (["run", "--job-ids", "1,x", "--json"], 2, "--job-ids takes ids"),
        (["run", "--job-ids", "0", "--json"], 2, "--job-ids takes ids"),
        (["cancel", "1", "--json"], 2, "There is nobody to ask: give --reason."),
        (["release", "1", "--drop", "--json"], 2, "There is nobody to ask: give --reason."),
        (["doctor", "--live", "--json"], 2, "--live writes its JSON to --output."),
        (["status", "--every", "3", "--json"], 2, "--every goes with --watch."),
    ],
)
def test_errors_are_told_on_stderr_with_their_exit_code(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner(env={"NIGHTBATCH_DSN": dsn}).invoke(app, words)
    assert (done.exit_code, done.stdout) == (code, "")
    told = json.loads(done.stderr)["error"] if "--json" in words else done.stderr
    assert why in told


def test_a_database_that_was_never_migrated_says_so(empty_dsn: str) -> None:
    for words in (["status"], ["results"], ["report"], ["doctor"], ["estimate"], ["alerts"]):
        done = CliRunner(env={"NIGHTBATCH_DSN": empty_dsn}).invoke(app, words)
        assert done.exit_code == 1, words
        assert "run `nightbatch migrate`" in done.stderr, words
    runner = CliRunner(env={"NIGHTBATCH_DSN": empty_dsn})
    assert json.loads(runner.invoke(app, ["migrate", "--json"]).stdout)["applied"][0].endswith(".sql")
    assert json.loads(runner.invoke(app, ["migrate", "--json"]).stdout) == {"applied": []}


def test_an_address_that_is_none_is_not_repeated_since_it_may_hold_a_password() -> None:
    for words in (["status"], ["migrate"]):
        done = CliRunner(env={"NIGHTBATCH_DSN": "postgresql//someone:canary-4711@db/nightbatch"}).invoke(app, words)
        assert done.exit_code == 1
        assert "NIGHTBATCH_DSN is no address" in done.stderr
        assert "canary" not in done.output


def test_a_role_that_may_not_is_told_so(dsn: str) -> None:
    as_reporter = f"{dsn}?options=-c%20role%3Dnightbatch_reporter"
    done = CliRunner(env={"NIGHTBATCH_DSN": as_reporter}).invoke(app, ["results"])
    assert done.exit_code == 1
    assert "may not do this (permission denied" in done.stderr

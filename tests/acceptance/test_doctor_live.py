"""`nightbatch doctor --live` as a person uses it, the emulator in the providers' place."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from nightbatch.cli import app
from nightbatch.cli.live import run_live
from nightbatch_local.emulator.process import EmulatorProcess

SECONDS = 240


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), turnaround=0.5) as running:
        yield running


class Told(NamedTuple):
    """What a command said, and how it ended."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Person:
    """Somebody at a terminal, or a script without one, in a folder of their own."""

    emulator: EmulatorProcess
    folder: Path
    account: str = field(default_factory=lambda: uuid.uuid4().hex[:10])

    @property
    def environment(self) -> dict[str, str]:
        key = f"emu-{self.account}.canary4711"
        return {name: value for name, value in os.environ.items() if not name.startswith("NIGHTBATCH_")} | {
            "OPENAI_API_KEY": key,
            "ANTHROPIC_API_KEY": key,
            "GEMINI_API_KEY": key,
            "OPENAI_BASE_URL": self.emulator.openai_url,
            "ANTHROPIC_BASE_URL": self.emulator.anthropic_url,
            "GOOGLE_GEMINI_BASE_URL": self.emulator.gemini_url,
        }

    def script(self, *options: str, **changed: str) -> Told:
        """Standard input is no terminal. In this process: each start would import all SDKs again."""
        gone = {name: None for name in os.environ if name.startswith("NIGHTBATCH_")}
        with contextlib.chdir(self.folder):
            done = CliRunner().invoke(app, ["doctor", "--live", *options], env=gone | self.environment | changed)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Told(done.exit_code, done.stdout, done.stderr)

    def terminal(self, answer: str, *options: str) -> Told:
        """Types the answer on a terminal, to a process of its own."""
        mine, theirs = pty.openpty()
        try:
            os.write(mine, f"{answer}\n".encode())
            return self.started(*options, stdin=theirs)
        finally:
            os.close(mine)
            os.close(theirs)

    def started(self, *options: str, stdin: int = subprocess.DEVNULL) -> Told:
        """A process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "nightbatch.cli", "doctor", "--live", *options],
            cwd=self.folder,
            env=self.environment,
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Told(done.returncode, done.stdout, done.stderr)

    def requests(self) -> list[str]:
        """Everything that reached a provider."""
        return [f"{seen['provider']} {seen['operation']}" for seen in self.emulator.log() if self._mine(seen)]

    def _mine(self, seen: dict[str, Any]) -> bool:
        return bool(seen["account"] == self.account)


@pytest.fixture
def person(emulator: EmulatorProcess, tmp_path: Path) -> Person:
    return Person(emulator, tmp_path)


def test_without_a_terminal_or_yes_the_price_is_shown_and_not_one_request_goes_out(person: Person) -> None:
    done = person.started()
    assert done.returncode == 2, done.stderr
    assert "Together at most $0.0" in done.stderr
    assert "Nothing was sent: there is nobody to ask." in done.stderr
    assert person.requests() == []
    assert list(person.folder.iterdir()) == []


@pytest.mark.parametrize("answer", ["n", ""])
def test_a_no_sends_nothing(person: Person, answer: str) -> None:
    done = person.terminal(answer)
    assert done.returncode == 0, done.stderr
    assert "Send it?" in done.stderr and done.stderr.rstrip().endswith("Nothing was sent.")
    assert person.requests() == []
    assert list(person.folder.iterdir()) == []


def test_a_yes_asks_all_three_and_writes_what_it_saw(person: Person) -> None:
    done = person.terminal("y")
    assert done.returncode == 0, done.stdout + done.stderr
    requests = person.requests()
    creates = {name: requests.count(f"{name} batch_create") for name in ("openai", "anthropic", "gemini")}
    assert creates == {"openai": 3, "anthropic": 2, "gemini": 3}  # the fence's among them, which are refused
    text = (person.folder / "nightbatch-live.json").read_text()
    assert "canary4711" not in text + done.stdout + done.stderr
    checks = {name: part["checks"] for name, part in json.loads(text)["providers"].items()}
    assert [checks[name]["listed"]["as_assumed"] for name in checks] == [True, True, True]
    assert [checks[name]["fence"]["as_assumed"] for name in checks] == [True, None, True]
    for part in checks.values():
        for check in part.values():
            assert check["question"] in done.stdout
    assert "what is seen there proves nothing about openai" in done.stdout


def test_the_same_command_again_goes_on_with_the_file_and_pays_nothing(person: Person) -> None:
    first = person.script("--yes", "--minutes", "0")
    assert "still running: run the same command again" in first.stdout, first.stderr
    creates = sum("batch_create" in request for request in person.requests())
    again = person.script()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "still running" not in again.stdout
    assert sum("batch_create" in request for request in person.requests()) == creates
    found = json.loads((person.folder / "nightbatch-live.json").read_text())
    assert {part["batches"][0]["ended"]["with_usage"] for part in found["providers"].values()} == {2}


def test_a_fence_that_does_not_hold_ends_with_1(person: Person) -> None:
    person.emulator.fault("openai", "file_delete", "refuse", status=404, times=None, account=person.account)
    done = person.script("--yes", ANTHROPIC_API_KEY="", GEMINI_API_KEY="none")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "[NOT AS ASSUMED] Is a create refused once its input file is deleted?" in done.stdout
    assert "THE FENCE DOES NOT HOLD" in done.stdout


def test_a_provider_without_a_key_is_left_out_and_one_with_a_refused_key_told(person: Person) -> None:
    person.emulator.control("POST", "keys/revoke", {"key": "emu-revoked"})
    done = person.script("--yes", OPENAI_API_KEY="emu-revoked", GEMINI_API_KEY="")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "gemini: no key in GEMINI_API_KEY or GOOGLE_API_KEY, so it is left out." in done.stderr
    assert "[trouble]" in done.stdout
    found = json.loads((person.folder / "nightbatch-live.json").read_text())
    assert found["providers"]["openai"]["trouble"]["status"] == 401
    assert found["providers"]["anthropic"]["checks"]["ended"]["as_assumed"] is True
    assert {request.split()[0] for request in person.requests()} == {"anthropic"}


def test_without_any_key_it_says_what_to_set(person: Person) -> None:
    done = person.script(OPENAI_API_KEY="", ANTHROPIC_API_KEY="", GEMINI_API_KEY="")
    assert done.returncode == 1
    assert "There is no key: set OPENAI_API_KEY" in done.stderr


@pytest.mark.parametrize("model", ["gpt-5-nano", "mistral=large", "openai=emulator-nothing"])
def test_a_model_that_cannot_be_used_is_named_before_anything_is_sent(person: Person, model: str) -> None:
    done = person.script("--yes", "--model", model)
    assert done.returncode == 1
    assert "--model" in done.stderr
    assert person.requests() == []


def test_nothing_is_sent_to_anthropic_while_a_create_is_in_doubt_there(person: Person) -> None:
    output = person.folder / "seen.json"
    run_live(output=output, minutes=0, yes=True, in_doubt={"anthropic"}, environ=person.environment)
    assert {request.split()[0] for request in person.requests()} == {"openai", "gemini"}

"""What survives, what time does, and that nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anthropic
import openai
import psutil
import pytest
from google.genai import errors

from nightbatch_local.emulator.process import EmulatorProcess
from nightbatch_local.emulator.settings import EmulatorSettings
from tests.emulator.support import Account, chat_line, claude_request, gemini_line, wait_for

DAY = 86400


def test_files_and_batches_survive_a_kill(own_emulator: EmulatorProcess) -> None:
    port = own_emulator.port
    with Account(own_emulator, "keeper") as account:
        batch = account.send([chat_line("a")], metadata={"tag": "t"})
        file = account.upload_gemini([gemini_line("k")], "files/kept")
        own_emulator.restart()
        assert own_emulator.port == port
        assert account.openai.batches.retrieve(batch.id).metadata == {"tag": "t"}
        assert account.openai.files.content(batch.input_file_id).content
        assert account.gemini.files.get(name="files/kept").sha256_hash == file.sha256_hash


def test_an_open_batch_ends_after_a_restart(own_emulator: EmulatorProcess) -> None:
    with Account(own_emulator, "keeper") as account:
        batch = account.send([chat_line("a")])
        own_emulator.restart()
        own_emulator.control("POST", f"batches/{batch.id}/end", {"as": "completed"})
        assert account.ended(batch.id).status == "completed"


@pytest.mark.parametrize("ending", ["completed", "failed", "expired", "cancelled"])
def test_a_control_call_ends_a_batch_in_any_way(own_emulator: EmulatorProcess, ending: str) -> None:
    with Account(own_emulator, f"ends-{ending}") as account:
        chat, gemini = account.send([chat_line("a"), chat_line("b")]).id, account.send_gemini([gemini_line("g")])
        claude = account.send_claude([claude_request("c")])
        for batch_id in (chat, gemini, claude):
            own_emulator.control("POST", f"batches/{batch_id}/end", {"as": ending})
        assert account.ended(chat).status == ending
        state = "SUCCEEDED" if ending == "completed" else ending.upper()
        assert account.gemini_ended(gemini)["metadata"]["state"] == f"BATCH_STATE_{state}"
        account.claude_ended(claude)
        kind = {"completed": "succeeded", "failed": "errored", "cancelled": "canceled"}.get(ending, ending)
        assert account.claude_results(claude)["c"].type == kind
        billed = {"completed": ["a", "b", "c", "g"], "failed": []}.get(ending, ["a"])
        assert account.billed_ids() == billed


def test_the_clock_takes_results_away_at_the_providers_times(own_emulator: EmulatorProcess) -> None:
    with Account(own_emulator, "late") as account:
        chat, claude = account.send([chat_line("a")]).id, account.send_claude([claude_request("c")])
        gemini = account.send_gemini([gemini_line("g")])
        uploaded = account.upload_gemini([gemini_line("g")], "files/short-lived").name
        own_emulator.control("POST", "turnaround", {"seconds": 0})
        output = account.ended(chat).output_file_id
        account.claude_ended(claude)
        account.gemini_ended(gemini)
        own_emulator.control("POST", "clock", {"advance": 28 * DAY})
        with pytest.raises(errors.ClientError, match="404"):
            account.gemini.files.get(name=uploaded or "")
        assert account.claude_results(claude)
        own_emulator.control("POST", "clock", {"advance": 1.5 * DAY})
        archived = account.anthropic.messages.batches.retrieve(claude)
        assert (archived.results_url, archived.archived_at is None) == (None, False)
        with pytest.raises(anthropic.AnthropicError):
            account.claude_results(claude)
        assert account.lines_of(output)
        own_emulator.control("POST", "clock", {"advance": DAY})
        with pytest.raises(openai.NotFoundError):
            account.lines_of(output)


def test_a_batch_that_is_too_slow_expires_with_what_is_done(own_emulator: EmulatorProcess) -> None:
    own_emulator.control("POST", "turnaround", {"seconds": 2 * DAY})
    with Account(own_emulator, "slow") as account:
        chat = account.send([chat_line(f"j{i}") for i in range(4)]).id
        own_emulator.control("POST", "clock", {"advance": DAY + 1})
        assert account.ended(chat).status == "expired"
        assert account.billed_ids() == ["j0", "j1"]


def test_only_loopback_is_served(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="loopback"):
        EmulatorSettings(state=tmp_path, host="0.0.0.0")


def test_the_emulator_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom nightbatch_local.emulator.process import EmulatorProcess\n"
        "emulator = EmulatorProcess(sys.argv[1])\nemulator.start()\n"
        "print(emulator._child.pid, flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: psutil.pid_exists(child), lambda alive: not alive)
    parent.stdout.close()

"""The official Airflow operators, unchanged, against the emulator: an independent reading of the same APIs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.emulator.support import CHAT, Account, chat_line, claude_request

_SCRIPT = """
import json, sys
from unittest.mock import MagicMock
from airflow.providers.anthropic.hooks.anthropic import AnthropicHook
from airflow.providers.anthropic.operators.batch import AnthropicBatchOperator
from airflow.providers.openai.hooks.openai import OpenAIHook
from airflow.providers.openai.operators.openai import OpenAITriggerBatchOperator

given = json.loads(sys.argv[1])
context = {"ti": MagicMock()}  # the operators only push a batch id to XCom through it
file = OpenAIHook("openai_default").upload_file(given["file"], purpose="batch")
openai_id = OpenAITriggerBatchOperator(
    task_id="o", file_id=file.id, endpoint=given["endpoint"], wait_seconds=0.1, timeout=30, metadata={"tag": "airflow"}
).execute(context)
anthropic_id = AnthropicBatchOperator(
    task_id="a", requests=given["requests"], poll_interval=0.1, timeout=30, fail_on_partial_error=True
).execute(context)
results = {r.custom_id: r.result.type for r in AnthropicHook("anthropic_default").stream_batch_results(anthropic_id)}
print("found:" + json.dumps({"openai": openai_id, "anthropic": anthropic_id, "results": results}))
"""


def run_operators(account: Account, home: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Runs both operators in a process of their own, with connections from the environment."""
    urls = {"OPENAI": account.emulator.openai_url, "ANTHROPIC": account.emulator.anthropic_url}
    connections = {
        f"AIRFLOW_CONN_{name}_DEFAULT": json.dumps({"conn_type": name.lower(), "host": url, "password": account.key})
        for name, url in urls.items()
    }
    environment = {**os.environ, **connections, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    command = [sys.executable, "-c", _SCRIPT, json.dumps(given)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    found = [line.removeprefix("found:") for line in run.stdout.splitlines() if line.startswith("found:")]
    assert found, run.stdout + run.stderr
    return dict(json.loads(found[0]))


def test_the_official_operators_run_unchanged(account: Account, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(json.dumps(chat_line(f"j{i}")) for i in range(3)))
    given = {"file": str(source), "endpoint": CHAT, "requests": [claude_request("c1"), claude_request("c2")]}
    found = run_operators(account, tmp_path / "airflow", given)
    batch = account.openai.batches.retrieve(found["openai"])
    assert (batch.status, batch.metadata) == ("completed", {"tag": "airflow"})
    assert found["results"] == {"c1": "succeeded", "c2": "succeeded"}
    assert account.billed_ids() == ["c1", "c2", "j0", "j1", "j2"]

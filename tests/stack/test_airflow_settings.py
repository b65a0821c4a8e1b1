"""What a stack's Airflow imports before anything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nightbatch_local.stack import environment

CODE = """
import os, sys
import airflow_local_settings
before = "nightbatch.batches.submission" in sys.modules
if os.fork() == 0:
    os._exit(0)
os.wait()
print(before, "nightbatch.batches.submission" in sys.modules)
"""


@pytest.mark.parametrize(("component", "seen"), [("scheduler", "False True"), ("triggerer", "False False")])
def test_the_scheduler_has_imported_what_its_tasks_need_before_it_forks(
    component: str, seen: str, tmp_path: Path
) -> None:
    told = subprocess.run(
        [sys.executable, "-c", CODE, component],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": environment.AIRFLOW_SETTINGS, "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout.strip().endswith(seen), told.stderr

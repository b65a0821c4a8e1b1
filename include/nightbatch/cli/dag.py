"""Ask Airflow's own command to start the Dag."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from nightbatch.core.errors import NightbatchError

_RAISED = re.compile(r"[A-Za-z_][\w.]*: (.+)")
_LOGGED = re.compile(r"\S+ \[\w+ *\] (.+?) +\[[\w.]+\]")


def start(conf: Mapping[str, Any]) -> dict[str, Any]:
    """Start a run, and return its ``run_id``, ``state`` and ``conf``.

    Raises `NightbatchError`, with Airflow's reason, if there is none.
    """
    command = [sys.executable, "-m", "airflow", "dags", "trigger", "nightbatch", "--output", "json", "--conf"]
    done = subprocess.run([*command, json.dumps(conf)], capture_output=True, text=True, check=False)
    if done.returncode:
        why = _last_words(done.stderr) or _last_words(done.stdout)
        raise NightbatchError(
            f"Airflow did not start the Dag: {why} (It is asked as `airflow` in this environment, with its AIRFLOW_HOME.)"
        )
    row = _row(done.stdout)
    return {"run_id": row["dag_run_id"], "state": row["state"], "conf": conf}


def _row(text: str) -> dict[str, Any]:
    """Return the row that Airflow prints; its log may stand before it."""
    for line in reversed(text.splitlines()):
        if line.startswith("[{"):
            (row,) = json.loads(line)
            return dict(row)
    raise NightbatchError(f"Airflow did not say which run it started: {_last_words(text) or 'nothing'}")


def _last_words(text: str) -> str:
    """Return the exception that a traceback ends with, which may go on for lines; else the last line of the log."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if raised := [found for line in lines if (found := _RAISED.match(line))]:
        return raised[-1][1]
    logged = _LOGGED.match(lines[-1]) if lines else None
    return logged[1] if logged else "".join(lines[-1:])

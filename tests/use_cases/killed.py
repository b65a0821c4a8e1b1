"""A process that is killed in the middle of its work; `run` starts one, and says how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

from nightbatch import loading, submission
from nightbatch.job_types import job_types
from nightbatch.postgres.store import Store, open_store
from nightbatch.providers import build
from nightbatch.settings import Settings

Work = Literal["submit", "load"]


def run(work: Work, batch_id: int, *, dsn: str, provider: str, key: str, url: str, **dies: str) -> int:
    """Do the work in a process of its own that dies by SIGKILL ``before`` or ``after`` that method; its return code."""
    order = {"work": work, "batch_id": batch_id, "dsn": dsn, "provider": provider, "key": key, "url": url, "dies": dies}
    command = [sys.executable, "-m", "tests.use_cases.killed"]
    return subprocess.run(command, input=json.dumps(order), text=True, timeout=120, check=False).returncode


def _arm(thing: Any, method: str, moment: str) -> None:
    whole: Callable[..., Any] = getattr(thing, method)

    def die(*args: Any, **kwargs: Any) -> None:
        if moment == "after":
            whole(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(thing, method, die)


def main() -> None:
    """Do as the JSON on standard input says."""
    order = json.load(sys.stdin)
    provider = build(order["provider"], api_key=order["key"], base_url=order["url"])
    with open_store(order["dsn"]) as store:
        for moment, method in order["dies"].items():
            _arm(store if hasattr(Store, method) else provider, method, moment)
        if order["work"] == "submit":
            submission.submit_batch(store, provider, job_types(), Settings.from_env(), order["batch_id"])
        else:
            loading.load_batch(store, provider, job_types(), order["batch_id"])


if __name__ == "__main__":
    main()

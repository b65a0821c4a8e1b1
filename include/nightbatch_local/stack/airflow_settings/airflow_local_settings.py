"""Settings that Airflow imports by this name: the scheduler forks its workers, so what tasks need is imported once, before.

A task of a night spends half of its time on imports otherwise. An installation of a team's own may do the same.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module

_NEEDED = (
    "airflow.providers.standard.decorators.python",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.sdk.definitions.decorators.setup_teardown",
    "genai_prices.data",
    "nightbatch.airflow.retries",
    "nightbatch.airflow.runs",
    "nightbatch.airflow.tasks",
    "nightbatch.batches.loading",
    "nightbatch.providers.anthropic",
    "nightbatch.providers.gemini",
    "nightbatch.providers.openai",
    "nightbatch.batches.recovery",
    "nightbatch.reporting.as_html",
    "nightbatch.batches.submission",
    "openai.resources.batches",
    "openai.resources.files",
)


@cache
def _import_once() -> None:
    for name in _NEEDED:
        import_module(name)


if "scheduler" in sys.argv:
    os.register_at_fork(before=_import_once)  # not now: Airflow itself is only half imported

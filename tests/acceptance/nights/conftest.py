"""One stack for every night that is played on real parts: starting it takes longer than most nights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nightbatch_local.stack import Stack
from tests.acceptance.calm import CALM
from tests.acceptance.nights.steps import control, turnaround
from tests.scratch import scratch

SETTINGS = CALM | {
    "NIGHTBATCH_MAX_BATCH_JOBS": "8",
    "NIGHTBATCH_POLL_SECONDS": "0.3",
    "NIGHTBATCH_POLL_MAX_SECONDS": "1",
    "NIGHTBATCH_SETTLE_SECONDS": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "8",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
}


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    with scratch() as folder, Stack(folder / "stack", settings=SETTINGS) as running:
        yield running


@pytest.fixture(autouse=True)
def all_is_well(stack: Stack) -> None:
    """Whatever the test before did, batches end after a second, and no provider does anything wrong."""
    turnaround(stack, 1)
    control(stack, "DELETE", "faults")

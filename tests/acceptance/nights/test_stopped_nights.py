"""Nights that a person stops half way, on real Airflow components: the batches live on, and recovery adopts them."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from nightbatch.core.errors import NightbatchError
from nightbatch_local.stack import Stack
from tests.acceptance.nights import steps as nights


@pytest.fixture
def waiting(stack: Stack, all_is_well: None) -> tuple[str, set[int]]:
    """A run whose batches are all with their providers: its id, and its jobs."""
    nights.turnaround(stack, 3600)
    jobs = nights.queue(stack, 2)
    run_id = stack.trigger("nightbatch")
    deadline = time.monotonic() + 120
    while set(seen := still_open(stack, run_id)) != {"submitted"}:
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)
    nights.wait_for_task(stack, run_id, "deferred", timeout=120)
    return run_id, jobs


def still_open(stack: Stack, run_id: str) -> list[str]:
    query = "SELECT state FROM nightbatch.batch WHERE run_id = %s AND closed_at IS NULL"
    return [state for (state,) in nights.sql(stack, query, (run_id,))]


def recover_until_loaded(stack: Stack, jobs: set[int]) -> None:
    """What comes every hour."""
    nights.turnaround(stack, 0.5)
    deadline = time.monotonic() + 180
    while set(nights.states(stack, jobs)) != {"succeeded"}:
        assert time.monotonic() < deadline, nights.states(stack, jobs)
        stack.wait_for_run("nightbatch_recover", stack.trigger("nightbatch_recover"))


@pytest.mark.fault(12, 13)
def test_a_run_marked_failed_leaves_batches_that_recovery_adopts(stack: Stack, waiting: tuple[str, set[int]]) -> None:
    run_id, jobs = waiting
    cancelled = nights.cancels(stack)
    mark_failed(stack, run_id)
    assert nights.end_of(stack, run_id) == "failed"
    recover_until_loaded(stack, jobs)
    nights.assert_all_came_out_once(stack, jobs)
    assert nights.cancels(stack) == cancelled


def mark_failed(stack: Stack, run_id: str) -> None:
    """As a person does it in the UI, who presses again when Airflow answers with an error: it and the scheduler deadlock."""
    for _ in range(5):
        with suppress(NightbatchError):
            stack.api("PATCH", f"/dags/nightbatch/dagRuns/{run_id}", {"state": "failed"})
            return
        time.sleep(1)
    raise AssertionError("Airflow does not mark the run as failed")


@pytest.mark.fault(14)
def test_a_paused_dag_leaves_batches_that_recovery_adopts(stack: Stack, waiting: tuple[str, set[int]]) -> None:
    run_id, jobs = waiting
    cancelled = nights.cancels(stack)
    stack.api("PATCH", "/dags/nightbatch", {"is_paused": True})
    try:
        recover_until_loaded(stack, jobs)
        assert stack.dag_run("nightbatch", run_id)["state"] == "running", "nothing of the run itself went on"
    finally:
        stack.api("PATCH", "/dags/nightbatch", {"is_paused": False})
    assert nights.end_of(stack, run_id) == "success"
    nights.assert_all_came_out_once(stack, jobs)
    assert nights.cancels(stack) == cancelled

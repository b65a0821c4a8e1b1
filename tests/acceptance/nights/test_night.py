"""Whole nights on real parts: Postgres, Airflow's components, the provider SDKs, and the emulator's bill as the judge."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psutil
import pytest

from nightbatch_local.postgres.embedded import binaries
from nightbatch_local.stack import Stack
from tests.acceptance.nights.steps import (
    ASK_EVERY,
    PROMPT_CANARY,
    assert_all_came_out_once,
    bill,
    cancels,
    clear,
    control,
    end_of,
    queue,
    sql,
    states,
    tasks,
    turnaround,
    wait_for_task,
)

KEY_CANARY = "emu-local"
LEDGER = ("run", "batch", "batch_job", "open_job", "dismissed", "result", "embedding", "reject")


# -- one night


@pytest.fixture(scope="module")
def night(stack: Stack) -> tuple[str, set[int]]:
    """Sixty jobs of all types for all providers, sent by one run: its id, and theirs. One batch ends before all others."""
    turnaround(stack, 3600)
    jobs = queue(stack, 20)
    run_id = stack.trigger("nightbatch")
    early = first_in_state(stack, run_id, "submitted")
    control(stack, "POST", f"batches/{early}/end", {"as": "completed"})
    assert first_in_state(stack, run_id, "loaded") == early
    turnaround(stack, 1)
    assert end_of(stack, run_id) == "success"
    return run_id, jobs


def first_in_state(stack: Stack, run_id: str, state: str, timeout: float = 240) -> str:
    """Wait until a batch of the run is in this state; the provider's id of the first."""
    query = "SELECT provider_batch_id FROM nightbatch.batch WHERE run_id = %s AND state = %s ORDER BY id LIMIT 1"
    deadline = time.monotonic() + timeout
    while not (found := sql(stack, query, (run_id, state))):
        assert time.monotonic() < deadline, f"after {timeout:.0f} s no batch is {state}"
        time.sleep(0.1)
    return str(found[0][0])


def test_every_row_inserted_by_plain_sql_comes_out_and_is_billed_once(
    stack: Stack, night: tuple[str, set[int]]
) -> None:
    assert_all_came_out_once(stack, night[1])


def test_the_costs_are_the_ones_on_the_providers_bill(stack: Stack, night: tuple[str, set[int]]) -> None:
    charged = {line["custom_id"]: line for line in bill(stack)}
    ours = sql(
        stack,
        "SELECT format('j%%s_a%%s_%%s', r.job_id, r.batch_id, b.nonce), r.batch_cost_usd, r.realtime_cost_usd, r.input_tokens,"
        " r.output_tokens FROM nightbatch.result AS r JOIN nightbatch.batch AS b ON b.id = r.batch_id WHERE r.job_id = ANY (%s)",
        (list(night[1]),),
    )
    assert len(ours) == len(night[1])
    priced = [row for row in ours if row[1] is not None]
    assert len(priced) > 30
    for custom_id, cost, realtime, input_tokens, output_tokens in ours:
        line = charged[custom_id]
        assert (input_tokens, output_tokens) == (line["input_tokens"], line["output_tokens"])
        if cost is not None:
            assert cost == Decimal(line["cost_usd"])
            assert realtime > cost


def test_a_batch_that_ends_early_is_loaded_while_others_still_run(stack: Stack, night: tuple[str, set[int]]) -> None:
    query = "SELECT count(*), min(closed_at), max(ended_at) FROM nightbatch.batch WHERE run_id = %s"
    ((batches, first_load, last_end),) = sql(stack, query, (night[0],))
    assert batches >= 8
    assert first_load < last_end


def test_the_report_is_an_event_that_other_dags_can_follow(stack: Stack, night: tuple[str, set[int]]) -> None:
    events = stack.api("GET", "/assets/events?order_by=-timestamp&limit=20")["asset_events"]
    (event,) = [event for event in events if event["source_run_id"] == night[0]]
    assert event["extra"]["jobs"] == len(night[1])
    assert event["extra"]["succeeded"] == len(night[1])
    assert Decimal(event["extra"]["savings_usd"]) > 0


@pytest.mark.fault(11)
def test_clearing_a_finished_run_changes_no_ledger_row_and_no_bill(stack: Stack, night: tuple[str, set[int]]) -> None:
    before = (ledger(stack), bill(stack))
    clear(stack, night[0])
    assert end_of(stack, night[0]) == "success"
    assert (ledger(stack), bill(stack)) == before


def ledger(stack: Stack) -> dict[str, str]:
    """A fingerprint of each table; when a run was last reported is not part of it."""
    query = (
        "SELECT md5(coalesce(string_agg(t, '' ORDER BY t), '')) FROM (SELECT (to_jsonb(x) - 'reported_at')::text AS t"
    )
    return {table: sql(stack, f"{query} FROM nightbatch.{table} AS x) AS rows")[0][0] for table in LEDGER}


# -- crashes


@pytest.mark.fault(6, 8)
def test_killing_a_component_in_mid_night_loses_and_doubles_nothing(stack: Stack) -> None:
    """First the triggerer, then the scheduler, while the batches of one night are waited for."""
    turnaround(stack, 3600)
    jobs = queue(stack, 4)
    run_id = stack.trigger("nightbatch")
    wait_for_task(stack, run_id, "deferred")
    for component in ("triggerer", "scheduler"):
        stack.kill(component)
        stack.start_component(component)
        stack.wait_healthy()
    assert states(stack, jobs) == {"batched": len(jobs)}
    turnaround(stack, 1)
    assert end_of(stack, run_id) == "success"
    assert_all_came_out_once(stack, jobs)


def test_killing_the_workers_tasks_in_mid_submit_loses_and_doubles_nothing(stack: Stack) -> None:
    held_up = {"provider": "openai", "operation": "file_upload", "fault": "delay", "delay_seconds": 10}
    control(stack, "POST", "faults", held_up)
    jobs = queue(stack, 4)
    run_id = stack.trigger("nightbatch")
    wait_for_task(stack, run_id, "running", "openai.submit")
    assert _kill_running_tasks(stack) > 0
    assert end_of(stack, run_id) == "success"
    assert_all_came_out_once(stack, jobs)


def _kill_running_tasks(stack: Stack) -> int:
    """SIGKILL the processes in which tasks run: each is the child of a worker of the LocalExecutor."""
    workers = psutil.Process(stack.status()["scheduler"]).children()
    running = [task for worker in workers for task in worker.children()]
    for task in running:
        task.kill()
    return len(running)


@pytest.mark.fault(12)
def test_clearing_a_run_in_mid_night_cancels_nothing_and_finds_its_batches_again(stack: Stack) -> None:
    turnaround(stack, 3600)
    cancelled = cancels(stack)
    jobs = queue(stack, 2)
    run_id = stack.trigger("nightbatch")
    wait_for_task(stack, run_id, "deferred")
    clear(stack, run_id)
    turnaround(stack, 1)
    assert end_of(stack, run_id) == "success"
    assert_all_came_out_once(stack, jobs)
    assert cancels(stack) == cancelled


# -- a provider that is down


@pytest.mark.fault(23)
def test_a_refused_account_stops_nobody_else_and_fails_the_run(stack: Stack) -> None:
    jobs = queue(stack, 2)
    refusal = {"provider": "gemini", "operation": "file_upload", "fault": "refuse", "status": 403, "times": None}
    control(stack, "POST", "faults", refusal)
    run_id = stack.trigger("nightbatch")
    assert end_of(stack, run_id) == "failed"
    assert states(stack, jobs) == {"succeeded": 4, "queued": 2}
    ends = {(task["task_id"], task["state"]) for task in tasks(stack, run_id)}
    assert {("gemini.submit", "failed"), ("openai.load", "success"), ("report", "success"), ("watch", "failed")} <= ends
    control(stack, "DELETE", "faults")
    assert end_of(stack, stack.trigger("nightbatch", {"providers": ["gemini"]})) == "success"
    assert_all_came_out_once(stack, jobs)


# -- a run that was given what its Dag does not know


def test_a_run_with_a_misspelt_name_fails_before_it_takes_anything(stack: Stack) -> None:
    jobs = queue(stack, 1)
    run_id = stack.trigger("nightbatch", {"dryrun": True})
    assert end_of(stack, run_id) == "failed"
    assert states(stack, jobs) == {"queued": 3}
    ends = {(task["task_id"], task["state"]) for task in tasks(stack, run_id)}
    assert {("plan", "failed"), ("report", "skipped"), ("watch", "failed")} <= ends
    assert end_of(stack, stack.trigger("nightbatch", {"dry_run": False})) == "success"
    assert_all_came_out_once(stack, jobs)


# -- runs side by side


@pytest.mark.fault(10)
def test_a_backfill_and_a_manual_run_side_by_side_take_every_job_once(stack: Stack) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    jobs = set[int]()
    for age in (5, 4, 3):
        jobs |= queue(stack, 3, created_at=today - timedelta(days=age))
    jobs |= queue(stack, 3)
    backfill = {
        "dag_id": "nightbatch",
        "from_date": (today - timedelta(days=4)).isoformat(),
        "to_date": (today - timedelta(days=1, minutes=1)).isoformat(),
        "max_active_runs": 3,
        "reprocess_behavior": "completed",
        "run_on_latest_version": True,
    }
    stack.api("POST", "/backfills", backfill)
    wait_for_backfill(stack, jobs)
    manual = stack.trigger("nightbatch")
    assert end_of(stack, manual) == "success"
    runs = stack.api("GET", "/dags/nightbatch/dagRuns?run_type=backfill")["dag_runs"]
    assert [end_of(stack, run["dag_run_id"]) for run in runs] == ["success"] * 3
    assert_all_came_out_once(stack, jobs)
    assert len(runs_with(stack, jobs)) >= 2


def runs_with(stack: Stack, jobs: set[int]) -> set[str]:
    """The runs that took any of these jobs."""
    query = (
        "SELECT DISTINCT run_id FROM nightbatch.batch AS b JOIN nightbatch.batch_job AS m ON m.batch_id = b.id"
        " WHERE m.job_id = ANY (%s)"
    )
    return {run_id for (run_id,) in sql(stack, query, (list(jobs),))}


def wait_for_backfill(stack: Stack, jobs: set[int], timeout: float = 120) -> None:
    """Until a run of it has taken some of the jobs."""
    deadline = time.monotonic() + timeout
    while not any(run_id.startswith("backfill") for run_id in runs_with(stack, jobs)):
        seen = [(run["dag_run_id"], run["state"]) for run in stack.api("GET", "/dags/nightbatch/dagRuns")["dag_runs"]]
        assert time.monotonic() < deadline, f"no backfill took a job within {timeout:.0f} s: {seen}"
        time.sleep(ASK_EVERY)


# -- secrets


@pytest.mark.fault(52, 53)
def test_neither_keys_nor_prompts_are_found_in_airflow(stack: Stack, night: tuple[str, set[int]]) -> None:
    """Not in its database (XCom, rendered templates, triggers, events), and in no log of any process."""
    metadata = stack.environment()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("postgresql+psycopg:", "postgresql:")
    dump = subprocess.run([binaries() / "pg_dump", "--data-only", metadata], check=True, capture_output=True).stdout
    assert night[0].encode() in dump, "the dump holds what Airflow knows"
    logs = [path for path in stack.root.rglob("*.log") if path.is_file()]
    assert len(logs) > 60
    for canary in (KEY_CANARY, PROMPT_CANARY, stack.password()):
        assert canary.encode() not in dump
        assert [path for path in logs if canary.encode() in path.read_bytes()] == []

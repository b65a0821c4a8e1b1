"""Whole nights on real parts: Postgres, Airflow's components, the provider SDKs, and the emulator's bill as the judge."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from nightbatch.job_types import job_types
from nightbatch.postgres.embedded import binaries
from nightbatch.stack import Stack

# One stack for all: starting it takes longer than most nights here.
pytestmark = pytest.mark.xdist_group("night")

SETTINGS = """
NIGHTBATCH_MAX_BATCH_JOBS=8
NIGHTBATCH_POLL_SECONDS=0.3
NIGHTBATCH_POLL_MAX_SECONDS=1
NIGHTBATCH_SETTLE_SECONDS=2
AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT=8
AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL=2
"""
KEY_CANARY = "emu-local"
PROMPT_CANARY = "canary-in-a-prompt"
LEDGER = ("run", "batch", "batch_job", "open_job", "dismissed", "result", "embedding", "reject")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    root = Path(tempfile.mkdtemp(prefix="nb-night-"))  # short: a socket's path has little room
    (root / "env").write_text(SETTINGS)
    try:
        with Stack(root / "stack", turnaround=3, env_file=root / "env") as running:
            yield running
    finally:
        shutil.rmtree(root, ignore_errors=True)


def sql(stack: Stack, query: str, params: Any = None) -> list[tuple[Any, ...]]:
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        cursor = connection.execute(query, params)
        return cursor.fetchall() if cursor.description else []


def queue(stack: Stack, each: int, *, created_at: datetime | None = None) -> set[int]:
    """Insert ``each`` jobs per provider by plain SQL, of every type that is made of text; the demo's night has videos."""
    rows = []
    for provider in ("openai", "anthropic", "gemini"):
        kinds = [name for name, kind in sorted(job_types().items()) if provider in kind.models and _is_text(name)]
        rows += [(kinds[number % len(kinds)], provider) for number in range(each)]
    return {
        sql(
            stack,
            "INSERT INTO nightbatch.job (job_type, provider, input, created_at)"
            " VALUES (%s, %s, %s, coalesce(%s, now())) RETURNING id",
            (kind, provider, json.dumps(_input(kind)), created_at),
        )[0][0]
        for kind, provider in rows
    }


def _input(kind: str) -> dict[str, Any]:
    """The type's own example, with a word in it that must never leave the two databases' payload columns."""
    example, field = dict(job_types()[kind].example), _text_field(kind)
    return {**example, field: f"{example[field]} {PROMPT_CANARY}"} if field else example


def _is_text(kind: str) -> bool:
    return _text_field(kind) is not None and "file" not in job_types()[kind].example


def _text_field(kind: str) -> str | None:
    return next((name for name, value in job_types()[kind].example.items() if isinstance(value, str)), None)


def bill(stack: Stack) -> list[dict[str, Any]]:
    """What the emulated providers charged, request by request."""
    return [json.loads(line) for line in stack.billing_log.read_text().splitlines()]


def times_billed(stack: Stack, jobs: set[int]) -> Counter[int]:
    charged = (re.fullmatch(r"j(\d+)_a\d+", line["custom_id"]) for line in bill(stack))
    return Counter(job for match in charged if match and (job := int(match[1])) in jobs)


def states(stack: Stack, jobs: set[int]) -> Counter[str]:
    query = "SELECT state, count(*) FROM nightbatch.job_status WHERE job_id = ANY (%s) GROUP BY state"
    return Counter(dict(sql(stack, query, (list(jobs),))))


def tasks(stack: Stack, run_id: str) -> list[dict[str, Any]]:
    found = stack.api("GET", f"/dags/nightbatch/dagRuns/{run_id}/taskInstances?limit=500")
    return list(found["task_instances"])


def clear(stack: Stack, run_id: str) -> None:
    """All tasks of a run, as a person does it in the UI."""
    what = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True}
    stack.api("POST", "/dags/nightbatch/clearTaskInstances", what)


def control(stack: Stack, method: str, path: str, body: Any = None) -> Any:
    """Speak to the emulator itself."""
    answer = httpx.request(method, f"{stack.emulator_url}/control/{path}", json=body, trust_env=False)
    return answer.raise_for_status().json()


def end_of(stack: Stack, run_id: str, timeout: float = 120) -> str:
    """The state in which a run ended; if not well, the tasks that failed are printed."""
    state = str(stack.wait_for_run("nightbatch", run_id, timeout)["state"])
    if state != "success":
        for task in tasks(stack, run_id):
            if task["state"] == "failed":
                path = f"/dags/nightbatch/dagRuns/{run_id}/taskInstances/{task['task_id']}"
                log = stack.api("GET", f"{path}/logs/{task['try_number']}?map_index={task['map_index']}")
                print(task["task_id"], task["map_index"], json.dumps(log)[-3000:])
    return state


def wait_for_task(stack: Stack, run_id: str, state: str, name: str = "", timeout: float = 45) -> None:
    """Until a task of the run, with ``name`` in its id, is in this state."""
    deadline = time.monotonic() + timeout
    while True:
        seen = tasks(stack, run_id)
        if any(task["state"] == state and name in task["task_id"] for task in seen):
            return
        shown = [(task["task_id"], task["state"]) for task in seen]
        assert time.monotonic() < deadline, f"no {name} was {state} within {timeout:.0f} s: {shown}"
        time.sleep(0.1)


def assert_all_came_out_once(stack: Stack, jobs: set[int]) -> None:
    assert states(stack, jobs) == {"succeeded": len(jobs)}
    assert times_billed(stack, jobs) == dict.fromkeys(jobs, 1)


# -- one night


@pytest.fixture(scope="module")
def night(stack: Stack) -> tuple[str, set[int]]:
    """Sixty jobs of all types for all providers, sent by one run: its id, and theirs."""
    jobs = queue(stack, 20)
    run_id = stack.trigger("nightbatch")
    assert end_of(stack, run_id) == "success"
    return run_id, jobs


def test_every_row_inserted_by_plain_sql_comes_out_and_is_billed_once(
    stack: Stack, night: tuple[str, set[int]]
) -> None:
    assert_all_came_out_once(stack, night[1])


def test_the_costs_are_the_ones_on_the_providers_bill(stack: Stack, night: tuple[str, set[int]]) -> None:
    charged = {line["custom_id"]: line for line in bill(stack)}
    ours = sql(
        stack,
        "SELECT format('j%%s_a%%s', job_id, batch_id), batch_cost_usd, realtime_cost_usd, input_tokens, output_tokens"
        " FROM nightbatch.result WHERE job_id = ANY (%s)",
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
@pytest.mark.parametrize("component", ["triggerer", "scheduler"])
def test_killing_a_component_in_mid_night_loses_and_doubles_nothing(stack: Stack, component: str) -> None:
    jobs = queue(stack, 4)
    run_id = stack.trigger("nightbatch")
    wait_for_task(stack, run_id, "deferred")
    stack.kill(component)
    stack.start_component(component)
    stack.wait_healthy()
    assert end_of(stack, run_id) == "success"
    assert_all_came_out_once(stack, jobs)


def test_killing_the_workers_tasks_in_mid_submit_loses_and_doubles_nothing(stack: Stack) -> None:
    jobs = queue(stack, 4)
    run_id = stack.trigger("nightbatch")
    wait_for_task(stack, run_id, "running", ".submit")
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
    jobs = queue(stack, 2)
    run_id = stack.trigger("nightbatch")
    wait_for_task(stack, run_id, "deferred")
    clear(stack, run_id)
    assert end_of(stack, run_id) == "success"
    assert_all_came_out_once(stack, jobs)
    assert "batch_cancel" not in {seen["operation"] for seen in control(stack, "GET", "log")}


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
    wait_for_plan(stack, "backfill%")
    manual = stack.trigger("nightbatch")
    assert end_of(stack, manual) == "success"
    runs = stack.api("GET", "/dags/nightbatch/dagRuns?run_type=backfill")["dag_runs"]
    assert [end_of(stack, run["dag_run_id"]) for run in runs] == ["success"] * 3
    assert_all_came_out_once(stack, jobs)
    query = "SELECT count(DISTINCT run_id) FROM nightbatch.batch WHERE run_id = %s OR run_id LIKE 'backfill%%'"
    assert sql(stack, query, (manual,))[0][0] >= 2


def wait_for_plan(stack: Stack, runs: str, timeout: float = 45) -> None:
    """Until a run like this has taken jobs."""
    deadline = time.monotonic() + timeout
    while not sql(stack, "SELECT id FROM nightbatch.batch WHERE run_id LIKE %s", (runs,)):
        seen = [(run["dag_run_id"], run["state"]) for run in stack.api("GET", "/dags/nightbatch/dagRuns")["dag_runs"]]
        assert time.monotonic() < deadline, f"no run like {runs} took a job within {timeout:.0f} s: {seen}"
        time.sleep(0.1)


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

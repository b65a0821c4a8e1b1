"""What a person, Airflow and the emulated providers are asked by a test of a night on real parts."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from datetime import datetime
from typing import Any

import httpx
import psycopg

from nightbatch.job_types import job_types
from nightbatch_local.stack import Stack

PROMPT_CANARY = "canary-in-a-prompt"
ASK_EVERY = 0.5
"""Seconds. Each answer of Airflow's API costs more computing than what a test waits for meanwhile."""


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
    charged = (
        re.fullmatch(r"j(\d+)_a\d+(?:_[0-9a-f]{16})?", line["custom_id"] or "") for line in bill(stack)
    )  # a realtime call has none
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
    url = f"{stack.emulator_url}/control/{path}"
    answer = httpx.request(method, url, json=body, trust_env=False, verify=False)  # no TLS: no certificates to read
    return answer.raise_for_status().json()


def end_of(stack: Stack, run_id: str, timeout: float = 240) -> str:
    """The state in which a run ended; if not well, the tasks that failed are printed."""
    state = str(stack.wait_for_run("nightbatch", run_id, timeout)["state"])
    if state != "success":
        for task in tasks(stack, run_id):
            if task["state"] == "failed":
                path = f"/dags/nightbatch/dagRuns/{run_id}/taskInstances/{task['task_id']}"
                log = stack.api("GET", f"{path}/logs/{task['try_number']}?map_index={task['map_index']}")
                print(task["task_id"], task["map_index"], json.dumps(log)[-3000:])
    return state


def wait_for_task(stack: Stack, run_id: str, state: str, name: str = "", timeout: float = 120) -> None:
    """Until a task of the run, with ``name`` in its id, is in this state."""
    deadline = time.monotonic() + timeout
    while True:
        seen = tasks(stack, run_id)
        if any(task["state"] == state and name in task["task_id"] for task in seen):
            return
        shown = [(task["task_id"], task["state"]) for task in seen]
        assert time.monotonic() < deadline, f"no {name} was {state} within {timeout:.0f} s: {shown}"
        time.sleep(ASK_EVERY)


def assert_all_came_out_once(stack: Stack, jobs: set[int]) -> None:
    assert states(stack, jobs) == {"succeeded": len(jobs)}
    assert times_billed(stack, jobs) == dict.fromkeys(jobs, 1)


def turnaround(stack: Stack, seconds: float, spread: float = 0) -> None:
    """How long a batch takes from its creation, more or less; those under way too."""
    control(stack, "POST", "turnaround", {"seconds": seconds, "spread": spread})


def cancels(stack: Stack) -> int:
    """How often a provider was asked to cancel a batch."""
    return sum(seen["operation"] == "batch_cancel" for seen in control(stack, "GET", "log"))

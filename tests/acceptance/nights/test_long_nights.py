"""On real parts: a night larger than the provider's queue, days reprocessed by a backfill, a deadline that cannot wait."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from nightbatch.core.errors import NightbatchError
from nightbatch_local.stack import Stack
from tests.acceptance.nights.steps import bill, control, end_of, sql, states, turnaround

DAYS = 2


def queue(stack: Stack, provider: str, count: int, **columns: Any) -> set[int]:
    names = ["job_type", "provider", "input", *columns]
    query = f"INSERT INTO nightbatch.job ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))}) RETURNING id"
    inputs = [json.dumps({"headline": f"Headline {number} of a long night"}) for number in range(count)]
    return {sql(stack, query, ["creative_scoring", provider, text, *columns.values()])[0][0] for text in inputs}


def runs(stack: Stack, dag_id: str = "nightbatch") -> list[dict[str, Any]]:
    return list(stack.api("GET", f"/dags/{dag_id}/dagRuns?limit=100&order_by=id")["dag_runs"])


def until_all_end(stack: Stack, dag_id: str, count: int, timeout: float = 300) -> list[str]:
    """Once so many runs of a Dag have ended: their states."""
    deadline = time.monotonic() + timeout
    while True:
        seen = [run["state"] for run in runs(stack, dag_id)]
        if len(seen) >= count and all(state in ("success", "failed") for state in seen):
            return seen
        assert time.monotonic() < deadline, f"after {timeout:.0f} s: {seen}"
        time.sleep(0.5)


def test_a_night_at_twice_the_limit_goes_in_waves_and_no_job_fails(stack: Stack) -> None:
    """OpenAI takes a batch and fails it minutes later for want of room, so its jobs go with another run of the Dag."""
    jobs = queue(stack, "openai", 16) | queue(stack, "gemini", 16)
    for provider, limit in (("openai", 2_600), ("gemini", 4_400)):  # about half of what 16 of these jobs have
        control(stack, "POST", "limits", {"provider": provider, "account": "local", "tokens": limit})
    turnaround(stack, 60)  # its batches are in the queue together, until OpenAI's failed
    before = len(runs(stack))
    try:
        run_id = stack.trigger("nightbatch")
        until_learned(stack, "openai")
        turnaround(stack, 1)
        assert end_of(stack, run_id) == "success"
        until_all_end(stack, "nightbatch", before + 2)
        assert states(stack, jobs) == {"succeeded": len(jobs)}
    finally:
        for provider in ("openai", "gemini"):
            control(stack, "POST", "limits", {"provider": provider, "account": "local", "tokens": None})
        sql(stack, "DELETE FROM nightbatch.token_limit")
    assert any(run["dag_run_id"].startswith("wave2_of_") for run in runs(stack))
    assert (
        Counter(line["custom_id"].partition("_")[0] for line in bill(stack) if line["custom_id"]).most_common(1)[0][1]
        == 1
    )


def until_learned(stack: Stack, provider: str, timeout: float = 240) -> None:
    """Until a limit of this provider's was seen."""
    deadline = time.monotonic() + timeout
    while not sql(stack, "SELECT 1 FROM nightbatch.token_limit WHERE learned AND provider = %s", (provider,)):
        assert time.monotonic() < deadline, f"no limit of {provider} was learned within {timeout:.0f} s"
        time.sleep(0.2)


def once_more(stack: Stack, backfill: dict[str, Any], timeout: float = 240) -> None:
    """As soon as Airflow has taken note that the backfill before has ended."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            stack.api("POST", "/backfills", backfill)
        except NightbatchError as error:
            assert "already a running backfill" in str(error) and time.monotonic() < deadline, error
            time.sleep(1)
        else:
            return


def test_some_days_are_reprocessed_by_a_backfill_and_twice_makes_no_extra_job(stack: Stack) -> None:
    """As the UI does it: one backfill over some days, then the same once more."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    jobs = queue(stack, "anthropic", DAYS * 8)
    run_id = stack.trigger("nightbatch")
    assert end_of(stack, run_id) == "success"
    query = "SELECT id FROM nightbatch.batch WHERE run_id = %s AND state = 'loaded' ORDER BY id"
    loaded = sql(stack, query, (run_id,))
    assert len(loaded) == DAYS
    for day, (batch,) in enumerate(loaded, start=1):
        when = today - timedelta(days=day, hours=-2)
        sql(stack, "UPDATE nightbatch.batch SET closed_at = %s WHERE id = %s", (when, batch))
    wish: dict[str, Any] = {
        "dag_id": "nightbatch_reprocess",
        "from_date": (today - timedelta(days=DAYS)).isoformat(),
        "to_date": (today - timedelta(days=1)).isoformat(),
        "max_active_runs": DAYS,
        "dag_run_conf": {"to_model": "claude-sonnet-5-5"},
    }
    stack.api("GET", "/dags/nightbatch_reprocess")
    stack.api("POST", "/backfills", wish)
    assert until_all_end(stack, "nightbatch_reprocess", DAYS) == ["success"] * DAYS
    query = "SELECT past_job_id, old_outcome, new_model, new_outcome FROM nightbatch.reprocessed"
    assert sorted(sql(stack, query)) == [(job, "succeeded", "claude-sonnet-5-5", "succeeded") for job in sorted(jobs)]
    before = sql(stack, "SELECT count(*) FROM nightbatch.job"), len(bill(stack))
    once_more(stack, {**wish, "reprocess_behavior": "completed"})
    assert until_all_end(stack, "nightbatch_reprocess", DAYS) == ["success"] * DAYS
    assert (sql(stack, "SELECT count(*) FROM nightbatch.job"), len(bill(stack))) == before


def test_a_deadline_that_cannot_wait_is_met_by_the_recovery(stack: Stack) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    (job,) = queue(stack, "gemini", 1, deadline=soon, fallback=True)
    run_id = stack.trigger("nightbatch_recover")
    assert stack.wait_for_run("nightbatch_recover", run_id, 240)["state"] == "success"
    assert states(stack, {job}) == {"succeeded": 1}
    ((paid, saved),) = sql(
        stack,
        "SELECT batch_cost_usd, savings_usd FROM nightbatch_report.run_summary WHERE run_id LIKE 'fallback%%'",
        (),
    )
    (line,) = [line for line in bill(stack) if line["processing"] == "realtime"]
    assert (paid, saved) == (Decimal(line["cost_usd"]), 0)

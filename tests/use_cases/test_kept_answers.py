"""What of an answer its output does not hold is as private as the output: the same roles, the same days, in no word elsewhere."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from rich.console import Console

from nightbatch import reporting
from nightbatch.batches import retention
from nightbatch.core.errors import NightbatchError
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.reporting import alerts, stats
from tests.use_cases.conftest import World
from tests.use_cases.test_result_lines import answers

CANARY = "canary-in-an-answer"
USAGE = {
    "openai": {"input_tokens": 10, "output_tokens": 5},
    "anthropic": {"input_tokens": 10, "output_tokens": 5},
    "gemini": {"promptTokenCount": 10, "candidatesTokenCount": 5},
}


def openai(output: list[Any], **body: Any) -> Any:
    body = {"object": "response", "status": "completed", "model": "gpt-6-luna", "output": output, **body}
    response = {"status_code": 200, "request_id": "r", "body": {**body, "usage": USAGE["openai"]}}
    return {"custom_id": "{CID}", "response": response, "error": None}


def anthropic(content: list[Any], reason: str, **message: Any) -> Any:
    message = {
        "content": content,
        "stop_reason": reason,
        "model": "claude-haiku-5-5",
        "usage": USAGE["anthropic"],
        **message,
    }
    return {"custom_id": "{CID}", "result": {"type": "succeeded", "message": message}}


def gemini(parts: list[Any], reason: str, **candidate: Any) -> Any:
    response = {"candidates": [{"content": {"parts": parts}, "finishReason": reason, **candidate}]}
    return {
        "key": "{CID}",
        "response": {**response, "usageMetadata": USAGE["gemini"], "modelVersion": "gemini-3.7-flash"},
    }


CALL = {"city": CANARY}
LINES: dict[ProviderName, list[Any]] = {
    "openai": [
        openai([{"type": "function_call", "name": "f", "arguments": json.dumps(CALL), "call_id": "c", "id": "i"}]),
        openai([{"type": "reasoning", "id": "r", "summary": [], "encrypted_content": CANARY}]),
        openai([{"type": "image_generation_call", "id": "i", "status": "completed", "result": CANARY}]),
        openai([{"type": "message", "phase": "commentary", "content": [{"type": "output_text", "text": CANARY}]}]),
        openai([{"type": "something_new", "id": "n", "value": CANARY}], incomplete_details={"reason": "max_output_tokens"}),
    ],
    "anthropic": [
        anthropic([{"type": "tool_use", "id": "t", "name": "f", "input": CALL}], "tool_use"),
        anthropic([{"type": "thinking", "thinking": "", "signature": CANARY}], "end_turn"),
        anthropic([], "refusal", stop_details={"type": "refusal", "category": "cyber", "explanation": CANARY}),
        anthropic([{"type": "redacted_thinking", "data": CANARY}, {"type": "text", "text": "{}"}], "max_tokens"),
    ],
    "gemini": [
        gemini([{"functionCall": {"name": "f", "args": CALL}}], "STOP"),
        gemini([{"inlineData": {"mimeType": "image/png", "data": CANARY}}], "STOP"),
        gemini([{"text": "{}", "thoughtSignature": CANARY}], "MAX_TOKENS"),
        gemini([], "SAFETY", finishMessage=CANARY),
        gemini([{"text": CANARY, "thought": True}], "A_NEW_REASON"),
    ],
}  # fmt: skip


def night(world: World, provider: ProviderName) -> list[int]:
    """Scoring jobs, none of whose answers fits: all that came stands beside."""
    lines = LINES[provider]
    jobs = world.insert(provider, len(lines))
    answers(world, provider, {job: {"line": line, "right": {}} for job, line in zip(jobs, lines, strict=True)})
    return jobs


def kept(world: World) -> list[int]:
    return world.rows("SELECT job_id FROM nightbatch.answer WHERE rest::text LIKE %s ORDER BY job_id", f"%{CANARY}%")


def told(world: World) -> str:
    """All that a person, a chat or a file would see of a night."""
    alerts.check(world.store, world.settings)
    screen, page = io.StringIO(), reporting.run_report(world.store, "r1")
    Console(file=screen, width=500).print(reporting.render_terminal(page))
    days = reporting.range_report(world.store, stats.last_days(world.store, 2))
    rendered = [
        render(report)
        for report in (page, days)
        for render in (reporting.render_html, reporting.render_markdown, reporting.render_csv)
    ]
    shown = [
        reporting.to_json(page),
        stats.dashboard(world.store, world.settings),
        stats.attempts(world.store, world.settings),
    ]
    return "\n".join([screen.getvalue(), *rendered, *map(repr, shown)])


@pytest.mark.fault(66)
def test_a_kept_answer_is_found_in_no_other_table_log_alert_or_report(
    world: World, provider: ProviderName, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    jobs = night(world, provider)
    assert kept(world) == jobs
    assert set(world.states().values()) == {"failed"}
    out = "".join(capfd.readouterr())
    assert CANARY not in told(world) + caplog.text + out
    for table in world.rows(
        "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname LIKE 'nightbatch%%'"
    ):
        found = world.rows(f"SELECT t::text FROM {table} AS t WHERE t::text LIKE '%%{CANARY}%%'")
        assert bool(found) is (table == "nightbatch.answer"), (table, found)


def test_an_answer_that_the_database_refuses_is_in_no_error_and_nothing_is_lost(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.store.connection.execute("ALTER TABLE nightbatch.answer ADD CONSTRAINT none_today CHECK (job_id < 0)")
    with pytest.raises(NightbatchError) as refused:
        night(world, "gemini")
    assert CANARY not in f"{refused.value!r} {refused.value.__context__!r} {refused.value.__cause__!r}{caplog.text}"
    assert CANARY not in told(world)
    assert world.rows("SELECT count(*) FROM nightbatch.result") == [0], "whole or not at all"
    assert world.rows("SELECT state FROM nightbatch.batch ORDER BY id")[0] == "submitted", "it is loaded again"


@pytest.mark.fault(58)
@pytest.mark.parametrize(
    "role", ["nightbatch_producer", "nightbatch_reporter", "nightbatch_worker", "nightbatch_owner"]
)
def test_whoever_may_read_an_output_may_read_what_stands_beside_it_and_nobody_else(world: World, role: str) -> None:
    night(world, "anthropic")

    def may(statement: str) -> bool:
        with world.store.transaction():
            world.store.connection.execute(f"SET LOCAL ROLE {role}")
            try:
                with world.store.connection.transaction(force_rollback=True):
                    world.store.connection.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                return False
            return True

    reads = may("SELECT output FROM nightbatch.result")
    assert reads is (role in ("nightbatch_worker", "nightbatch_owner"))
    assert may("SELECT rest FROM nightbatch.answer") is reads
    assert may("SELECT count(*) FROM nightbatch.answer") is reads
    insert = "INSERT INTO nightbatch.answer (job_id, batch_id, rest) VALUES (0, 0, '{}')"
    assert may(insert) is may("DELETE FROM nightbatch.answer") is reads
    assert may("UPDATE nightbatch.answer SET rest = '{}'") is (role == "nightbatch_owner"), "it is written once"
    assert may("LOCK TABLE nightbatch.answer IN SHARE MODE") is reads


@pytest.mark.parametrize("days", [0, 7])
def test_an_answer_stays_as_long_as_its_output_and_no_longer(world: World, provider: ProviderName, days: int) -> None:
    jobs = night(world, provider)
    columns = ("batch SET closed_at = closed_at", "result SET finished_at = finished_at")
    for column in columns:
        world.rows(f"UPDATE nightbatch.{column} - interval '6 days' RETURNING 1")
    erase(world, days)
    assert kept(world) == jobs
    for column in columns:
        world.rows(f"UPDATE nightbatch.{column} - interval '2 days' RETURNING 1")
    erase(world, days)
    assert kept(world) == ([] if days else jobs)
    assert world.rows("SELECT count(*) FROM nightbatch.result WHERE output IS NOT NULL AND erased_at IS NOT NULL") == [
        0
    ]
    assert world.rows("SELECT count(*) FROM nightbatch.result WHERE erased_at IS NOT NULL") == [
        len(jobs) if days else 0
    ]


def erase(world: World, days: int) -> None:
    retention.erase(world.store, job_types(), replace(world.settings, retention_days=days))

"""Anthropic's own ways."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from anthropic.types.messages.batch_create_params import Request as BatchRequest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from nightbatch.errors import Rejected, Transient
from nightbatch.models import Prompt, ResultLine, UnreadableLine, Usage
from nightbatch.providers.anthropic import AnthropicBatches, _create_body
from tests.providers.conformance.kit import SCHEMA, Canned, adapter_for, canned, plain_submission, readable

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def batch(number: int = 1, **changes: Any) -> dict[str, Any]:
    counts = {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0}
    return {
        "id": f"msgbatch_{number}", "type": "message_batch", "processing_status": "ended", "request_counts": counts,
        "created_at": NOW.isoformat(), "expires_at": (NOW + timedelta(days=1)).isoformat(), "ended_at": NOW.isoformat(),
        "archived_at": None, "cancel_initiated_at": None, "results_url": "http://127.0.0.1:1/results",
    } | changes  # fmt: skip


def page(*batches: dict[str, Any], more: bool = False) -> Canned:
    last = batches[-1]["id"] if batches else None
    return Canned(200, {"data": list(batches), "has_more": more, "first_id": None, "last_id": last})


def read(*lines: dict[str, Any]) -> list[ResultLine | UnreadableLine]:
    body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    with canned(Canned(200, batch()), Canned(200, batch()), Canned(200, body)) as server:
        for answer in server.answers[:2]:
            answer.body["results_url"] = f"{server.url}/results"
        return list(adapter_for("anthropic", server).iter_results("msgbatch_1"))


def message(**changes: Any) -> dict[str, Any]:
    shown = {
        "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn", "model": "claude-haiku-4-5",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    } | changes  # fmt: skip
    return {"custom_id": "j1_a7", "result": {"type": "succeeded", "message": shown}}


def test_a_request_is_one_that_the_sdk_could_have_made() -> None:
    prompt = Prompt("u", "s", SCHEMA, "name", 500)
    line = orjson.loads(AnthropicBatches(api_key="k").render("j1_a7", "claude-haiku-4-5", "chat", prompt))
    TypeAdapter(BatchRequest).validate_python(line)
    assert line["custom_id"] == "j1_a7"
    assert line["params"] == {
        "model": "claude-haiku-4-5",
        "max_tokens": 500,
        "system": "s",
        "messages": [{"role": "user", "content": "u"}],
        "output_config": {"format": {"type": "json_schema", "schema": {
            "$defs": {"Score": {"type": "integer", "description": "{minimum: 1, maximum: 10}"}},
            "type": "object",
            "properties": {"verdict": {"enum": ["run", "drop"]}, "score": {"$ref": "#/$defs/Score"}},
            "additionalProperties": False,
            "required": ["verdict", "score"],
        }}},
    }  # fmt: skip


def test_what_anthropic_refuses_in_a_schema_is_not_sent() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "array", "items": {"type": "string", "maxLength": 9}}}}
    line = AnthropicBatches(api_key="k").render("j1_a7", "claude-haiku-4-5", "chat", Prompt("u", schema=schema))
    shown = orjson.loads(line)["params"]["output_config"]["format"]["schema"]
    assert "maxLength" not in shown["properties"]["n"]["items"]
    assert "temperature" not in orjson.loads(line)["params"]


def test_a_prompt_goes_to_the_chat_endpoint_only() -> None:
    with pytest.raises(Rejected, match="does not take a Prompt"):
        AnthropicBatches(api_key="k").render("j1_a7", "claude-haiku-4-5", "embeddings", Prompt("u"))


@given(st.lists(st.text(max_size=40), min_size=1, max_size=20), st.booleans())
def test_the_create_is_the_lines_as_one_json_list(tmp_path_factory: Any, texts: list[str], newline: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({"text": text}) for text in texts) + b"\n" * newline)
    length, body = _create_body(path)
    sent = b"".join(body)
    assert len(sent) == length
    assert orjson.loads(sent) == {"requests": [{"text": text} for text in texts]}


def test_the_create_carries_the_sdks_own_key_and_version(tmp_path: Path) -> None:
    with canned(Canned(200, batch())) as server:
        provider = adapter_for("anthropic", server)
        assert provider.submit(*plain_submission("anthropic", tmp_path)) == "msgbatch_1"
    assert server.seen == [("POST", "/v1/messages/batches", b'{"requests":[{"custom_id":"j1_a7"}]}')]


def test_a_refused_envelope_names_the_requests_at_fault(tmp_path: Path) -> None:
    message = "requests.3.custom_id: String should match; requests.14.custom_id: used more than once"
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    with canned(Canned(400, body)) as server, pytest.raises(Rejected) as caught:
        adapter_for("anthropic", server).submit(*plain_submission("anthropic", tmp_path))
    assert caught.value.requests == (3, 14)


def test_candidates_are_of_the_right_time_and_size(tmp_path: Path) -> None:
    submission, _ = plain_submission("anthropic", tmp_path)
    assert submission.intent_at
    at = {
        name: (submission.intent_at + timedelta(seconds=seconds)).isoformat()
        for name, seconds in {"later": 30, "skewed": -100, "before": -130}.items()
    }
    two = {"processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    listed = [
        batch(1, created_at=at["later"]),
        batch(2, created_at=at["later"], request_counts=two),
        batch(3, created_at=at["skewed"]),
        batch(4, created_at=at["before"]),
    ]
    with canned(page(*listed)) as server:
        found = adapter_for("anthropic", server).find_submission(submission)
    assert [(one.provider_batch_id, one.certain) for one in found] == [("msgbatch_1", False), ("msgbatch_3", False)]


def test_the_list_is_read_on_until_a_page_is_too_old(tmp_path: Path) -> None:
    submission, _ = plain_submission("anthropic", tmp_path)
    old = (NOW - timedelta(days=3000)).isoformat()
    young = page(batch(1, created_at="2100-01-01T00:00:00Z"), batch(2, created_at=old), more=True)
    with canned(young, page(batch(3, created_at=old), more=True)) as server:
        assert len(adapter_for("anthropic", server).find_submission(submission)) == 1
    assert [path.split("after_id=")[-1] for _, path, _ in server.seen[1:]] == ["msgbatch_2"]
    with canned(page(more=True)) as server, pytest.raises(Transient):
        adapter_for("anthropic", server).find_submission(submission)


@pytest.mark.parametrize(
    ("status", "phase"), [("in_progress", "running"), ("canceling", "running"), ("ended", "ended")]
)
def test_every_status_has_its_phase_and_counts_only_at_the_end(status: str, phase: str) -> None:
    with canned(Canned(200, batch(processing_status=status))) as server:
        state = asyncio.run(adapter_for("anthropic", server).get_state("msgbatch_1"))
    assert (state.status, state.phase, state.unknown) == (status, phase, False)
    assert (state.counts is not None) == (phase == "ended")


def test_archived_results_are_gone_and_results_to_come_are_not() -> None:
    archived = batch(archived_at=NOW.isoformat(), results_url=None)
    with canned(Canned(200, archived)) as server, pytest.raises(Rejected) as caught:
        list(adapter_for("anthropic", server).iter_results("msgbatch_1"))
    assert caught.value.status == 410
    running = batch(processing_status="in_progress", results_url=None)
    with canned(Canned(200, running)) as server, pytest.raises(Transient):
        list(adapter_for("anthropic", server).iter_results("msgbatch_1"))


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("end_turn", "succeeded"), ("refusal", "refused"), ("max_tokens", "truncated"),
     ("model_context_window_exceeded", "truncated")],
)  # fmt: skip
def test_how_an_answer_stopped_is_its_outcome(reason: str, outcome: str) -> None:
    (line,) = read(message(stop_reason=reason))
    assert (readable(line).outcome, readable(line).billed) == (outcome, True)


def test_cached_tokens_are_a_part_of_the_input() -> None:
    tokens = {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 5}
    (line,) = read(message(usage=tokens))
    assert readable(line).usage == Usage(18, 2, 10)


@pytest.mark.parametrize(
    "usage", [None, {}, {"output_tokens": 2}, {"input_tokens": 3}, {"input_tokens": -3, "output_tokens": 2},
              {"input_tokens": "3", "output_tokens": 2}]
)  # fmt: skip
def test_a_usage_that_cannot_be_is_unknown(usage: Any) -> None:
    (line,) = read(message(usage=usage))
    assert (readable(line).outcome, readable(line).usage) == ("succeeded", None)


def test_a_result_of_an_unknown_type_is_not_taken_for_a_success() -> None:
    (line,) = read({"custom_id": "j1_a7", "result": {"type": "postponed"}})
    assert isinstance(line, UnreadableLine) and "postponed" in line.reason


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [("api_error", True), ("overloaded_error", True), ("rate_limit_error", True), ("timeout_error", True),
     ("invalid_request_error", False), ("not_found_error", False)],
)  # fmt: skip
def test_an_errored_request_goes_again_where_it_was_not_at_fault(kind: str, retryable: bool) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "m"}}
    (line,) = read({"custom_id": "j1_a7", "result": {"type": "errored", "error": error}})
    found = readable(line)
    assert (found.outcome, found.billed, found.retryable, found.error) == ("errored", False, retryable, f"{kind}: m")


@pytest.mark.parametrize("line", [{}, {"custom_id": 1, "result": {"type": "expired"}}, {"custom_id": "a", "result": 1}])
def test_a_line_of_another_shape_is_kept_as_it_came(line: Any) -> None:
    (found,) = read(line)
    assert isinstance(found, UnreadableLine) and orjson.loads(found.raw) == line

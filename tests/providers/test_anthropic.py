"""Anthropic's own ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from anthropic.types.messages.batch_create_params import Request as BatchRequest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from nightbatch.core.errors import Absent, AccountRefused, Rejected, Throttled, Transient
from nightbatch.core.models import Prompt, ProviderName, UnreadableLine, Usage
from nightbatch.providers.anthropic import _create_body
from tests.providers.bodies import SCHEMA, ended, error_body
from tests.providers.lab import Lab, readable, texts
from tests.providers.loopback import Reply, Wire

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


@pytest.fixture
def name() -> ProviderName:
    return "anthropic"


def batch(number: int = 1, **changes: Any) -> dict[str, Any]:
    counts = {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0}
    return ended("anthropic", "") | {"id": f"msgbatch_{number}", "request_counts": counts} | changes


def page(*batches: dict[str, Any], more: bool = False) -> Reply:
    last = batches[-1]["id"] if batches else None
    return Reply({"data": list(batches), "has_more": more, "first_id": None, "last_id": last})


def message(**changes: Any) -> dict[str, Any]:
    shown = {
        "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn", "model": "claude-haiku-4-5",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    } | changes  # fmt: skip
    return {"custom_id": "j1_a7", "result": {"type": "succeeded", "message": shown}}


def test_a_request_is_one_that_the_sdk_could_have_made(wire: Wire) -> None:
    prompt = Prompt("u", "s", SCHEMA, "name", 500)
    line = orjson.loads(wire.provider.render("j1_a7", "claude-haiku-4-5", "chat", prompt))
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


def test_what_anthropic_refuses_in_a_schema_is_not_sent(wire: Wire) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "array", "items": {"type": "string", "maxLength": 9}}}}
    line = wire.provider.render("j1_a7", "claude-haiku-4-5", "chat", Prompt("u", schema=schema))
    shown = orjson.loads(line)["params"]["output_config"]["format"]["schema"]
    assert "maxLength" not in shown["properties"]["n"]["items"]
    assert "temperature" not in orjson.loads(line)["params"]


def test_a_prompt_goes_to_the_chat_endpoint_only(wire: Wire) -> None:
    with pytest.raises(Rejected, match="does not take a Prompt"):
        wire.provider.render("j1_a7", "claude-haiku-4-5", "embeddings", Prompt("u"))


@given(st.lists(st.text(max_size=40), min_size=1, max_size=20), st.booleans())
def test_the_create_is_the_lines_as_one_json_list(tmp_path_factory: Any, texts: list[str], newline: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({"text": text}) for text in texts) + b"\n" * newline)
    length, body = _create_body(path)
    sent = b"".join(body)
    assert len(sent) == length
    assert orjson.loads(sent) == {"requests": [{"text": text} for text in texts]}


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [("end_turn", "succeeded"), ("refusal", "refused"), ("max_tokens", "truncated"),
     ("model_context_window_exceeded", "truncated")],
)  # fmt: skip
def test_how_an_answer_stopped_is_its_outcome(wire: Wire, reason: str, outcome: str) -> None:
    (line,) = wire.read(message(stop_reason=reason))
    assert (readable(line).outcome, readable(line).billed) == (outcome, True)


def test_cached_tokens_are_a_part_of_the_input(wire: Wire) -> None:
    tokens = {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 5}
    (line,) = wire.read(message(usage=tokens))
    assert readable(line).usage == Usage(18, 2, 10, (("cache_write_tokens", 5),))


@pytest.mark.fault(33)
def test_a_result_of_an_unknown_type_is_not_taken_for_a_success(wire: Wire) -> None:
    (line,) = wire.read({"custom_id": "j1_a7", "result": {"type": "postponed"}})
    assert isinstance(line, UnreadableLine) and "postponed" in line.reason


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [("api_error", True), ("overloaded_error", True), ("rate_limit_error", True), ("timeout_error", True),
     ("invalid_request_error", False), ("not_found_error", False)],
)  # fmt: skip
def test_an_errored_request_goes_again_where_it_was_not_at_fault(wire: Wire, kind: str, retryable: bool) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "m"}}
    (line,) = wire.read({"custom_id": "j1_a7", "result": {"type": "errored", "error": error}})
    found = readable(line)
    assert (found.outcome, found.billed, found.retryable, found.error) == ("errored", False, retryable, f"{kind}: m")


@pytest.mark.parametrize("line", [{}, {"custom_id": 1, "result": {"type": "expired"}}, {"custom_id": "a", "result": 1}])
def test_a_line_of_another_shape_is_kept_as_it_came(wire: Wire, line: Any) -> None:
    (found,) = wire.read(line)
    assert isinstance(found, UnreadableLine) and orjson.loads(found.raw) == line


def test_the_create_carries_the_sdks_own_key_and_version(wire: Wire) -> None:
    wire.server.say(Reply(batch()))
    assert wire.provider.submit(*wire.submission()) == "msgbatch_1"
    (asked,) = wire.server.seen
    assert (asked.method, asked.path) == ("POST", "/v1/messages/batches")
    assert asked.body == b'{"requests":[{"custom_id":"j1_a7"}]}'
    assert "anthropic-version: " in asked.headers.lower() and "authorization: bearer " in asked.headers.lower()


@pytest.mark.fault(22)
def test_a_refused_envelope_names_the_requests_at_fault(wire: Wire) -> None:
    message = "requests.3.custom_id: String should match; requests.14.custom_id: used more than once"
    error = wire.submit(Reply(error_body("anthropic", 400, message, "invalid_request_error"), 400))
    assert isinstance(error, Rejected) and error.requests == (3, 14)


@pytest.mark.fault(37)
def test_a_full_queue_refuses_the_create(lab: Lab) -> None:
    lab.emulator.control("POST", "limits", {"provider": "anthropic", "account": lab.account, "tokens": 1})
    with pytest.raises(Throttled):
        lab.send(*texts(2))
    assert lab.posts() == [429]


@pytest.mark.fault(36)
def test_a_retired_model_errs_in_its_own_requests_only(lab: Lab) -> None:
    submission, path = lab.job(texts(2))
    first, second = path.read_bytes().splitlines()
    path.write_bytes(first + b"\n" + second.replace(submission.model.encode(), b"claude-2.1") + b"\n")
    batch_id = lab.provider.submit(submission, path)
    lab.end(batch_id)
    good, retired = (readable(line) for line in lab.lines(batch_id))
    assert (good.outcome, retired.outcome, retired.billed, retired.retryable) == ("succeeded", "errored", False, False)
    assert (retired.error or "").startswith("not_found_error: ")


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    "message",
    [
        "Your credit balance is too low to access the Anthropic API.",
        "You have reached your specified API usage limits.",
    ],
)
def test_trouble_with_the_account_stops_everything(wire: Wire, message: str) -> None:
    assert (
        type(wire.submit(Reply(error_body("anthropic", 400, message, "invalid_request_error"), 400))) is AccountRefused
    )


def test_candidates_are_of_the_right_time_and_size(wire: Wire) -> None:
    intent = wire.submission()[0].intent_at
    assert intent
    two = {"processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    later, skewed, before = ((intent + timedelta(seconds=seconds)).isoformat() for seconds in (30, -90, -150))
    found = wire.find(
        page(
            batch(1, created_at=later),
            batch(2, created_at=later, request_counts=two),
            batch(3, created_at=skewed),
            batch(4, created_at=before),
        )
    )
    assert [(one.provider_batch_id, one.certain) for one in found] == [("msgbatch_1", False), ("msgbatch_3", False)]


def test_the_list_is_read_on_until_a_page_is_too_old(wire: Wire) -> None:
    old = (NOW - timedelta(days=3000)).isoformat()
    young = page(batch(1, created_at="2100-01-01T00:00:00Z"), batch(2, created_at=old), more=True)
    assert len(wire.find(young, page(batch(3, created_at=old), more=True))) == 1
    assert [asked.path.split("after_id=")[-1] for asked in wire.server.seen[1:]] == ["msgbatch_2"]
    with pytest.raises(Transient):
        wire.find(page(more=True))


@pytest.mark.parametrize(
    ("status", "phase"), [("in_progress", "running"), ("canceling", "running"), ("ended", "ended")]
)
def test_every_status_has_its_phase_and_counts_only_at_the_end(wire: Wire, status: str, phase: str) -> None:
    state = wire.state(batch(processing_status=status))
    assert (state.status, state.phase, state.unknown) == (status, phase, False)
    assert (state.counts is not None) == (phase == "ended")


@pytest.mark.fault(35)
def test_archived_results_are_gone_and_results_to_come_are_not(wire: Wire) -> None:
    wire.server.say(Reply(batch(archived_at=NOW.isoformat(), results_url=None)))
    with pytest.raises(Absent, match="archived") as caught:
        list(wire.provider.iter_results("msgbatch_1"))
    assert caught.value.status == 410
    wire.server.say(Reply(batch(processing_status="in_progress", results_url=None)))
    with pytest.raises(Transient):
        list(wire.provider.iter_results("msgbatch_1"))


@pytest.mark.fault(35)
def test_results_that_are_not_found_are_gone_though_nothing_says_archived(wire: Wire) -> None:
    with pytest.raises(Absent, match="not keep") as caught:
        wire.results(Reply(error_body("anthropic", 404, "no longer available", "not_found_error"), 404))
    assert caught.value.status == 410

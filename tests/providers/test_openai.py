"""OpenAI's own ways."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import openai
import orjson
import pytest
from openai.types import EmbeddingCreateParams
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from nightbatch.core.errors import Absent, AccountRefused, Rejected, Transient
from nightbatch.core.models import EmbeddingInput, Prompt, ProviderName, Request, UnreadableLine, Usage
from tests.providers.bodies import MODELS, SCHEMA, ended, expired_line, list_of, result_line
from tests.providers.lab import Lab, readable, texts
from tests.providers.loopback import Reply, Wire

BATCH = ended("openai", "") | {"output_file_id": None, "error_file_id": None}


@pytest.fixture
def name() -> ProviderName:
    return "openai"


def body_of(wire: Wire, endpoint: Any, request: Request) -> tuple[str, dict[str, Any]]:
    line = orjson.loads(wire.provider.render("j1_a7", MODELS["openai"], endpoint, request))
    assert (line["custom_id"], line["method"]) == ("j1_a7", "POST")
    return line["url"], line["body"]


def done(body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    return {"id": "r", "custom_id": "j1_a7", "response": {"status_code": status, "body": body}, "error": None}


@pytest.mark.parametrize(
    ("endpoint", "url", "kind", "request_"),
    [
        ("chat", "/v1/chat/completions", CompletionCreateParamsNonStreaming, Prompt("u", "s", SCHEMA, "name")),
        ("responses", "/v1/responses", ResponseCreateParamsNonStreaming, Prompt("u", "s", SCHEMA, "name")),
        ("embeddings", "/v1/embeddings", EmbeddingCreateParams, EmbeddingInput(("a", "b"), 256)),
    ],
)
def test_a_body_is_one_that_the_sdk_could_have_made(
    wire: Wire, endpoint: Any, url: str, kind: Any, request_: Request
) -> None:
    found, body = body_of(wire, endpoint, request_)
    assert found == url
    TypeAdapter(kind).validate_python(body)
    assert body.keys() <= kind.__annotations__.keys() | kind.__mro__[0].__annotations__.keys()


def test_a_schema_is_strict_in_each_endpoints_own_shape(wire: Wire) -> None:
    prompt = Prompt("u", schema=SCHEMA, schema_name="judgement")
    strict = {"name": "judgement", "strict": True, "schema": SCHEMA}
    assert body_of(wire, "chat", prompt)[1]["response_format"] == {"type": "json_schema", "json_schema": strict}
    assert body_of(wire, "responses", prompt)[1]["text"] == {"format": {"type": "json_schema", **strict}}


def test_a_request_on_the_wrong_endpoint_is_rejected(wire: Wire) -> None:
    with pytest.raises(Rejected, match="does not take a EmbeddingInput"):
        body_of(wire, "chat", EmbeddingInput(("a",)))
    with pytest.raises(Rejected, match="does not take a Prompt"):
        body_of(wire, "embeddings", Prompt("u"))
    with pytest.raises(Rejected, match="at most 2048 texts"):
        body_of(wire, "embeddings", EmbeddingInput(("a",) * 2049))


def test_responses_come_back_like_chats(lab: Lab) -> None:
    prompts = [Prompt(f"{kind} Judge.", "Be fair.", SCHEMA) for kind in ("", "[[emulator:refusal]]")]
    lines = lab.results(*prompts, "[[emulator:truncate]] Tell.", endpoint="responses")
    assert [readable(line).outcome for line in lines] == ["succeeded", "refused", "truncated"]
    answer = readable(lines[0]).answer
    assert answer and orjson.loads(answer.text or "")["verdict"] in ("run", "drop")


def test_a_request_of_many_texts_keeps_their_order(lab: Lab) -> None:
    together, first, second = (
        readable(line).answer
        for line in lab.results(
            EmbeddingInput(("one", "two"), 8),
            EmbeddingInput(("one",), 8),
            EmbeddingInput(("two",), 8),
            endpoint="embeddings",
        )
    )
    assert together and first and second
    assert together.embeddings == (first.embeddings or ()) + (second.embeddings or ())


def test_the_tag_travels_in_file_name_and_metadata_and_the_input_expires(lab: Lab) -> None:
    submission, path = lab.uploaded()
    lab.provider.submit(submission, path)
    client = openai.OpenAI(api_key=f"emu-{lab.account}", base_url=lab.emulator.openai_url)
    (file,) = client.files.list()
    (batch,) = client.batches.list()
    assert file.filename == f"{submission.tag}.jsonl" and file.expires_at == file.created_at + 14 * 86_400
    assert batch.metadata == {"nightbatch_tag": submission.tag, "nightbatch_batch": "7"}


def test_the_list_is_read_over_all_its_pages(lab: Lab) -> None:
    wanted, path = lab.uploaded(["One."])
    other, other_path = lab.uploaded(["Two."])
    lab.provider.submit(wanted, path)
    for _ in range(101):
        lab.provider.submit(other, other_path)
    assert len(lab.provider.find_submission(wanted)) == 1
    assert len(lab.posts("batch_list")) == 2


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled", "request_timeout", "something_new"])
def test_a_request_that_never_ran_goes_again(wire: Wire, code: str) -> None:
    (line,) = wire.read({"custom_id": "j1_a7", "response": None, "error": {"code": code, "message": "late"}})
    outcome = {"batch_expired": "expired", "batch_cancelled": "cancelled"}.get(code, "errored")
    assert (readable(line).outcome, readable(line).billed, readable(line).retryable) == (outcome, False, True)


def test_a_filtered_answer_is_refused_and_a_response_that_broke_off_goes_again(wire: Wire) -> None:
    chat = {"object": "chat.completion", "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    filtered = chat | {"choices": [{"message": {"content": "I", "refusal": None}, "finish_reason": "content_filter"}]}
    failed = {"object": "response", "status": "failed", "output": [], "error": {"code": "server_error", "message": "m"}}
    first, second = (readable(line) for line in wire.read(done(filtered), done(failed)))
    assert (first.outcome, first.billed, first.usage) == ("refused", True, Usage(5, 2))
    assert (second.outcome, second.billed, second.usage, second.error) == ("errored", False, None, "server_error: m")
    assert second.retryable


@pytest.mark.parametrize(
    "line",
    [
        {}, {"custom_id": 7, "response": {}}, {"custom_id": "j1_a7", "response": None, "error": None},
        {"custom_id": "j1_a7", "response": {"status_code": 200, "body": {"object": "novelty"}}},
        {"custom_id": "j1_a7", "response": {"status_code": 200, "body": {"object": "chat.completion", "choices": []}}},
        {"custom_id": "j1_a7", "response": {"status_code": 200, "body": {"object": "list",
         "data": [{"index": 0, "embedding": ["a", "b"]}]}}},
        {"custom_id": "j1_a7", "response": {"status_code": 200, "body": {"object": "list",
         "data": [{"index": 0, "embedding": "AAAA"}]}}},
    ],
)  # fmt: skip
def test_a_line_of_another_shape_is_kept_as_it_came(wire: Wire, line: Any) -> None:
    (found,) = wire.read(line)
    assert isinstance(found, UnreadableLine) and orjson.loads(found.raw) == line


def test_both_files_are_read(wire: Wire) -> None:
    good, late = result_line("openai", "j1_a1", "fine", Usage(1, 1)), expired_line("j2_a1")
    found = wire.results(json.dumps(good).encode() + b"\n", json.dumps(late).encode())
    assert [(readable(line).custom_id, readable(line).outcome) for line in found] == [
        ("j1_a1", "succeeded"),
        ("j2_a1", "expired"),
    ]


@pytest.mark.fault(28)
@pytest.mark.parametrize("output", [None, ""])
@pytest.mark.parametrize("error", ["", None])
def test_files_that_are_not_there_are_not_asked_for(wire: Wire, output: str | None, error: str | None) -> None:
    """`error_file_id` may be an empty string."""
    counts = {"total": 2, "completed": 0, "failed": 2}
    wire.server.say(Reply(BATCH | {"output_file_id": output, "error_file_id": error, "request_counts": counts}))
    assert list(wire.provider.iter_results("batches/1")) == []
    assert len(wire.server.seen) == 1


@pytest.mark.fault(28)
def test_a_blank_error_file_is_no_file(lab: Lab) -> None:
    batch_id = lab.send(*texts(2))
    lab.end(batch_id)
    lab.fault("batch_get", "blank_error_file", times=None)
    assert len(lab.lines(batch_id)) == 2


@pytest.mark.fault(35)
@pytest.mark.parametrize("status", ["completed", "expired", "cancelled"])
def test_successes_without_a_file_are_gone(wire: Wire, status: str) -> None:
    counts = {"total": 2, "completed": 1, "failed": 1}
    wire.server.say(Reply(BATCH | {"status": status, "error_file_id": "file-e", "request_counts": counts}))
    with pytest.raises(Absent, match="any more") as caught:
        list(wire.provider.iter_results("batches/1"))
    assert caught.value.status == 410


@pytest.mark.fault(35)
@pytest.mark.parametrize("status", [404, 410])
def test_a_file_past_its_retention_is_gone(wire: Wire, status: int) -> None:
    missing = {"error": {"message": "No such File object: file-o", "type": "invalid_request_error", "code": None}}
    with pytest.raises(Absent) as caught:
        wire.results(Reply(missing, status))
    assert caught.value.status == 410


def test_how_far_the_list_is_read(wire: Wire) -> None:
    """A page from long before the intent ends it."""
    since = wire.submission()[0].intent_at
    assert since
    times = int(since.timestamp()), 0
    young, old = (list_of("openai", BATCH | {"created_at": at}) | {"has_more": True} for at in times)
    assert wire.find(Reply(old)) == [] and len(wire.server.seen) == 1
    assert wire.find(Reply(young), Reply(list_of("openai"))) == [] and len(wire.server.seen) == 2


def test_a_list_that_breaks_off_is_not_taken_for_empty(wire: Wire) -> None:
    with pytest.raises(Transient):
        wire.find(Reply({"object": "list", "has_more": True, "data": []}))


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("validating", "running"), ("in_progress", "running"), ("finalizing", "running"), ("cancelling", "running"),
        ("completed", "ended"), ("expired", "ended"), ("cancelled", "ended"), ("failed", "failed"),
    ],
)  # fmt: skip
def test_every_status_has_its_phase(wire: Wire, status: str, phase: str) -> None:
    state = wire.state(BATCH | {"status": status})
    assert (state.status, state.phase, state.unknown) == (status, phase, False)


@pytest.mark.fault(22)
def test_a_failed_batch_names_the_lines_at_fault(lab: Lab) -> None:
    submission, path = lab.job(texts(4))
    good = path.read_bytes().splitlines()[0]
    path.write_bytes(b"\n".join([good, good, b"{no json", good]) + b"\n")
    batch_id = lab.provider.submit(replace(submission, input_file=lab.provider.upload(submission, path)), path)
    state = lab.wait(batch_id)
    assert state.phase == "failed" and state.error
    assert sorted(state.rejected_requests) == [2, 3, 4]
    assert "duplicate" in state.rejected_requests[2] and "invalid_json" in state.rejected_requests[3]
    assert lab.lines(batch_id) == []


@pytest.mark.fault(37)
def test_an_error_of_a_whole_file_names_no_lines(wire: Wire) -> None:
    data = [{"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit reached", "param": None}]
    state = wire.state(BATCH | {"status": "failed", "errors": {"object": "list", "data": data}})
    assert (state.phase, state.error) == ("failed", "token_limit_exceeded: Enqueued token limit reached")
    assert state.rejected_requests == {}


@pytest.mark.fault(37)
def test_the_token_limit_fails_the_batch_and_costs_nothing(lab: Lab) -> None:
    lab.emulator.control("POST", "limits", {"provider": "openai", "account": lab.account, "tokens": 1})
    state = lab.wait(lab.send(*texts(2)))
    assert (state.phase, state.rejected_requests, lab.billed()) == ("failed", {}, [])
    assert state.error and state.error.startswith("token_limit_exceeded: ")


@pytest.mark.fault(36)
def test_a_retired_model_fails_the_batch_and_costs_nothing(lab: Lab) -> None:
    submission, path = lab.job(texts(2))
    path.write_bytes(path.read_bytes().replace(submission.model.encode(), b"gpt-3.5-turbo-0301"))
    retired = replace(submission, model="gpt-3.5-turbo-0301", input_file=lab.provider.upload(submission, path))
    state = lab.wait(lab.provider.submit(retired, path))
    assert (state.phase, lab.billed()) == ("failed", [])
    assert state.error and state.error.startswith("model_not_found: ")


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [(429, "insufficient_quota", "insufficient_quota"), (400, "x", "billing_hard_limit_reached")],
)
def test_trouble_with_the_account_stops_everything(wire: Wire, status: int, kind: str, code: str) -> None:
    assert type(wire.submit(Reply({"error": {"message": "m", "type": kind, "code": code}}, status))) is AccountRefused

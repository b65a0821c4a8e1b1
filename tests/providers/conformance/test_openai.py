"""OpenAI's own ways."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai.types import EmbeddingCreateParams
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from nightbatch.emulator.process import EmulatorProcess
from nightbatch.errors import Rejected, Transient
from nightbatch.models import EmbeddingInput, Prompt, ProviderState, Request, ResultLine, UnreadableLine, Usage
from nightbatch.providers.openai import OpenAIBatches
from tests.providers.conformance.kit import (
    SCHEMA,
    Canned,
    Lab,
    adapter_for,
    canned,
    plain_submission,
    readable,
    texts,
)  # fmt: skip

MODEL = "gpt-4o-mini"
BATCH: dict[str, Any] = {
    "id": "batch_1", "object": "batch", "endpoint": "/v1/responses", "errors": None, "input_file_id": "file-1",
    "completion_window": "24h", "status": "in_progress", "created_at": 1_795_000_000, "metadata": None,
}  # fmt: skip


@pytest.fixture
def openai(emulator: EmulatorProcess, tmp_path: Path) -> Lab:
    return Lab(emulator, "openai", tmp_path)


def body_of(endpoint: Any, request: Request) -> tuple[str, dict[str, Any]]:
    line = orjson.loads(OpenAIBatches(api_key="k").render("j1_a7", MODEL, endpoint, request))
    assert (line["custom_id"], line["method"]) == ("j1_a7", "POST")
    return line["url"], line["body"]


def state_of(**changes: Any) -> ProviderState:
    with canned(Canned(200, BATCH | changes)) as server:
        return asyncio.run(adapter_for("openai", server).get_state("batch_1"))


def read(*lines: dict[str, Any]) -> list[ResultLine | UnreadableLine]:
    batch = BATCH | {"status": "completed", "output_file_id": "file-o", "error_file_id": ""}
    body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    with canned(Canned(200, batch), Canned(200, body)) as server:
        return list(adapter_for("openai", server).iter_results("batch_1"))


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
def test_a_body_is_one_that_the_sdk_could_have_made(endpoint: Any, url: str, kind: Any, request_: Request) -> None:
    found, body = body_of(endpoint, request_)
    assert found == url
    TypeAdapter(kind).validate_python(body)
    assert body.keys() <= kind.__annotations__.keys() | kind.__mro__[0].__annotations__.keys()


def test_a_schema_is_strict_in_each_endpoints_own_shape() -> None:
    prompt = Prompt("u", schema=SCHEMA, schema_name="judgement")
    strict = {"name": "judgement", "strict": True, "schema": SCHEMA}
    assert body_of("chat", prompt)[1]["response_format"] == {"type": "json_schema", "json_schema": strict}
    assert body_of("responses", prompt)[1]["text"] == {"format": {"type": "json_schema", **strict}}


def test_a_request_on_the_wrong_endpoint_is_rejected() -> None:
    with pytest.raises(Rejected, match="does not take a EmbeddingInput"):
        body_of("chat", EmbeddingInput(("a",)))
    with pytest.raises(Rejected, match="does not take a Prompt"):
        body_of("embeddings", Prompt("u"))
    with pytest.raises(Rejected, match="at most 2048 texts"):
        body_of("embeddings", EmbeddingInput(("a",) * 2049))


def test_responses_come_back_like_chats(openai: Lab) -> None:
    prompts = [Prompt(f"{kind} Judge.", "Be fair.", SCHEMA) for kind in ("", "[[emulator:refusal]]")]
    lines = openai.results(*prompts, "[[emulator:truncate]] Tell.", endpoint="responses")
    assert [readable(line).outcome for line in lines] == ["succeeded", "refused", "truncated"]
    answer = readable(lines[0]).answer
    assert answer and orjson.loads(answer.text or "")["verdict"] in ("run", "drop")


def test_a_request_of_many_texts_keeps_their_order(openai: Lab) -> None:
    together, first, second = (
        readable(line).answer
        for line in openai.results(
            EmbeddingInput(("one", "two"), 8),
            EmbeddingInput(("one",), 8),
            EmbeddingInput(("two",), 8),
            endpoint="embeddings",
        )
    )
    assert together and first and second
    assert together.embeddings == (first.embeddings or ()) + (second.embeddings or ())


def test_the_tag_travels_in_file_name_and_metadata_and_the_input_expires(openai: Lab) -> None:
    submission, path = openai.uploaded()
    openai.provider.submit(submission, path)
    import openai as sdk

    client = sdk.OpenAI(api_key=f"emu-{openai.account}", base_url=openai.emulator.openai_url)
    (file,) = client.files.list()
    (batch,) = client.batches.list()
    assert file.filename == f"{submission.tag}.jsonl" and file.expires_at == file.created_at + 7 * 86_400
    assert batch.metadata == {"nightbatch_tag": submission.tag, "nightbatch_batch": "7"}


def test_a_blank_error_file_is_no_file(openai: Lab) -> None:
    batch_id = openai.send(*texts(2))
    openai.end(batch_id)
    openai.fault("batch_get", "blank_error_file", times=None)
    assert len(openai.lines(batch_id)) == 2


def test_a_batch_with_an_error_file_only_is_loaded(openai: Lab) -> None:
    lines = openai.results("[[emulator:error=400]]", "[[emulator:error=429]]")
    assert [(readable(line).outcome, readable(line).billed) for line in lines] == [("errored", False)] * 2


def test_the_list_is_read_over_all_its_pages(openai: Lab) -> None:
    wanted, path = openai.uploaded(["One."])
    other, other_path = openai.uploaded(["Two."])
    openai.provider.submit(wanted, path)
    for _ in range(101):
        openai.provider.submit(other, other_path)
    assert len(openai.provider.find_submission(wanted)) == 1
    assert len(openai.posts("batch_list")) == 2


@pytest.mark.parametrize(
    ("created", "pages"),
    [(0, 1), (86_400 * 10, 2)],
    ids=["a page from long before the intent ends it", "else it goes on"],
)
def test_how_far_the_list_is_read(tmp_path: Path, created: int, pages: int) -> None:
    submission, _ = plain_submission("openai", tmp_path)
    assert submission.intent_at
    page = {"object": "list", "has_more": True, "data": [BATCH | {"created_at": created}]}
    if created:
        page["data"] = [BATCH | {"created_at": int(submission.intent_at.timestamp())}]
    with canned(Canned(200, page), Canned(200, {"object": "list", "has_more": False, "data": []})) as server:
        assert adapter_for("openai", server).find_submission(submission) == []
        assert len(server.seen) == pages


def test_a_list_that_breaks_off_is_not_taken_for_empty(tmp_path: Path) -> None:
    with canned(Canned(200, {"object": "list", "has_more": True, "data": []})) as server, pytest.raises(Transient):
        adapter_for("openai", server).find_submission(plain_submission("openai", tmp_path)[0])


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("validating", "running"), ("in_progress", "running"), ("finalizing", "running"), ("cancelling", "running"),
        ("completed", "ended"), ("expired", "ended"), ("cancelled", "ended"), ("failed", "failed"),
    ],
)  # fmt: skip
def test_every_status_has_its_phase(status: str, phase: str) -> None:
    state = state_of(status=status)
    assert (state.status, state.phase, state.unknown) == (status, phase, False)


def test_a_failed_batch_names_the_lines_at_fault(openai: Lab) -> None:
    submission, path = openai.job(texts(2))
    good = path.read_bytes().splitlines()[0]
    path.write_bytes(b"\n".join([good, good, b"{no json", good]) + b"\n")
    batch_id = openai.provider.submit(
        type(submission)(7, submission.tag, MODEL, "chat", 4, openai.provider.upload(submission, path)), path
    )
    while (state := openai.state(batch_id)).phase == "running":
        pass
    assert state.phase == "failed" and state.error
    assert sorted(state.rejected_requests) == [2, 3, 4]
    assert "duplicate" in state.rejected_requests[2] and "invalid_json" in state.rejected_requests[3]
    assert list(openai.provider.iter_results(batch_id)) == []


def test_an_error_of_a_whole_file_names_no_lines() -> None:
    data = [{"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit reached", "param": None}]
    state = state_of(status="failed", errors={"object": "list", "data": data})
    assert (state.error, state.rejected_requests) == ("token_limit_exceeded: Enqueued token limit reached", {})


def test_results_past_their_retention_are_gone() -> None:
    batch = BATCH | {"status": "completed", "output_file_id": "file-o"}
    missing = {"error": {"message": "No such File object: file-o", "type": "invalid_request_error", "code": None}}
    with (
        canned(Canned(200, batch), Canned(404, missing)) as server,
        pytest.raises(Rejected, match="not keep") as caught,
    ):
        list(adapter_for("openai", server).iter_results("batch_1"))
    assert caught.value.status == 410


def test_a_download_that_loses_its_last_bytes_is_cut_short() -> None:
    batch = BATCH | {"status": "completed", "output_file_id": "file-o"}
    whole = orjson.dumps(done({"error": {"message": "m"}}, 400)) + b"\n"
    with canned(Canned(200, batch), Canned(200, whole, short=1)) as server, pytest.raises(Transient):
        list(adapter_for("openai", server).iter_results("batch_1"))
    with (
        canned(Canned(200, batch), Canned(200, whole[:-9])) as server,
        pytest.raises(Transient, match="middle of a line"),
    ):
        list(adapter_for("openai", server).iter_results("batch_1"))


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled", "request_timeout", "something_new"])
def test_a_request_that_never_ran_goes_again(code: str) -> None:
    (line,) = read({"custom_id": "j1_a7", "response": None, "error": {"code": code, "message": "late"}})
    outcome = {"batch_expired": "expired", "batch_cancelled": "cancelled"}.get(code, "errored")
    assert (readable(line).outcome, readable(line).billed, readable(line).retryable) == (outcome, False, True)


def test_a_filtered_answer_is_refused_and_a_broken_response_is_an_error_that_was_paid() -> None:
    chat = {"object": "chat.completion", "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    filtered = chat | {"choices": [{"message": {"content": "I", "refusal": None}, "finish_reason": "content_filter"}]}
    failed = {"object": "response", "status": "failed", "output": [], "error": {"code": "server_error", "message": "m"}}
    first, second = (readable(line) for line in read(done(filtered), done(failed)))
    assert (first.outcome, first.billed, first.usage) == ("refused", True, Usage(5, 2))
    assert (second.outcome, second.billed, second.usage, second.error) == ("errored", True, None, "server_error: m")


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": "5", "completion_tokens": 2},
     {"prompt_tokens": 5, "completion_tokens": None}, {"prompt_tokens": 2**40, "completion_tokens": 2}],
)  # fmt: skip
def test_a_usage_that_cannot_be_is_unknown(usage: Any) -> None:
    choice = {"message": {"content": "text"}, "finish_reason": "stop"}
    (line,) = read(done({"object": "chat.completion", "choices": [choice], "usage": usage}))
    assert (readable(line).outcome, readable(line).usage) == ("succeeded", None)


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
def test_a_line_of_another_shape_is_kept_as_it_came(line: Any) -> None:
    (found,) = read(line)
    assert isinstance(found, UnreadableLine) and orjson.loads(found.raw) == line

"""Gemini's own ways."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.genai import types

from nightbatch.emulator.process import EmulatorProcess
from nightbatch.errors import Rejected, Throttled, Transient
from nightbatch.models import EmbeddingInput, Prompt, ProviderState, ResultLine, UnreadableLine, Usage
from nightbatch.providers.gemini import GeminiBatches
from tests.providers.conformance.kit import (
    SCHEMA,
    Canned,
    Lab,
    adapter_for,
    canned,
    embeddings,
    plain_submission,
    readable,
)  # fmt: skip

OUTPUT = {"responsesFile": "files/batch-" + "x" * 40}


@pytest.fixture
def gemini(emulator: EmulatorProcess, tmp_path: Path) -> Lab:
    return Lab(emulator, "gemini", tmp_path)


def operation(state: str | None = "BATCH_STATE_RUNNING", metadata: Any = None, **changes: Any) -> dict[str, Any]:
    shown = {"state": state, "createTime": "2026-11-23T02:00:00.123456789Z"} | (metadata or {})
    return {"name": "batches/1", "metadata": shown, "done": False} | changes


def state_of(shown: dict[str, Any]) -> ProviderState:
    with canned(Canned(200, shown)) as server:
        return asyncio.run(adapter_for("gemini", server).get_state("batches/1"))


def read(*lines: dict[str, Any]) -> list[ResultLine | UnreadableLine]:
    ended = operation("BATCH_STATE_SUCCEEDED", response=OUTPUT, done=True)
    body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    with canned(Canned(200, ended), Canned(200, body)) as server:
        return list(adapter_for("gemini", server).iter_results("batches/1"))


def response(**changes: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": [{"text": "Hello"}]}, "finishReason": "STOP"}
    tokens = {"promptTokenCount": 5, "candidatesTokenCount": 2}
    shown = {"candidates": [candidate], "usageMetadata": tokens, "modelVersion": "m"} | changes
    return {"key": "j1_a7", "response": shown}


def schema_of(schema: dict[str, Any]) -> dict[str, Any]:
    line = GeminiBatches(api_key="k").render("j1_a7", "m", "chat", Prompt("u", schema=schema))
    found: dict[str, Any] = orjson.loads(line)["request"]["generationConfig"]["responseSchema"]
    types.Schema.model_validate(found)  # it refuses fields that it does not know
    return found


def test_a_request_is_one_that_the_sdk_could_have_made() -> None:
    line = orjson.loads(GeminiBatches(api_key="k").render("j1_a7", "m", "chat", Prompt("u", "s", SCHEMA, "name", 500)))
    body = line.pop("request")
    assert line == {"key": "j1_a7"} and body.keys() == {"contents", "generationConfig", "systemInstruction"}
    types.Content.model_validate(body["systemInstruction"])
    types.GenerationConfig.model_validate(body["generationConfig"])
    assert [types.Content.model_validate(content).role for content in body["contents"]] == ["user"]
    assert body["generationConfig"] == {
        "maxOutputTokens": 500,
        "responseMimeType": "application/json",
        "responseSchema": {
            "type": "object",
            "properties": {
                "verdict": {"type": "string", "format": "enum", "enum": ["run", "drop"]},
                "score": {"type": "integer", "minimum": 1, "maximum": 10},
            },
            "propertyOrdering": ["verdict", "score"],
            "required": ["verdict", "score"],
        },
    }


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"},
         {"type": "string", "nullable": True, "description": "d"}),
        ({"type": ["integer", "null"], "maximum": 9}, {"type": "integer", "nullable": True, "maximum": 9}),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
         {"anyOf": [{"type": "string"}, {"type": "integer"}], "nullable": True}),
        ({"oneOf": [{"type": "string"}, {"type": "boolean"}]}, {"anyOf": [{"type": "string"}, {"type": "boolean"}]}),
        ({"type": ["string", "integer"]}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"const": "run"}, {"type": "string", "format": "enum", "enum": ["run"]}),
        ({"type": "integer", "enum": [1, 2]}, {"type": "integer", "format": "enum", "enum": ["1", "2"]}),
        ({"enum": ["a", None]}, {"type": "string", "format": "enum", "enum": ["a"], "nullable": True}),
        ({"type": "boolean", "const": True}, {"type": "boolean"}),
        ({"type": "string", "format": "uuid", "pattern": "x", "title": "T"}, {"type": "string"}),
        ({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        ({"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}, "maxItems": 3},
         {"type": "array", "items": {"type": "number"}, "maxItems": 3}),
    ],
)  # fmt: skip
def test_a_schema_in_the_words_that_gemini_knows(given: dict[str, Any], made: dict[str, Any]) -> None:
    found = schema_of({"type": "object", "properties": {"type": given}, "additionalProperties": False})
    assert found == {"type": "object", "properties": {"type": made}, "propertyOrdering": ["type"]}


def test_a_schema_that_holds_itself_is_rejected() -> None:
    node = {"type": "object", "properties": {"child": {"$ref": "#/$defs/Node"}}}
    with pytest.raises(Rejected, match="Node holds itself"):
        schema_of({"$ref": "#/$defs/Node", "$defs": {"Node": node}})


def test_every_job_types_schema_can_be_sent() -> None:
    from nightbatch.job_types import job_types

    for kind in job_types().values():
        if "gemini" in kind.models and kind.endpoint("gemini") == "chat":
            schema_of(kind.schema)


def test_an_embedding_takes_one_text() -> None:
    provider = GeminiBatches(api_key="k")
    line = orjson.loads(provider.render("j1_a7", "m", "embeddings", EmbeddingInput(("a",), 8)))
    assert line["request"] == {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 8}
    with pytest.raises(Rejected, match="one text per embedding request"):
        provider.render("j1_a7", "m", "embeddings", EmbeddingInput(("a", "b")))


@pytest.mark.filterwarnings("ignore:batches.create_embeddings")
def test_an_embedding_has_its_tokens(gemini: Lab) -> None:
    (line,) = gemini.results(*embeddings("A harbour in the north."), endpoint="embeddings")
    assert readable(line).usage == Usage(6, 0)
    vectors = {"embedding": {"values": [0.5, 1]}}
    for extra, usage in (
        ({"tokenCount": "7"}, Usage(7, 0)),
        ({"usageMetadata": {"promptTokenCount": 9}}, Usage(9, 0)),
        ({}, None),
    ):
        (line,) = read({"key": "j1_a7", "response": vectors | extra})
        assert readable(line).usage == usage


def test_file_and_batch_carry_the_tag_and_the_version_is_stated(gemini: Lab) -> None:
    submission, path = gemini.uploaded()
    gemini.provider.submit(submission, path)
    name = (submission.input_file or "").removeprefix("files/")
    assert name.startswith(submission.tag)
    assert len(name) <= 40
    paths = {seen["path"] for seen in gemini.emulator.log() if seen["account"] == gemini.account}
    assert paths == {"/gemini/upload/v1beta/files", "/gemini/v1beta/models/gemini-2.5-flash:batchGenerateContent"} or (
        all("/v1beta/" in path for path in paths)
    )


def test_an_upload_that_is_repeated_makes_a_file_of_another_name(gemini: Lab) -> None:
    """One that arrives late, after the fence, must not bring back what the fence has deleted."""
    submission, path = gemini.uploaded(["One."])
    assert gemini.provider.upload(submission, path) != submission.input_file
    import google.genai

    client = google.genai.Client(
        api_key=f"emu-{gemini.account}", http_options={"base_url": gemini.emulator.gemini_url, "api_version": "v1beta"}
    )
    file = client.files.get(name=submission.input_file or "")
    assert file.size_bytes == path.stat().st_size
    assert (file.display_name or "").startswith(submission.tag)
    assert file.mime_type == "jsonl"


@pytest.mark.parametrize(("state", "error"), [("ACTIVE", None), ("FAILED", Rejected), ("PROCESSING", Transient)])
def test_a_file_is_used_when_it_is_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, error: type[Exception] | None
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr("nightbatch.providers.gemini._ACTIVE_SECONDS", 0.2)
    submission, path = plain_submission("gemini", tmp_path)
    with canned(Canned()) as server:
        start = Canned(200, {}, {"X-Goog-Upload-URL": f"{server.url}/put", "X-Goog-Upload-Status": "active"})
        first = {"name": "files/nb-1", "state": "PROCESSING", "sizeBytes": str(path.stat().st_size)}
        put = Canned(200, {"file": first}, {"X-Goog-Upload-Status": "final"})
        server.answers[:] = [start, put, Canned(200, first), Canned(200, first | {"state": state})]
        provider = adapter_for("gemini", server)
        if error is None:
            assert provider.upload(submission, path) == "files/nb-1"
            assert [method for method, _, _ in server.seen] == ["POST", "POST", "GET", "GET"]
        else:
            with pytest.raises(error):
                provider.upload(submission, path)


def test_an_upload_that_breaks_off_is_transient(gemini: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    submission, path = gemini.job(["One."])
    gemini.fault("file_upload", "refuse", status=503, times=None)
    with pytest.raises(Transient):
        gemini.provider.upload(submission, path)


def test_a_list_is_read_over_all_its_pages(tmp_path: Path) -> None:
    submission, _ = plain_submission("gemini", tmp_path)
    named = operation(metadata={"displayName": submission.tag})
    answers = [
        {"operations": [operation(metadata={"displayName": "another"})], "nextPageToken": "a/b+c"},
        {"nextPageToken": "d"},
        {"operations": [named]},
    ]
    with canned(*(Canned(200, answer) for answer in answers)) as server:
        (found,) = adapter_for("gemini", server).find_submission(submission)
    assert (found.provider_batch_id, found.certain) == ("batches/1", True)
    assert [path.split("pageToken=")[1] for _, path, _ in server.seen] == ["", "a%2Fb%2Bc", "d"]


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        *((word, "running") for word in ("PENDING", "RUNNING", "QUEUED", "UPDATING", "PAUSED", "CANCELLING")),
        *((word, "ended") for word in ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "CANCELLED", "EXPIRED")),
        ("FAILED", "failed"),
    ],
)
def test_every_status_has_its_phase(word: str, phase: str) -> None:
    for prefix in ("BATCH_STATE_", "JOB_STATE_"):
        state = state_of(operation(prefix + word))
        assert (state.status, state.phase, state.unknown) == (word, phase, False)


def test_the_raw_operation_tells_error_and_counts() -> None:
    stats = {"requestCount": "5", "successfulRequestCount": "3", "failedRequestCount": "2"}
    state = state_of(operation("BATCH_STATE_PARTIALLY_SUCCEEDED", {"batchStats": stats}, response=OUTPUT, done=True))
    assert state.counts and (state.counts.total, state.counts.succeeded, state.counts.errored) == (5, 3, 2)
    assert state.created_at and state.created_at.isoformat() == "2026-11-23T02:00:00.123456+00:00"
    failed = state_of(operation("BATCH_STATE_FAILED", error={"code": 8, "message": "Quota."}, done=True))
    assert failed.error == "RESOURCE_EXHAUSTED: Quota."
    assert state_of(operation("BATCH_STATE_SUCCEEDED", response=OUTPUT, done=True)).counts is None


def test_an_operation_that_is_done_without_a_state_is_over() -> None:
    assert state_of(operation(None, done=True, error={"code": 13, "message": "m"})).phase == "failed"
    assert state_of(operation("BATCH_STATE_UNSPECIFIED", done=True, response=OUTPUT)).phase == "ended"
    assert state_of(operation(None)).unknown


@pytest.mark.parametrize(
    ("changes", "outcome", "reason"),
    [
        ({}, "succeeded", "STOP"),
        ({"candidates": [{"finishReason": "MAX_TOKENS"}]}, "truncated", "MAX_TOKENS"),
        ({"candidates": [{"finishReason": "SAFETY", "content": {}}]}, "refused", "SAFETY"),
        ({"candidates": [{"finishReason": "STOP", "content": {"role": "model"}}]}, "refused", "STOP"),
        ({"candidates": []}, "refused", "no candidate"),
        ({"candidates": [], "promptFeedback": {"blockReason": "OTHER"}}, "refused", "OTHER"),
        ({"candidates": [{"content": {"parts": [{"text": "x", "thought": True}]}}]}, "refused", "no candidate"),
    ],
)
def test_a_candidate_may_have_no_parts(changes: dict[str, Any], outcome: str, reason: str) -> None:
    (line,) = read(response(**changes))
    found = readable(line)
    assert found.answer and (found.outcome, found.billed, found.answer.finish_reason) == (outcome, True, reason)


def test_thoughts_are_output_and_cached_tokens_a_part_of_the_input() -> None:
    tokens = {"promptTokenCount": 9, "candidatesTokenCount": 2, "thoughtsTokenCount": 40, "cachedContentTokenCount": 4}
    (line,) = read(response(usageMetadata=tokens))
    assert readable(line).usage == Usage(9, 42, 4)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"promptTokenCount": -1},
        {"promptTokenCount": "5"},
        {"promptTokenCount": 5, "candidatesTokenCount": -2},
    ],
)
def test_a_usage_that_cannot_be_is_unknown(usage: Any) -> None:
    (line,) = read(response(usageMetadata=usage))
    assert (readable(line).outcome, readable(line).usage) == ("succeeded", None)


@pytest.mark.parametrize(
    ("code", "outcome", "retryable"),
    [(3, "errored", False), (8, "errored", True), (14, "errored", True), (1, "cancelled", True), (503, "errored", True),
     (400, "errored", False), (None, "errored", False)],
)  # fmt: skip
def test_an_errored_line_is_not_billed(code: int | None, outcome: str, retryable: bool) -> None:
    (line,) = read({"key": "j1_a7", "error": {"code": code, "message": "m"}})
    found = readable(line)
    assert (found.outcome, found.billed, found.retryable) == (outcome, False, retryable)


@pytest.mark.parametrize("line", [{}, {"key": 1, "response": {}}, {"key": "a", "response": []}, {"key": "a"}])
def test_a_line_of_another_shape_is_kept_as_it_came(line: Any) -> None:
    (found,) = read(line)
    assert isinstance(found, UnreadableLine) and orjson.loads(found.raw) == line


def test_a_file_that_may_not_exist_is_not_there(tmp_path: Path) -> None:
    """Gemini answers 403 for a file that was deleted; it is no reason to stop the account."""
    message = "You do not have permission to access the File nb-1 or it may not exist."
    gone = Canned(403, {"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}})
    submission, path = plain_submission("gemini", tmp_path)
    with canned(gone) as server:
        provider = adapter_for("gemini", server)
        provider.fence(submission)
        with pytest.raises(Rejected) as caught:
            provider.submit(submission, path)
    assert caught.value.status == 404


def test_the_wait_that_gemini_asks_for_stands_in_its_body(tmp_path: Path) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure"}, {"retryDelay": "37.5s"}]
    error = {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED", "details": details}
    with canned(Canned(429, {"error": error})) as server, pytest.raises(Throttled) as caught:
        adapter_for("gemini", server).submit(*plain_submission("gemini", tmp_path))
    assert caught.value.retry_after == 37.5


def test_the_base_url_of_the_environment_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    with canned(Canned(200, {})) as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
        GeminiBatches(api_key="k").check()
    assert [path for _, path, _ in server.seen] == ["/v1beta/batches?pageSize=1"]

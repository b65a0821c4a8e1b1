"""Gemini's own ways."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import orjson
import pytest
from google import genai
from google.genai import types

from nightbatch.core.errors import Absent, AccountRefused, Refused, Rejected, Throttled, Transient
from nightbatch.core.models import EmbeddingInput, Prompt, ProviderName, UnreadableLine, Usage
from nightbatch.providers.gemini import GeminiBatches
from tests.providers.bodies import SCHEMA, error_body
from tests.providers.lab import Lab, embeddings, readable, texts
from tests.providers.loopback import Reply, Server, Wire

OUTPUT = {"responsesFile": "files/batch-" + "x" * 40}


@pytest.fixture
def name() -> ProviderName:
    return "gemini"


def operation(state: str | None = "BATCH_STATE_RUNNING", metadata: Any = None, **changes: Any) -> dict[str, Any]:
    shown = {"state": state, "createTime": "2026-11-23T02:00:00.123456789Z"} | (metadata or {})
    return {"name": "batches/1", "metadata": shown, "done": False} | changes


def response(**changes: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": [{"text": "Hello"}]}, "finishReason": "STOP"}
    tokens = {"promptTokenCount": 5, "candidatesTokenCount": 2}
    shown = {"candidates": [candidate], "usageMetadata": tokens, "modelVersion": "m"} | changes
    return {"key": "j1_a7", "response": shown}


def schema_of(wire: Wire, schema: dict[str, Any]) -> dict[str, Any]:
    line = wire.provider.render("j1_a7", "m", "chat", Prompt("u", schema=schema))
    found: dict[str, Any] = orjson.loads(line)["request"]["generationConfig"]["responseSchema"]
    types.Schema.model_validate(found)  # it refuses fields that it does not know
    return found


def test_a_request_is_one_that_the_sdk_could_have_made(wire: Wire) -> None:
    line = orjson.loads(wire.provider.render("j1_a7", "m", "chat", Prompt("u", "s", SCHEMA, "name", 500)))
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
        ({"type": "integer", "enum": [1, 2]}, {"type": "integer", "minimum": 1, "maximum": 2, "description": "{enum: [1,2]}"}),
        ({"enum": ["a", None]}, {"type": "string", "format": "enum", "enum": ["a"], "nullable": True}),
        ({"type": "boolean", "const": True}, {"type": "boolean", "description": "{enum: [true]}"}),
        ({"type": "string", "format": "uuid", "pattern": "x", "title": "T"},
         {"type": "string", "pattern": "x", "description": "{format: uuid}"}),
        ({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        ({"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}, "maxItems": 3},
         {"type": "array", "maxItems": 3,
          "items": {"type": "number", "minimum": 0, "description": "{exclusiveMinimum: 0}"}}),
    ],
)  # fmt: skip
def test_a_schema_in_the_words_that_gemini_knows(wire: Wire, given: dict[str, Any], made: dict[str, Any]) -> None:
    found = schema_of(wire, {"type": "object", "properties": {"type": given}, "additionalProperties": False})
    assert found == {
        "type": "object", "properties": {"type": made}, "required": ["type"], "propertyOrdering": ["type"]
    }  # fmt: skip


def test_a_schema_that_holds_itself_is_rejected(wire: Wire) -> None:
    node = {"type": "object", "properties": {"child": {"$ref": "#/$defs/Node"}}}
    with pytest.raises(Rejected, match=r"\$\.\$defs\.Node: it holds itself"):
        schema_of(wire, {"$ref": "#/$defs/Node", "$defs": {"Node": node}})


def test_every_job_types_schema_can_be_sent(wire: Wire) -> None:
    from nightbatch.job_types import job_types

    for kind in job_types().values():
        if "gemini" in kind.models and kind.name != "historical_reprocessing":
            request = kind.render_request(orjson.dumps(kind.example))
            if isinstance(request, Prompt) and request.schema:
                schema_of(wire, request.schema)


def test_an_embedding_takes_one_text(wire: Wire) -> None:
    provider = wire.provider
    line = orjson.loads(provider.render("j1_a7", "m", "embeddings", EmbeddingInput(("a",), 8)))
    assert line["request"] == {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 8}
    with pytest.raises(Rejected, match="one text per embedding request"):
        provider.render("j1_a7", "m", "embeddings", EmbeddingInput(("a", "b")))


@pytest.mark.filterwarnings("ignore:batches.create_embeddings")
def test_an_embedding_has_its_tokens(lab: Lab, wire: Wire) -> None:
    (line,) = lab.results(*embeddings("A harbour in the north."), endpoint="embeddings")
    assert readable(line).usage == Usage(6, 0)
    vectors = {"embedding": {"values": [0.5, 1]}}
    for extra, usage in (
        ({"tokenCount": "7"}, Usage(7, 0)),
        ({"usageMetadata": {"promptTokenCount": 9}}, Usage(9, 0)),
        ({}, None),
    ):
        (line,) = wire.read({"key": "j1_a7", "response": vectors | extra})
        assert readable(line).usage == usage


def test_file_and_batch_carry_the_tag_and_the_version_is_stated(lab: Lab) -> None:
    submission, path = lab.uploaded()
    lab.provider.submit(submission, path)
    name = (submission.input_file or "").removeprefix("files/")
    assert name.startswith(submission.tag)
    assert len(name) <= 40
    paths = {seen["path"] for seen in lab.emulator.log(lab.account)}
    assert paths == {"/gemini/upload/v1beta/files", "/gemini/v1beta/models/gemini-2.5-flash:batchGenerateContent"} or (
        all("/v1beta/" in path for path in paths)
    )


def test_an_upload_that_breaks_off_is_transient(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    submission, path = lab.job(["One."])
    lab.fault("file_upload", "refuse", status=503, times=None)
    with pytest.raises(Transient):
        lab.provider.upload(submission, path)


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        *((word, "running") for word in ("PENDING", "RUNNING", "QUEUED", "UPDATING", "PAUSED", "CANCELLING")),
        *((word, "ended") for word in ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "CANCELLED", "EXPIRED")),
        ("FAILED", "failed"),
    ],
)
def test_every_status_has_its_phase(wire: Wire, word: str, phase: str) -> None:
    for prefix in ("BATCH_STATE_", "JOB_STATE_"):
        state = wire.state(operation(prefix + word))
        assert (state.status, state.phase, state.unknown) == (word, phase, False)


def test_the_raw_operation_tells_error_and_counts(wire: Wire) -> None:
    stats = {"requestCount": "5", "successfulRequestCount": "3", "failedRequestCount": "2"}
    state = wire.state(operation("BATCH_STATE_PARTIALLY_SUCCEEDED", {"batchStats": stats}, response=OUTPUT, done=True))
    assert state.counts and (state.counts.total, state.counts.succeeded, state.counts.errored) == (5, 3, 2)
    assert state.created_at and state.created_at.isoformat() == "2026-11-23T02:00:00.123456+00:00"
    failed = wire.state(operation("BATCH_STATE_FAILED", error={"code": 8, "message": "Quota."}, done=True))
    assert failed.error == "RESOURCE_EXHAUSTED: Quota."
    assert wire.state(operation("BATCH_STATE_SUCCEEDED", response=OUTPUT, done=True)).counts is None


def test_an_operation_that_is_done_without_a_state_is_over(wire: Wire) -> None:
    assert wire.state(operation(None, done=True, error={"code": 13, "message": "m"})).phase == "failed"
    assert wire.state(operation("BATCH_STATE_UNSPECIFIED", done=True, response=OUTPUT)).phase == "ended"
    assert wire.state(operation(None)).unknown


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
def test_a_candidate_may_have_no_parts(wire: Wire, changes: dict[str, Any], outcome: str, reason: str) -> None:
    (line,) = wire.read(response(**changes))
    found = readable(line)
    assert found.answer and (found.outcome, found.billed, found.answer.finish_reason) == (outcome, True, reason)


def test_thoughts_are_output_and_cached_tokens_a_part_of_the_input(wire: Wire) -> None:
    tokens = {"promptTokenCount": 9, "candidatesTokenCount": 2, "thoughtsTokenCount": 40, "cachedContentTokenCount": 4}
    (line,) = wire.read(response(usageMetadata=tokens))
    assert readable(line).usage == Usage(9, 42, 4, (("output_reasoning_tokens", 40),))


@pytest.mark.parametrize(
    ("code", "outcome", "retryable"),
    [(3, "errored", False), (8, "errored", True), (14, "errored", True), (1, "cancelled", True), (503, "errored", True),
     (400, "errored", False), (None, "errored", True)],
)  # fmt: skip
def test_an_errored_line_is_not_billed(wire: Wire, code: int | None, outcome: str, retryable: bool) -> None:
    (line,) = wire.read({"key": "j1_a7", "error": {"code": code, "message": "m"}})
    found = readable(line)
    assert (found.outcome, found.billed, found.retryable) == (outcome, False, retryable)


@pytest.mark.parametrize("line", [{}, {"key": 1, "response": {}}, {"key": "a", "response": []}, {"key": "a"}])
def test_a_line_of_another_shape_is_kept_as_it_came(wire: Wire, line: Any) -> None:
    (found,) = wire.read(line)
    assert isinstance(found, UnreadableLine) and orjson.loads(found.raw) == line


def test_an_upload_that_is_repeated_makes_a_file_of_another_name(lab: Lab) -> None:
    """One that arrives late, after the fence, must not bring back what the fence has deleted."""
    submission, path = lab.uploaded(["One."])
    assert lab.provider.upload(submission, path) != submission.input_file
    options = types.HttpOptions(base_url=lab.emulator.gemini_url, api_version="v1beta")
    client = genai.Client(api_key=f"emu-{lab.account}", http_options=options)
    file = client.files.get(name=submission.input_file or "")
    assert file.size_bytes == path.stat().st_size
    assert (file.display_name or "").startswith(submission.tag)
    assert file.mime_type == "jsonl"


@pytest.mark.parametrize(("state", "error"), [("ACTIVE", None), ("FAILED", Refused), ("PROCESSING", Transient)])
def test_a_file_is_used_when_it_is_active(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, state: str, error: type[Exception] | None
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr("nightbatch.providers.gemini._ACTIVE_SECONDS", 0.2 if state == "PROCESSING" else 60)
    submission, path = wire.submission()
    first = {"name": "files/nb-1", "state": "PROCESSING", "sizeBytes": str(path.stat().st_size)}
    wire.server.say(
        Reply(headers={"x-goog-upload-url": f"{wire.server.url}/put", "x-goog-upload-status": "active"}),
        Reply({"file": first}, headers={"x-goog-upload-status": "final"}),
        Reply(first),
        Reply(first | {"state": state}),
    )
    if error:
        with pytest.raises(error):
            wire.provider.upload(submission, path)
        return
    assert wire.provider.upload(submission, path) == "files/nb-1"
    assert [asked.method for asked in wire.server.seen] == ["POST", "POST", "GET", "GET"]


def test_a_list_is_read_over_all_its_pages(wire: Wire) -> None:
    named = operation(metadata={"displayName": "nb-1-a"})
    other = operation(metadata={"displayName": "another"})
    (found,) = wire.find(
        Reply({"operations": [other], "nextPageToken": "a/b+c"}),
        Reply({"nextPageToken": "d"}),
        Reply({"operations": [named]}),
    )
    assert (found.provider_batch_id, found.certain) == ("batches/1", True)
    assert [asked.path.split("pageToken=")[1] for asked in wire.server.seen] == ["", "a%2Fb%2Bc", "d"]


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"),
        ("Please enable billing on your project.", "FAILED_PRECONDITION"),
    ],
)
def test_trouble_with_the_account_stops_everything(wire: Wire, message: str, status: str) -> None:
    assert type(wire.submit(Reply(error_body("gemini", 400, message, status), 400))) is AccountRefused


@pytest.mark.fault(37)
def test_the_token_limit_refuses_the_create(lab: Lab) -> None:
    lab.emulator.control("POST", "limits", {"provider": "gemini", "account": lab.account, "tokens": 1})
    with pytest.raises(Throttled):
        lab.send(*texts(2))
    assert lab.posts() == [429]


@pytest.mark.fault(36)
def test_a_retired_model_refuses_the_create(lab: Lab) -> None:
    submission, path = lab.uploaded()
    with pytest.raises(Rejected) as caught:
        lab.provider.submit(replace(submission, model="gemini-1.0-pro"), path)
    assert (caught.value.status, lab.posts()) == (404, [404])


def gone() -> Reply:
    """How Gemini answers for a file that was deleted; it is no reason to stop the account."""
    message = "You do not have permission to access the File nb-1 or it may not exist."
    return Reply(error_body("gemini", 403, message, "PERMISSION_DENIED"), 403)


def test_a_file_that_may_not_exist_is_not_there(wire: Wire) -> None:
    submission, _ = wire.submission()
    wire.server.say(gone())
    wire.provider.fence(submission)
    error = wire.submit(gone())
    assert (type(error), error.status) == (Absent, 404)


@pytest.mark.fault(35)
def test_results_that_may_not_exist_are_gone(wire: Wire) -> None:
    with pytest.raises(Absent, match="not keep") as caught:
        wire.results(gone())
    assert caught.value.status == 410


@pytest.mark.fault(35)
@pytest.mark.parametrize("state", ["SUCCEEDED", "PARTIALLY_SUCCEEDED"])
def test_results_that_are_not_named_are_gone(wire: Wire, state: str) -> None:
    wire.server.say(Reply(operation(f"BATCH_STATE_{state}", done=True)))
    with pytest.raises(Absent, match="any more") as caught:
        list(wire.provider.iter_results("batches/1"))
    assert caught.value.status == 410


@pytest.mark.fault(26, 27)
@pytest.mark.parametrize("state", ["EXPIRED", "CANCELLED"])
def test_a_batch_that_ended_early_has_nothing_to_fetch(wire: Wire, state: str) -> None:
    wire.server.say(Reply(operation(f"BATCH_STATE_{state}", done=True)))
    assert list(wire.provider.iter_results("batches/1")) == []


@pytest.mark.fault(20)
def test_the_wait_that_gemini_asks_for_stands_in_its_body(wire: Wire) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure"}, {"retryDelay": "37.5s"}]
    error = {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED", "details": details}
    caught = wire.submit(Reply({"error": error}, 429))
    assert isinstance(caught, Throttled) and caught.retry_after == 37.5


def test_a_download_may_be_redirected_on_its_own_host(wire: Wire) -> None:
    line = json.dumps(response()).encode()
    there = Reply(line, headers={"content-type": "text/plain"})
    (found,) = wire.results(Reply(b"", 302, {"location": "/download/there?alt=media"}), there)
    assert readable(found).custom_id == "j1_a7"


@pytest.mark.fault(73)
def test_a_download_that_is_redirected_to_another_host_is_not_fetched(wire: Wire, elsewhere: Server) -> None:
    elsewhere.say(Reply(json.dumps(response()).encode(), headers={"content-type": "text/plain"}))
    with pytest.raises(Transient, match="another host"):
        wire.results(Reply(b"", 302, {"location": f"{elsewhere.url}/there"}))
    assert elsewhere.seen == []


@pytest.mark.fault(21)
@pytest.mark.parametrize("client", ["httpx", "httpx2", "auto"])
def test_one_create_is_sent_with_either_http_client(wire: Wire, monkeypatch: pytest.MonkeyPatch, client: str) -> None:
    monkeypatch.setenv("GOOGLE_GENAI_HTTP_CLIENT", client)
    fresh = replace(wire, provider=GeminiBatches(api_key="k", base_url=wire.server.url))
    for reply in (Reply(error_body("gemini", 503, kind="UNAVAILABLE"), 503), Reply(b"", 307, {"location": "/x"})):
        error = fresh.submit(reply)
        assert (type(error), error.status) == (Transient, reply.status)


def test_the_base_url_of_the_environment_is_honoured(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    server.say(Reply())
    GeminiBatches(api_key="k").check()
    assert [asked.path for asked in server.seen] == ["/v1beta/batches?pageSize=1"]

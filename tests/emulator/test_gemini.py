"""The google-genai SDK against the emulator."""

from __future__ import annotations

import io
import json
from pathlib import Path

import httpx
import pytest
from google import genai
from google.genai import errors, types

from tests.emulator.support import GEMINI, SCORE_SCHEMA, Account, gemini_line, jsonl, read_jsonl

SCHEMA = {word: value for word, value in SCORE_SCHEMA.items() if word != "additionalProperties"}
EMBEDDING = "gemini-embedding-001"


def test_a_batch_goes_from_upload_to_result(account: Account) -> None:
    file = account.upload_gemini([gemini_line(f"k{i}", responseSchema=SCHEMA) for i in range(3)], "files/nb-1")
    assert (file.name, file.state, file.source) == ("files/nb-1", types.FileState.ACTIVE, types.FileSource.UPLOADED)
    sent = account.gemini.batches.create(model=GEMINI, src="files/nb-1", config={"display_name": "tag-1"})
    assert (sent.state, sent.display_name, sent.model) == (
        types.JobState.JOB_STATE_PENDING,
        "tag-1",
        f"models/{GEMINI}",
    )
    assert sent.name
    operation = account.gemini_ended(sent.name)
    assert operation["metadata"]["batchStats"] == {"requestCount": "3", "successfulRequestCount": "3"}
    got = account.gemini.batches.get(name=sent.name)
    assert got.state == types.JobState.JOB_STATE_SUCCEEDED
    assert got.dest
    assert got.dest.file_name
    body = account.gemini.files.download(file=got.dest.file_name)
    answers = {line["key"]: line["response"] for line in read_jsonl(body)}
    assert set(answers) == {"k0", "k1", "k2"}
    parsed = types.GenerateContentResponse.model_validate(answers["k0"])
    assert set(json.loads(parsed.text or "")) == {"score", "reason"}
    assert parsed.usage_metadata
    assert {row["batch_id"] for row in account.bill()} == {sent.name}


async def test_the_async_client_walks_every_call(account: Account, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(jsonl([gemini_line("k1")]))
    client = genai.Client(api_key=account.key, http_options=account.options)
    files, batches = client.aio.files, client.aio.batches
    file = await files.upload(file=source, config={"mime_type": "application/jsonl"})
    assert file.name
    assert (await files.get(name=file.name)).size_bytes == source.stat().st_size
    assert [one.name async for one in await files.list()] == [file.name]
    sent = [await batches.create(model=GEMINI, src=file.name, config={"display_name": f"t{i}"}) for i in range(3)]
    listed = [batch.display_name async for batch in await batches.list(config={"page_size": 2})]
    assert listed == ["t2", "t1", "t0"]
    assert sent[0].name
    assert sent[1].name
    await batches.cancel(name=sent[0].name)
    operation = account.gemini_ended(sent[0].name)
    assert (operation["metadata"]["state"], operation["error"]["code"]) == ("BATCH_STATE_CANCELLED", 1)
    account.gemini_ended(sent[1].name)
    await batches.delete(name=sent[1].name)
    with pytest.raises(errors.ClientError, match="404"):
        await batches.get(name=sent[1].name)
    await files.delete(name=file.name)
    with pytest.raises(errors.ClientError, match="404"):
        await files.get(name=file.name)
    await client.aio.aclose()


def test_version_v1_is_served_as_well(account: Account) -> None:
    options = types.HttpOptions(base_url=account.emulator.gemini_url)
    client = genai.Client(api_key=account.key, http_options=options)
    answer = client.models.generate_content(model=GEMINI, contents="Describe the shoes")
    assert answer.text
    client.close()


def test_a_live_file_name_cannot_be_used_again(account: Account) -> None:
    account.upload_gemini([gemini_line("k")], "files/nb-1")
    with pytest.raises(errors.ClientError, match="ALREADY_EXISTS"):
        account.upload_gemini([gemini_line("k")], "files/nb-1")
    account.gemini.files.delete(name="files/nb-1")
    account.upload_gemini([gemini_line("k")], "files/nb-1")


def test_an_upload_goes_on_where_it_stopped(account: Account) -> None:
    url, headers = f"{account.emulator.gemini_url}/upload/v1beta/files", {"x-goog-api-key": account.key}
    start = {"x-goog-upload-protocol": "resumable", "x-goog-upload-command": "start"}
    start |= {"x-goog-upload-header-content-length": "8", "x-goog-upload-header-content-type": "text/plain"}
    begun = httpx.post(url, headers=headers | start, json={"file": {"name": "files/half"}})
    to = begun.headers["x-goog-upload-url"]
    part = httpx.post(to, headers={"x-goog-upload-command": "upload", "x-goog-upload-offset": "0"}, content=b"half")
    assert part.headers["x-goog-upload-status"] == "active"
    query = httpx.post(to, headers={"x-goog-upload-command": "query"})
    assert query.headers["x-goog-upload-size-received"] == "4"
    wrong = httpx.post(to, headers={"x-goog-upload-command": "upload", "x-goog-upload-offset": "2"}, content=b"xx")
    assert wrong.status_code == 400
    finish = {"x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": "4"}
    done = httpx.post(to, headers=finish, content=b"done")
    assert (done.headers["x-goog-upload-status"], done.json()["file"]["sizeBytes"]) == ("final", "8")


def test_produced_files_have_names_that_get_refuses(account: Account) -> None:
    operation = account.gemini_ended(account.send_gemini([gemini_line("k")]))
    name = operation["metadata"]["output"]["responsesFile"]
    with pytest.raises(errors.ClientError, match="400"):
        account.gemini.files.get(name=name)
    assert account.gemini.files.download(file=name)


def test_inline_requests_come_back_inline_with_their_metadata(account: Account) -> None:
    requests = [types.InlinedRequest(contents=f"Describe {word}", metadata={"key": word}) for word in ("hat", "shoe")]
    sent = account.gemini.batches.create(model=GEMINI, src=requests)
    assert sent.name
    account.gemini_ended(sent.name)
    got = account.gemini.batches.get(name=sent.name)
    assert got.dest
    assert got.dest.inlined_responses
    assert [one.metadata for one in got.dest.inlined_responses] == [{"key": "hat"}, {"key": "shoe"}]
    assert got.dest.inlined_responses[0].response
    assert got.dest.inlined_responses[0].response.text
    assert account.billed_ids() == ["hat", "shoe"]


@pytest.mark.filterwarnings("ignore:batches.create_embeddings")
def test_embeddings_by_file_and_inline(account: Account) -> None:
    request = {"content": {"parts": [{"text": "red shoes"}]}, "outputDimensionality": 64}
    file = account.upload_gemini([{"key": "e1", "request": request}])
    sent = account.gemini.batches.create_embeddings(
        model=EMBEDDING, src=types.EmbeddingsBatchJobSource(file_name=file.name)
    )
    assert sent.name
    found = account.gemini_lines(account.gemini_ended(sent.name))["e1"]["response"]
    assert (len(found["embedding"]["values"]), found["tokenCount"]) == (64, 3)
    config = types.EmbedContentConfig(output_dimensionality=32)
    source = types.EmbeddingsBatchJobSource(
        inlined_requests=types.EmbedContentBatch(contents=["red", "blue"], config=config)
    )
    sent = account.gemini.batches.create_embeddings(model=EMBEDDING, src=source)
    assert sent.name
    account.gemini_ended(sent.name)
    got = account.gemini.batches.get(name=sent.name)
    assert got.dest
    inlined = got.dest.inlined_embed_content_responses or []
    sizes = [
        len(one.response.embedding.values)
        for one in inlined
        if one.response and one.response.embedding and one.response.embedding.values
    ]
    assert sizes == [32, 32]


def test_failed_requests_make_a_batch_partially_succeeded(account: Account) -> None:
    lines = [gemini_line("good"), gemini_line("bad", "[[emulator:error=400]]")]
    operation = account.gemini_ended(account.send_gemini(lines))
    assert operation["metadata"]["state"] == "BATCH_STATE_PARTIALLY_SUCCEEDED"
    assert operation["metadata"]["batchStats"]["failedRequestCount"] == "1"
    found = account.gemini_lines(operation)
    assert found["bad"]["error"]["code"] == 3
    assert account.billed_ids() == ["good"]


def test_an_expired_batch_has_nothing_and_costs_nothing(account: Account) -> None:
    operation = account.gemini_ended(account.send_gemini([gemini_line("a"), gemini_line("b", "[[emulator:expire]]")]))
    assert operation["metadata"]["state"] == "BATCH_STATE_EXPIRED"
    assert "output" not in operation["metadata"]
    assert account.bill() == []


def test_an_unreadable_line_fails_the_batch(account: Account) -> None:
    operation = account.gemini_ended(account.send_gemini(jsonl([gemini_line("a")]) + b"\n{nonsense"))
    assert operation["metadata"]["state"] == "BATCH_STATE_FAILED"
    assert "line 2" in operation["error"]["message"]


@pytest.mark.parametrize("model", ["gemini-none", "gemini-1.5-pro", "gemini-embedding-001", "claude-haiku-4-5"])
def test_a_model_that_cannot_do_it_is_refused(account: Account, model: str) -> None:
    with pytest.raises(errors.ClientError, match="404 NOT_FOUND"):
        account.send_gemini([gemini_line("a")], model)


def test_the_enqueued_token_limit_refuses_a_batch(account: Account) -> None:
    account.emulator.control("POST", "limits", {"provider": "gemini", "account": account.name, "tokens": 10})
    with pytest.raises(errors.ClientError, match="429 RESOURCE_EXHAUSTED"):
        account.send_gemini([gemini_line("a")])


def test_oddities_come_when_asked_for(account: Account) -> None:
    names = ("no-parts", "refusal", "truncate", "nousage")
    operation = account.gemini_ended(account.send_gemini([gemini_line(n, f"Say it [[emulator:{n}]]") for n in names]))
    found = {key: line["response"] for key, line in account.gemini_lines(operation).items()}
    assert found["no-parts"]["candidates"][0]["content"] == {"role": "model"}
    assert found["refusal"]["candidates"][0]["finishReason"] == "SAFETY"
    assert found["truncate"]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert "usageMetadata" not in found["nousage"]
    assert account.billed_ids() == sorted(names)


def test_realtime_calls_cost_the_full_price(account: Account) -> None:
    assert account.gemini.models.generate_content(model=GEMINI, contents="Describe the shoes").text
    vectors = account.gemini.models.embed_content(model=EMBEDDING, contents=["red", "blue"])
    assert [len(one.values or ()) for one in vectors.embeddings or ()] == [3072, 3072]
    assert [row["processing"] for row in account.bill()] == ["realtime"] * 2


def test_inline_requests_may_hold_20_megabytes(account: Account) -> None:
    big = io.StringIO("x" * (21 << 20)).read()
    with pytest.raises(errors.ClientError):
        account.gemini.batches.create(model=GEMINI, src=[types.InlinedRequest(contents=big)])

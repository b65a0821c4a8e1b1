"""The OpenAI SDK against the emulator."""

from __future__ import annotations

import json

import openai
import pytest

from tests.emulator.support import CHAT, EMBEDDINGS, RESPONSES, SCORE_SCHEMA, Account, Json, chat_line, wait_for


def test_a_batch_goes_from_upload_to_result(account: Account) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "score", "schema": SCORE_SCHEMA}}
    batch = account.send(
        [chat_line(f"j{i}", response_format=wanted) for i in range(3)], metadata={"tag": "t1", "run": "7"}
    )
    assert (batch.status, batch.request_counts and batch.request_counts.total) == ("validating", 0)
    ended = account.ended(batch.id)
    assert (ended.status, ended.error_file_id, ended.metadata) == ("completed", None, {"tag": "t1", "run": "7"})
    assert ended.request_counts
    assert ended.request_counts.model_dump() == {"completed": 3, "failed": 0, "total": 3}
    lines = account.lines_of(ended.output_file_id)
    assert set(lines) == {"j0", "j1", "j2"}
    body = lines["j0"]["response"]["body"]
    answer = json.loads(body["choices"][0]["message"]["content"])
    assert 1 <= answer["score"] <= 10
    assert account.billed_ids() == ["j0", "j1", "j2"]
    assert ended.usage
    assert ended.usage.total_tokens == sum(line["response"]["body"]["usage"]["total_tokens"] for line in lines.values())


def test_statuses_pass_by_on_the_way(account: Account) -> None:
    batch = account.send([chat_line("j1")])
    seen: list[str] = []

    def read() -> str:
        status = account.openai.batches.retrieve(batch.id).status
        if status not in seen:
            seen.append(status)
        return status

    wait_for(read, lambda status: status == "completed")
    assert seen == [s for s in ("validating", "in_progress", "finalizing", "completed") if s in seen]
    assert "in_progress" in seen


async def test_the_async_client_walks_every_call(account: Account) -> None:
    url = account.emulator.openai_url
    async with openai.AsyncOpenAI(base_url=url, api_key=account.key, max_retries=0) as client:
        body = json.dumps(chat_line("j1")).encode()
        life = {"anchor": "created_at", "seconds": 3600}
        file = await client.files.create(file=("in.jsonl", body), purpose="batch", expires_after=life)  # type: ignore[arg-type]
        assert file.expires_at == file.created_at + 3600
        assert (await client.files.retrieve(file.id)).filename == "in.jsonl"
        batch = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        assert [one.id async for one in client.batches.list()] == [batch.id]
        cancelled = await client.batches.cancel(batch.id)
        assert cancelled.status == "cancelling"
        account.ended(batch.id)
        assert await (await client.files.content(file.id)).aread() == body
        assert [one.id async for one in client.files.list(purpose="batch")] == [file.id]
        assert (await client.files.delete(file.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(file.id)


def test_lists_page_newest_first(account: Account) -> None:
    ids = [account.send([chat_line("j1")]).id for _ in range(5)]
    first = account.openai.batches.list(limit=2)
    assert ([batch.id for batch in first.data], first.has_more) == ([ids[4], ids[3]], True)
    assert [batch.id for batch in account.openai.batches.list(limit=2)] == ids[::-1]
    with pytest.raises(openai.BadRequestError):
        account.openai.batches.list(limit=101)


def test_responses_and_embeddings_have_results_too(account: Account) -> None:
    body: Json = {"model": "gpt-5-mini", "input": "Describe the product", "instructions": "Be brief"}
    batch = account.send([{"custom_id": "r", "method": "POST", "url": RESPONSES, "body": body}], RESPONSES)
    found = account.lines_of(account.ended(batch.id).output_file_id)["r"]["response"]["body"]
    assert (found["status"], found["output"][-1]["content"][0]["type"]) == ("completed", "output_text")
    body = {"model": "text-embedding-3-small", "input": ["red shoes", "blue hat"], "dimensions": 64}
    batch = account.send([{"custom_id": "e", "method": "POST", "url": EMBEDDINGS, "body": body}], EMBEDDINGS)
    found = account.lines_of(account.ended(batch.id).output_file_id)["e"]["response"]["body"]
    assert [len(one["embedding"]) for one in found["data"]] == [64, 64]


def test_when_all_requests_fail_there_is_only_an_error_file(account: Account) -> None:
    lines = [chat_line("a", "[[emulator:error=400]]"), chat_line("b", "[[emulator:error=500]]")]
    ended = account.ended(account.send(lines).id)
    assert (ended.status, ended.output_file_id) == ("completed", None)
    found = account.lines_of(ended.error_file_id)
    assert {key: line["response"]["status_code"] for key, line in found.items()} == {"a": 400, "b": 500}
    assert found["a"]["error"] is None
    assert found["a"]["response"]["body"]["error"]["type"] == "invalid_request_error"
    assert account.bill() == []


def test_a_malformed_body_fails_its_own_request_only(account: Account) -> None:
    lines = [chat_line("odd", messages=["not a message"]), chat_line("none", messages=[]), chat_line("good")]
    ended = account.ended(account.send(lines).id)
    found = account.lines_of(ended.error_file_id)
    assert {key: line["response"]["status_code"] for key, line in found.items()} == {"odd": 400, "none": 400}
    assert account.billed_ids() == ["good"]


def test_an_expired_batch_keeps_and_bills_what_was_done(account: Account) -> None:
    lines = [chat_line("a"), chat_line("b", "[[emulator:expire]]"), chat_line("c")]
    ended = account.ended(account.send(lines).id)
    assert (ended.status, ended.expired_at is None) == ("expired", False)
    assert set(account.lines_of(ended.output_file_id)) == {"a", "c"} == set(account.billed_ids())
    late = account.lines_of(ended.error_file_id)["b"]
    assert (late["response"], late["error"]["code"]) == (None, "batch_expired")


def test_a_cancelled_batch_keeps_and_bills_what_was_done(account: Account) -> None:
    account.emulator.control("POST", "turnaround", {"seconds": 3600})
    try:
        batch = account.send([chat_line(f"j{i}") for i in range(4)])
    finally:
        account.emulator.control("POST", "turnaround", {"seconds": 0.25})
        account.emulator.control("POST", f"batches/{batch.id}/end", {"as": "cancelled", "finished": 0.5})
    ended = account.ended(batch.id)
    assert ended.status == "cancelled"
    done, late = account.lines_of(ended.output_file_id), account.lines_of(ended.error_file_id)
    assert (sorted(done), sorted(late)) == (["j0", "j1"], ["j2", "j3"])
    assert {line["error"]["code"] for line in late.values()} == {"batch_cancelled"}
    assert account.billed_ids() == ["j0", "j1"]
    with pytest.raises(openai.ConflictError):
        account.openai.batches.cancel(batch.id)


def broken_inputs() -> dict[str, bytes]:
    """Input files by the code that validation gives."""
    good = json.dumps(chat_line("a")).encode()
    other_model = chat_line("b")
    other_model["body"]["model"] = "gpt-4o-mini"
    unknown = chat_line("a")
    unknown["body"]["model"] = "gpt-none-such"
    return {
        "invalid_json_line": good + b"\n{nonsense",
        "duplicate_custom_id": good + b"\n" + good,
        "url_mismatch": good + b"\n" + json.dumps(chat_line("b") | {"url": EMBEDDINGS}).encode(),
        "model_mismatch": good + b"\n" + json.dumps(other_model).encode(),
        "model_not_found": json.dumps(unknown).encode(),
        "empty_file": b"",
        "too_many_tasks": b"\n".join(json.dumps(chat_line(f"j{i}")).encode() for i in range(50_001)),
    }


@pytest.mark.parametrize("code", list(broken_inputs()))
def test_a_broken_input_file_fails_the_batch(account: Account, code: str) -> None:
    batch = account.send(broken_inputs()[code])
    assert batch.status == "validating"
    ended = account.ended(batch.id)
    assert ended.status == "failed"
    assert ended.errors
    assert ended.errors.data
    assert (ended.errors.data[0].code, account.bill()) == (code, [])
    if code not in ("empty_file", "too_many_tasks"):
        assert ended.errors.data[0].line == (1 if code == "model_not_found" else 2)


def test_too_many_embedding_inputs_fail_the_batch(account: Account) -> None:
    body = {"model": "text-embedding-3-small", "input": ["word"] * 2000}
    lines = [{"custom_id": f"e{i}", "method": "POST", "url": EMBEDDINGS, "body": body} for i in range(26)]
    ended = account.ended(account.send(lines, EMBEDDINGS).id)
    assert ended.errors
    assert ended.errors.data
    assert ended.errors.data[0].code == "too_many_tasks"


def test_the_enqueued_token_limit_fails_a_batch(account: Account) -> None:
    account.emulator.control("POST", "limits", {"provider": "openai", "account": account.name, "tokens": 10})
    ended = account.ended(account.send([chat_line("a")]).id)
    assert ended.errors
    assert ended.errors.data
    assert ended.errors.data[0].code == "token_limit_exceeded"


def test_create_refuses_what_is_wrong_with_the_call(account: Account) -> None:
    file_id = account.upload([chat_line("a")])
    create = account.openai.batches.create
    account.openai.files.delete(file_id)
    with pytest.raises(openai.BadRequestError, match="No file with purpose"):
        create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    file_id = account.upload([chat_line("a")])
    with pytest.raises(openai.BadRequestError, match="metadata"):
        create(input_file_id=file_id, endpoint=CHAT, completion_window="24h", metadata={"k": "x" * 513})
    with pytest.raises(openai.BadRequestError, match="endpoint"):
        create(input_file_id=file_id, endpoint="/v1/audio/speech", completion_window="24h")  # type: ignore[arg-type]


def test_a_deleted_input_does_not_stop_a_batch_that_has_begun(account: Account) -> None:
    batch = account.send([chat_line("a")])
    account.openai.files.delete(batch.input_file_id)
    assert account.ended(batch.id).status == "completed"


def test_realtime_calls_answer_and_cost_the_full_price(account: Account) -> None:
    chat = account.openai.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "Hi you"}])
    assert chat.choices[0].message.content
    assert account.openai.responses.create(model="gpt-5-mini", input="Hi you").output_text
    vector = account.openai.embeddings.create(model="text-embedding-3-small", input="shoes", dimensions=32)
    assert sum(x * x for x in vector.data[0].embedding) == pytest.approx(1, abs=1e-5)
    assert [row["processing"] for row in account.bill()] == ["realtime"] * 3
    with pytest.raises(openai.NotFoundError):
        account.openai.chat.completions.create(model="gpt-none", messages=[{"role": "user", "content": "Hi"}])

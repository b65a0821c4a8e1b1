"""The Anthropic SDK against the emulator."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

import anthropic
import httpx
import pytest

from tests.emulator.support import CLAUDE, SCORE_SCHEMA, Account, claude_request


def test_a_batch_goes_from_create_to_results(account: Account) -> None:
    sent = account.anthropic.messages.batches.create(requests=[claude_request(f"j{i}") for i in range(3)])
    assert sent.request_counts.model_dump() == {
        "processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0,
    }  # fmt: skip
    assert (sent.processing_status, sent.results_url) == ("in_progress", None)
    ended = account.claude_ended(sent.id)
    assert (ended.request_counts.succeeded, ended.request_counts.processing) == (3, 0)
    results = account.claude_results(sent.id)
    assert {result.type for result in results.values()} == {"succeeded"}
    message = results["j0"].message
    assert (message.stop_reason, message.usage.service_tier, message.model) == ("end_turn", "batch", CLAUDE)
    assert account.billed_ids() == ["j0", "j1", "j2"]


async def test_the_async_client_walks_every_call(account: Account) -> None:
    url = account.emulator.anthropic_url
    account.emulator.control("POST", "turnaround", {"seconds": 600})  # none ends before it is cancelled
    async with anthropic.AsyncAnthropic(base_url=url, api_key=account.key, max_retries=0) as client:
        batches = client.messages.batches
        ids = [(await batches.create(requests=[claude_request(f"j{i}")])).id for i in range(3)]
        assert [one.id async for one in batches.list(limit=2)] == ids[::-1]
        page = await batches.list(limit=2, before_id=ids[0])
        assert [one.id for one in page.data] == [ids[2], ids[1]]
        assert (await batches.cancel(ids[0])).processing_status == "canceling"
        with pytest.raises(anthropic.BadRequestError):
            await batches.delete(ids[1])
        account.emulator.control("POST", f"batches/{ids[1]}/end", {"as": "completed"})
        account.emulator.control("POST", "turnaround", {"seconds": 0.25})
        account.claude_ended(ids[1])
        assert [line.custom_id async for line in await batches.results(ids[1])] == ["j1"]
        assert (await batches.delete(ids[1])).type == "message_batch_deleted"
        with pytest.raises(anthropic.NotFoundError):
            await batches.retrieve(ids[1])


def test_results_wait_for_the_end(account: Account) -> None:
    batch_id = account.send_claude([claude_request("j1")])
    with pytest.raises(anthropic.AnthropicError, match="No `results_url`"):
        account.anthropic.messages.batches.results(batch_id)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "requests: List should have at least 1 item"),
        ([claude_request("not allowed!")], "requests.0.custom_id: String should match pattern"),
        ([claude_request("a"), claude_request("a")], "requests.1.custom_id: .* more than once"),
        ([{"custom_id": "a"}], "requests.0.params: Field required"),
    ],
)
def test_a_fault_of_the_envelope_is_refused_at_once(account: Account, requests: list[Any], message: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=message):
        account.send_claude(requests)
    assert account.anthropic.messages.batches.list().data == []


def test_more_than_100_000_requests_are_refused(account: Account) -> None:
    with pytest.raises(anthropic.BadRequestError, match="at most 100000"):
        account.send_claude([{"custom_id": f"j{i}", "params": {}} for i in range(100_001)])


def test_more_than_256_megabytes_are_refused_before_they_are_read(account: Account) -> None:
    connection = HTTPConnection("127.0.0.1", account.emulator.port, timeout=10)
    connection.putrequest("POST", "/anthropic/v1/messages/batches")
    connection.putheader("authorization", f"Bearer {account.key}")
    connection.putheader("content-length", str(256 * 10**6 + 1))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["type"]) == (413, "request_too_large")
    connection.close()


def test_faults_in_params_arrive_as_errored(account: Account) -> None:
    requests = [
        claude_request("warm", temperature=0.5),
        claude_request("unknown", model="claude-none"),
        claude_request("retired", model="claude-2.1"),
        claude_request("asked", "[[emulator:error=500]]"),
        claude_request("good"),
    ]
    batch_id = account.send_claude(requests)
    ended = account.claude_ended(batch_id)
    results = account.claude_results(batch_id)
    errors = {key: result.error.error.type for key, result in results.items() if result.type == "errored"}
    assert errors == {
        "warm": "invalid_request_error",
        "unknown": "not_found_error",
        "retired": "not_found_error",
        "asked": "api_error",
    }
    assert (ended.request_counts.errored, ended.request_counts.succeeded) == (4, 1)
    assert account.billed_ids() == ["good"]


@pytest.mark.parametrize(("ending", "kind"), [("cancelled", "canceled"), ("expired", "expired")])
def test_an_early_end_keeps_what_was_done(account: Account, ending: str, kind: str) -> None:
    batch_id = account.send_claude([claude_request(f"j{i}") for i in range(4)])
    account.emulator.control("POST", f"batches/{batch_id}/end", {"as": ending, "finished": 0.25})
    counts = account.claude_ended(batch_id).request_counts
    assert (counts.succeeded, getattr(counts, kind)) == (1, 3)
    types = {key: result.type for key, result in account.claude_results(batch_id).items()}
    assert types == {"j0": "succeeded", "j1": kind, "j2": kind, "j3": kind}
    assert account.billed_ids() == ["j0"]


def test_structured_output_and_forced_tools_follow_the_schema(account: Account) -> None:
    tool = {"name": "score", "description": "Score it", "input_schema": SCORE_SCHEMA}
    choice = {"type": "tool", "name": "score"}
    wanted = {"format": {"type": "json_schema", "schema": anthropic.transform_schema(SCORE_SCHEMA)}}
    requests = [claude_request("tool", tools=[tool], tool_choice=choice), claude_request("text", output_config=wanted)]
    batch_id = account.send_claude(requests)
    account.claude_ended(batch_id)
    results = account.claude_results(batch_id)
    called = results["tool"].message
    assert (called.stop_reason, called.content[0].type, called.content[0].name) == ("tool_use", "tool_use", "score")
    assert (
        set(called.content[0].input) == set(json.loads(results["text"].message.content[0].text)) == {"score", "reason"}
    )


def test_the_documented_header_is_accepted_too(account: Account) -> None:
    url = f"{account.emulator.anthropic_url}/v1/messages/batches"
    assert httpx.get(url, headers={"x-api-key": account.key}).json()["data"] == []


def test_a_realtime_message_costs_the_full_price(account: Account) -> None:
    message = account.anthropic.messages.create(
        model=CLAUDE, max_tokens=100, messages=[{"role": "user", "content": "Hello dear model"}]
    )
    assert message.usage.service_tier == "standard"
    assert [row["processing"] for row in account.bill()] == ["realtime"]


def test_the_queue_limit_refuses_a_batch(account: Account) -> None:
    account.emulator.control("POST", "limits", {"provider": "anthropic", "account": account.name, "tokens": 10})
    with pytest.raises(anthropic.RateLimitError):
        account.send_claude([claude_request("a")])

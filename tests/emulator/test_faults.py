"""Faults on demand: what the caller sees, and what the provider has done by then."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import anthropic
import httpx
import openai
import pytest
from google.genai import errors

from tests.emulator.support import CHAT, Account, chat_line, claude_request, gemini_line


def create(account: Account, file_id: str) -> str:
    return account.openai.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h").id


def listed(account: Account) -> list[str]:
    return [batch.id for batch in account.openai.batches.list()]


@pytest.mark.parametrize(
    ("fault", "error", "done"),
    [
        ("refuse", openai.InternalServerError, False),
        ("rate_limit", openai.RateLimitError, False),
        ("reset", openai.APIConnectionError, False),
        ("lose_answer", openai.APIConnectionError, True),
        ("error_after", openai.InternalServerError, True),
    ],
)
def test_a_faulty_create_is_done_or_not(account: Account, fault: str, error: type[Exception], done: bool) -> None:
    file_id = account.upload([chat_line("a")])
    account.fault("openai", "batch_create", fault)
    with pytest.raises(error):
        create(account, file_id)
    assert len(listed(account)) == done
    create(account, file_id)
    assert len(listed(account)) == done + 1


def test_a_late_create_arrives_after_its_sender_has_given_up(account: Account) -> None:
    file_id = account.upload([chat_line("a")])
    account.fault("openai", "batch_create", "deliver_late", delay_seconds=3600)
    with pytest.raises(openai.APIConnectionError):
        create(account, file_id)
    assert listed(account) == []
    assert account.emulator.let_the_late_arrive(account.name) == 1
    assert len(listed(account)) == 1


def test_a_late_create_meets_the_fence_of_a_deleted_input(account: Account) -> None:
    file_id = account.upload([chat_line("a")])
    account.fault("openai", "batch_create", "deliver_late", delay_seconds=3600)
    with pytest.raises(openai.APIConnectionError):
        create(account, file_id)
    account.openai.files.delete(file_id)
    assert account.emulator.let_the_late_arrive(account.name) == 1
    assert listed(account) == []
    late = [seen for seen in account.emulator.log() if seen["account"] == account.name and seen["fault"]]
    assert [(seen["operation"], seen["status"]) for seen in late] == [("batch_create", None)]


@pytest.mark.parametrize(("fault", "done_at_once"), [("delay", False), ("delay_after", True)])
def test_a_delay_comes_before_or_after_the_deed(account: Account, fault: str, done_at_once: bool) -> None:
    file_id = account.upload([chat_line("a")])
    account.fault("openai", "batch_create", fault, delay_seconds=0.6)
    with pytest.raises(openai.APITimeoutError):
        account.openai.with_options(timeout=0.2).batches.create(
            input_file_id=file_id, endpoint=CHAT, completion_window="24h"
        )
    assert len(listed(account)) == done_at_once


def test_rate_limits_say_when_to_come_back(account: Account) -> None:
    account.fault("anthropic", "batch_create", "rate_limit", retry_after=7)
    with pytest.raises(anthropic.RateLimitError) as caught:
        account.send_claude([claude_request("a")])
    assert (caught.value.response.headers["retry-after"], caught.value.type) == ("7", "rate_limit_error")


def test_a_rule_passes_and_acts_as_often_as_it_says(account: Account) -> None:
    account.fault("openai", "batch_list", "refuse", times=2, after_matches=1, status=504)
    seen = []
    for _ in range(4):
        try:
            listed(account)
            seen.append(200)
        except openai.APIStatusError as error:
            seen.append(error.status_code)
    assert seen == [200, 504, 504, 200]
    rules = [rule for rule in account.emulator.control("GET", "faults") if rule["account"] == account.name]
    assert [(rule["matches"], rule["hits"]) for rule in rules] == [(4, 2)]


def test_an_impossible_rule_is_refused(account: Account) -> None:
    for body in ({"operation": "batch_create", "fault": "melt"}, {"operation": "batch_crate", "fault": "refuse"}):
        with pytest.raises(httpx.HTTPStatusError):
            account.emulator.control("POST", "faults", body)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("missing_line", lambda whole, got: got == whole[1:]),
        ("duplicate_line", lambda whole, got: got == [*whole, whole[0]]),
        ("unknown_line", lambda whole, got: got[:-1] == whole and b"unknown" in got[-1]),
        ("corrupt", lambda whole, got: len(got) == len(whole) and got[0] != whole[0] and got[1:5] == whole[1:5]),
    ],
)
def test_a_download_comes_damaged(
    account: Account, fault: str, check: Callable[[list[bytes], list[bytes]], bool]
) -> None:
    output = account.ended(account.send([chat_line(f"j{i}") for i in range(6)]).id).output_file_id
    assert output
    whole = account.openai.files.content(output).content.splitlines()
    account.fault("openai", "file_download", fault)
    assert check(whole, account.openai.files.content(output).content.splitlines())
    assert account.openai.files.content(output).content.splitlines() == whole


def test_a_download_is_cut_short_under_the_length_of_the_whole(account: Account) -> None:
    batch_id = account.send_claude([claude_request(f"j{i}") for i in range(6)])
    url = account.claude_ended(batch_id).results_url
    headers = {"x-api-key": account.key}
    whole = httpx.get(url, headers=headers).content
    account.fault("anthropic", "results", "truncate")
    with httpx.stream("GET", url, headers=headers) as answer:
        assert int(answer.headers["content-length"]) == len(whole)
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()
    assert httpx.get(url, headers=headers).content == whole


def test_a_lagging_list_leaves_out_young_batches(account: Account) -> None:
    old = [account.send([chat_line("a")]).id, account.send_claude([claude_request("a")])]
    gemini = account.send_gemini([gemini_line("a")])
    for provider in ("openai", "anthropic", "gemini"):
        account.fault(provider, "batch_list", "list_lag", delay_seconds=3600)
    assert listed(account) == []
    assert account.anthropic.messages.batches.list().data == []
    assert list(account.gemini.batches.list()) == []
    assert [listed(account), [one.id for one in account.anthropic.messages.batches.list()]] == [[old[0]], [old[1]]]
    assert [batch.name for batch in account.gemini.batches.list()] == [gemini]


def test_a_status_that_nobody_knows(account: Account) -> None:
    batch_id, claude_id = account.send([chat_line("a")]).id, account.send_claude([claude_request("a")])
    name = account.send_gemini([gemini_line("a")])
    for provider in ("openai", "anthropic", "gemini"):
        account.fault(provider, "batch_get", "unknown_status")
    assert account.openai.batches.retrieve(batch_id).status == "emulator_unheard_of"  # type: ignore[comparison-overlap]
    claude = account.anthropic.messages.batches.retrieve(claude_id)
    assert claude.processing_status == "emulator_unheard_of"  # type: ignore[comparison-overlap]
    assert account.operation(name)["metadata"]["state"] == "BATCH_STATE_EMULATOR_UNHEARD_OF"


def test_an_error_file_id_may_be_blank(account: Account) -> None:
    batch = account.ended(account.send([chat_line("a")]).id)
    account.fault("openai", "batch_get", "blank_error_file")
    assert account.openai.batches.retrieve(batch.id).error_file_id == ""


def test_a_lost_realtime_answer_is_paid_all_the_same(account: Account) -> None:
    account.fault("gemini", "realtime", "error_after")
    with pytest.raises(errors.ServerError):
        account.gemini.models.generate_content(model="gemini-2.5-flash", contents="Hello there")
    assert len(account.bill()) == 1


def test_the_log_tells_who_did_what_and_keeps_no_secrets(account: Account) -> None:
    account.send([chat_line("a", "a-canary-in-a-prompt")])
    seen = [entry for entry in account.emulator.log() if entry["account"] == account.name]
    assert [(entry["provider"], entry["operation"], entry["status"]) for entry in seen] == [
        ("openai", "file_upload", 200),
        ("openai", "batch_create", 200),
    ]
    assert datetime.fromtimestamp(seen[0]["at"], UTC).year >= 2026
    assert "canary" not in str(seen)
    assert account.key not in str(seen)

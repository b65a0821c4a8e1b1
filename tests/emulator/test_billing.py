"""Money: the right price, once, and a log that a kill -9 neither doubles nor cuts."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path

import pytest
from genai_prices import Usage as LibraryUsage
from genai_prices import calc_price

from nightbatch_local.emulator.billing import rates, serves
from nightbatch_local.emulator.errors import Provider
from nightbatch_local.emulator.process import EmulatorProcess
from nightbatch_local.emulator.prompt import Usage
from tests.emulator.support import EMBEDDINGS, Account, Json, chat_line, claude_request, gemini_line, wait_for

LIBRARY = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
MODELS: list[tuple[Provider, str]] = [
    ("openai", "gpt-5-mini"),
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-5.4"),
    ("anthropic", "claude-haiku-4-5"),
    ("anthropic", "claude-sonnet-4-5"),
    ("gemini", "gemini-2.5-flash"),
    ("gemini", "gemini-2.5-pro"),  # has tiers
    ("gemini", "gemini-3.5-flash-lite"),
]


def library_price(provider: Provider, model: str, usage: Usage, context: dict[str, str] | None) -> Decimal:
    tokens = LibraryUsage(
        input_tokens=usage.input_tokens, cache_read_tokens=usage.cached_tokens, output_tokens=usage.output_tokens
    )
    return calc_price(tokens, model, provider_id=LIBRARY[provider], price_context=context).total_price


@pytest.mark.parametrize(("provider", "model"), MODELS)
@pytest.mark.parametrize("usage", [Usage(1000, 0, 300), Usage(5000, 4096, 1), Usage(250_000, 1024, 900)])
def test_prices_are_those_of_the_library(provider: Provider, model: str, usage: Usage) -> None:
    now = time.time()
    for processing, context in (("batch", {"processing": "batch"}), ("realtime", None)):
        found = rates(provider, model, processing, now)  # type: ignore[arg-type]
        assert found
        assert found.cost(usage) == library_price(provider, model, usage, context)


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "text-embedding-3-small"), ("gemini", "gemini-embedding-001"), ("gemini", "gemini-3.5-flash")],
)
def test_models_that_the_library_lacks_a_batch_price_of_cost_half(provider: Provider, model: str) -> None:
    usage, now = Usage(1000, 0, 0), time.time()
    batch, realtime = rates(provider, model, "batch", now), rates(provider, model, "realtime", now)
    assert batch
    assert realtime
    assert batch.cost(usage) * 2 == realtime.cost(usage) == library_price(provider, model, usage, None)


def test_a_model_of_the_emulators_own_has_no_price(account: Account) -> None:
    line = chat_line("a")
    line["body"]["model"] = "emulator-large"
    account.ended(account.send([line]).id)
    assert [(row["model"], row["cost_usd"]) for row in account.bill()] == [("emulator-large", None)]


def test_retired_and_unknown_models_are_not_served() -> None:
    assert not serves("openai", "gpt-3.5-turbo-0301")
    assert not serves("anthropic", "claude-2.1")
    assert not serves("gemini", "gemini-1.5-pro")
    assert not serves("gemini", "claude-haiku-4-5")
    assert serves("openai", "gpt-5-mini-2025-08-07")


def test_a_line_of_the_log_says_what_was_paid_for_what(account: Account) -> None:
    system = "You rate headlines by these rules. " * 400
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Shoes"}]
    batch = account.ended(account.send([chat_line(f"j{i}", messages=messages, seed=i) for i in range(40)]).id)
    lines = account.lines_of(batch.output_file_id)
    rows = {row["custom_id"]: row for row in account.bill()}
    for custom_id, line in lines.items():
        shown, row = line["response"]["body"]["usage"], rows[custom_id]
        assert row["input_tokens"] == shown["prompt_tokens"]
        assert row["cached_tokens"] == shown["prompt_tokens_details"]["cached_tokens"]
        assert row["output_tokens"] == shown["completion_tokens"]
        usage = Usage(row["input_tokens"], row["cached_tokens"], row["output_tokens"])
        assert Decimal(row["cost_usd"]) == library_price("openai", "gpt-5-mini", usage, {"processing": "batch"})
    assert {row["cached_tokens"] > 0 for row in rows.values()} == {True, False}
    assert set(rows["j0"]) == {
        "provider", "account", "batch_id", "custom_id", "model", "input_tokens", "cached_tokens", "output_tokens",
        "cost_usd", "billed_at", "processing", "units",
    }  # fmt: skip


def send_to_all(account: Account, count: int) -> list[str]:
    """A batch for each provider; their ids."""
    chat = account.send([chat_line(f"o{i}") for i in range(count)]).id
    vector = {"model": "text-embedding-3-small", "input": "shoes", "dimensions": 8}
    lines = [{"custom_id": f"v{i}", "method": "POST", "url": EMBEDDINGS, "body": vector} for i in range(count)]
    vectors = account.send(lines, EMBEDDINGS).id
    claude = account.send_claude([claude_request(f"a{i}") for i in range(count)])
    return [chat, vectors, claude, account.send_gemini([gemini_line(f"g{i}") for i in range(count)])]


def logged(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_killed_at_any_moment_each_request_is_charged_once(own_emulator: EmulatorProcess) -> None:
    with Account(own_emulator, "crash") as account:
        ids = send_to_all(account, 1500)
        own_emulator.control("POST", "turnaround", {"seconds": 0})
        for pause in (0.02, 0.05, 0.1, 0.2, 0.3):
            time.sleep(pause)
            own_emulator.restart()
        chat, vectors, claude, gemini = ids
        for batch_id in (chat, vectors):
            assert account.ended(batch_id).status == "completed"
        account.claude_ended(claude)
        account.gemini_ended(gemini)
        expected = sorted(f"{kind}{i}" for kind in "ovag" for i in range(1500))
        assert account.billed_ids() == expected
        wait_for(lambda: len(logged(own_emulator.billing_path)), lambda count: count >= len(expected))
        own_emulator.stop()
    assert sorted(row["custom_id"] for row in logged(own_emulator.billing_path)) == expected


def test_the_log_goes_on_after_half_a_line(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path, turnaround=0) as emulator, Account(emulator, "half") as account:
        account.ended(account.send([chat_line("a")]).id)
        wait_for(lambda: len(logged(emulator.billing_path)), lambda count: count == 1)
        emulator.kill()
        with emulator.billing_path.open("a") as log:  # what a kill in the middle of a write leaves
            log.write('{"provider":"openai","acc')
        emulator.start()
        account.ended(account.send([chat_line("b")]).id)
        emulator.stop()
    assert [row["custom_id"] for row in logged(tmp_path / "billing.jsonl")] == ["a", "b"]


def test_an_emulator_that_is_stopped_leaves_a_whole_log(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path, turnaround=0) as emulator, Account(emulator, "whole") as account:
        assert account.ended(account.send([chat_line(f"j{i}") for i in range(5000)]).id).status == "completed"
        emulator.stop()
    assert len(logged(tmp_path / "billing.jsonl")) == 5000

"""What was paid for is kept, and costs what the provider's own bill says."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from nightbatch import loading, retention
from nightbatch.job_types import job_types
from nightbatch.models import ProviderName, ProviderState
from tests.use_cases.conftest import World

Json = dict[str, Any]
LONG = "You answer the questions of a shop's customers by its rules, which follow. " * 120
TOOL = {
    "type": "object",
    "properties": {"severity": {"type": "string", "enum": ["low", "high"]}},
    "required": ["severity"],
}


def raw(world: World, provider: str, bodies: list[Json], **columns: Any) -> list[int]:
    names = ", ".join(["job_type", "provider", "input", *columns])
    marks = ", ".join(["%s"] * (3 + len(columns)))
    query = f"INSERT INTO nightbatch.job ({names}) VALUES ({marks}) RETURNING id"
    return [world.rows(query, "raw", provider, json.dumps({"body": body}), *columns.values())[0] for body in bodies]


def asked(provider: ProviderName, text: str, system: str = "", **more: Any) -> Json:
    if provider == "gemini":
        body: Json = {"contents": [{"parts": [{"text": text}]}], **more}
        return body | ({"systemInstruction": {"parts": [{"text": system}]}} if system else {})
    if provider == "anthropic":
        block = {"type": "text", "text": system, "cache_control": {"type": "ephemeral", "ttl": more.pop("ttl", "5m")}}
        body = {"max_tokens": 500, "messages": [{"role": "user", "content": text}], **more}
        return body | ({"system": [block]} if system else {})
    first = [{"role": "system", "content": system}] if system else []
    return {"messages": [*first, {"role": "user", "content": text}], **more}


def calling(provider: ProviderName) -> Json:
    function = {"name": "file_ticket", "description": "d", "parameters": TOOL}
    if provider == "gemini":
        config = {"functionCallingConfig": {"mode": "ANY"}}
        return asked(provider, "It burns", tools=[{"functionDeclarations": [function]}], toolConfig=config)
    if provider == "anthropic":
        tool = {"name": "file_ticket", "input_schema": TOOL}
        return asked(provider, "It burns", tools=[tool], tool_choice={"type": "tool", "name": "file_ticket"})
    choice = {"type": "function", "function": {"name": "file_ticket"}}
    return asked(provider, "It burns", tools=[{"type": "function", "function": function}], tool_choice=choice)


def thinking(provider: ProviderName, text: str) -> Json:
    more: dict[ProviderName, Json] = {
        "openai": {"reasoning_effort": "high"},
        "anthropic": {"thinking": {"type": "adaptive"}},
        "gemini": {"generationConfig": {"thinkingConfig": {"thinkingLevel": "high"}}},
    }
    return asked(provider, text, **more[provider])


@pytest.mark.fault(66)
def test_a_call_of_a_function_is_a_success_and_stands_in_the_output(world: World, provider: ProviderName) -> None:
    (job,) = raw(world, provider, [calling(provider)])
    world.night("r1")
    ((outcome, output),) = world.rows("SELECT outcome, output FROM nightbatch.result WHERE job_id = %s", job)
    assert outcome == "succeeded"
    assert output["text"] == "" and "severity" in json.dumps(output["message"])
    assert world.rows("SELECT count(*) FROM nightbatch.answer") == [0], "all of it stands in the output"
    world.judge()


@pytest.mark.fault(67)
def test_a_cached_prefix_costs_what_the_bill_says_when_it_is_written_and_when_it_is_read(
    world: World, provider: ProviderName
) -> None:
    raw(world, provider, [asked(provider, f"Question {number}", LONG) for number in range(16)])
    if provider == "anthropic":
        raw(world, provider, [asked(provider, f"Question {number}", LONG, ttl="1h") for number in range(16)])
    world.night("r1")
    units = world.rows("SELECT units FROM nightbatch.result WHERE units IS NOT NULL")
    assert bool(units) is (provider != "gemini"), "Gemini does not bill the writing"
    assert all(found["cache_write_tokens"] > 1000 for found in units)
    lifetimes: dict[ProviderName, set[bool]] = {"openai": {False}, "anthropic": {True, False}, "gemini": set()}
    assert {"cache_write_1h_tokens" in found for found in units} == lifetimes[provider]
    assert world.rows("SELECT count(*) > 4 FROM nightbatch.result WHERE cached_tokens > 0") == [True]
    (source,) = world.rows("SELECT DISTINCT price_source FROM nightbatch.batch")
    assert ("cache_write_mtok" in source) is (provider != "gemini")
    world.judge()


@pytest.mark.fault(66, 67)
def test_thoughts_are_paid_for_and_what_is_kept_of_them_stands_beside(world: World, provider: ProviderName) -> None:
    jobs = raw(world, provider, [thinking(provider, f"Question {number}") for number in range(5)])
    world.night("r1")
    assert [found["output_reasoning_tokens"] > 0 for found in world.rows("SELECT units FROM nightbatch.result")] == [
        True
    ] * 5
    beside = dict(world.rows("SELECT job_id, rest::text FROM nightbatch.answer"))
    assert sorted(beside) == ([] if provider == "openai" else jobs)
    assert all("ignature" in text for text in beside.values())
    outputs = world.rows("SELECT output FROM nightbatch.result")
    assert all(output.keys() == {"text"} and output["text"] for output in outputs)
    world.judge()


@pytest.mark.fault(67)
@pytest.mark.parametrize("name", ["anthropic", "gemini"])
def test_searches_cost_what_the_bill_says(world: World, name: ProviderName) -> None:
    """The raw type goes to OpenAI's chat completions, which have no searches of their own."""
    tools: dict[ProviderName, Json] = {
        "anthropic": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "gemini": {"tools": [{"googleSearch": {}}]},
    }
    raw(world, name, [asked(name, f"Question {number}", **tools[name]) for number in range(5)])
    world.night("r1")
    assert all(found["web_searches"] > 0 for found in world.rows("SELECT units FROM nightbatch.result"))
    world.judge()


@pytest.mark.fault(67)
def test_audio_costs_what_the_bill_says(world: World) -> None:
    sound = {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}}
    body = {"contents": [{"parts": [sound, {"text": "What is said?"}]}]}
    raw(world, "gemini", [body], model="gemini-3-flash-preview")
    world.night("r1")
    assert world.rows("SELECT units ->> 'input_audio_tokens' FROM nightbatch.result") == ["258"]
    world.judge()


@pytest.mark.fault(66)
def test_what_stands_beside_is_erased_with_the_output(world: World) -> None:
    raw(world, "anthropic", [thinking("anthropic", "Question")])
    world.night("r1")
    assert world.rows("SELECT count(*) FROM nightbatch.answer") == [1]
    world.rows("UPDATE nightbatch.batch SET closed_at = closed_at - interval '9 days' RETURNING id")
    world.rows("UPDATE nightbatch.result SET finished_at = finished_at - interval '9 days' RETURNING job_id")
    retention.erase(world.store, job_types(), replace(world.settings, retention_days=7))
    assert world.rows("SELECT count(*) FROM nightbatch.answer") == [0]


@pytest.mark.fault(67)
@pytest.mark.parametrize("less", [(0, 0), (1, 0), (0, -1)])
def test_a_batch_whose_own_usage_is_not_that_of_its_lines_is_told(world: World, less: tuple[int, int]) -> None:
    world.insert("openai", 3)
    (batch,) = world.plan()
    sent = world.submit_until_certain(batch)
    assert sent is not None
    world.wait_for_the_end(sent)
    provider = world.provider("openai")
    real = provider.get_state

    async def other(provider_batch_id: str) -> ProviderState:
        state = await real(provider_batch_id)
        assert state.tokens is not None
        return replace(state, tokens=(state.tokens[0] - less[0], state.tokens[1] - less[1]))

    provider.get_state = other  # type: ignore[method-assign]
    loading.load_batch(world.store, provider, job_types(), sent)
    assert world.rows("SELECT kind FROM nightbatch.alert") == (["usage_differs"] if any(less) else [])


@pytest.mark.fault(67)
def test_an_override_prices_a_unit_that_the_library_does_not(world: World) -> None:
    raw(world, "anthropic", [asked("anthropic", f"Question {n}", LONG) for n in range(9)], model="emulator-large")
    world.rows(
        "INSERT INTO nightbatch.price_override (provider, model, valid_from, input_usd, output_usd, batch_input_usd,"
        " batch_output_usd, batch_other_usd, other_usd, note) VALUES ('anthropic', 'emulator-large', '2026-01-01', 2, 2, 1, 1,"
        " '{\"cache_write_mtok\": 1.25}', '{\"cache_write_mtok\": 2.5}', 'ours') RETURNING id"
    )
    world.night("r1")
    rows = world.rows("SELECT input_tokens, output_tokens, units, batch_cost_usd FROM nightbatch.result")
    for taken, given, units, cost in rows:
        written = units["cache_write_tokens"] if units else 0
        assert cost == (taken + given + written * Decimal("0.25")) / Decimal(1_000_000)
    assert {units is None for _, _, units, _ in rows} == {True, False}

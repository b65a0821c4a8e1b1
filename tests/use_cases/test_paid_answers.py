"""What was paid for is kept, and costs what the provider's own bill says."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from nightbatch.batches import loading, retention
from nightbatch.core.models import Answer, Endpoint, ProviderName, ProviderState
from nightbatch.job_types import job_types
from nightbatch.job_types.base import ParsedOutput
from nightbatch.job_types.raw import Raw
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
    units = world.rows("SELECT units FROM nightbatch.result WHERE units ->> 'cache_write_tokens' IS NOT NULL")
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


class Caption(Raw):
    """A team's own type that wants the words only."""

    name = "caption"
    openai_endpoint: ClassVar[Endpoint] = "responses"

    def read_answer(self, answer: Answer, context: bytes = b"") -> ParsedOutput:
        return ParsedOutput(json.dumps({"text": answer.text}).encode())


PICTURES: dict[ProviderName, tuple[str, Json]] = {
    "openai": ("gpt-6-luna", {"input": "Draw a kettle", "tools": [{"type": "image_generation"}]}),
    "gemini": (
        "gemini-3.1-flash-image-preview",
        asked("gemini", "Draw a kettle", generationConfig={"responseModalities": ["TEXT", "IMAGE"]}),
    ),
}


@pytest.fixture
def drawn(world: World, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ProviderName:
    """A night of two jobs that ask for a picture: one takes all of the answer, one its words."""
    name: ProviderName = request.param
    model, body = PICTURES[name]
    types = {**job_types(), "caption": Caption()}
    monkeypatch.setattr("tests.use_cases.conftest.job_types", lambda: types)
    monkeypatch.setattr(Raw, "openai_endpoint", "responses")
    insert = "INSERT INTO nightbatch.job (job_type, provider, model, input) VALUES (%s, %s, %s, %s) RETURNING id"
    for kind in ("raw", "caption"):
        world.rows(insert, kind, name, model, json.dumps({"body": body}))
    world.night("r1")
    assert set(world.states().values()) == {"succeeded"}
    return name


def pictures(found: Any) -> list[bytes]:
    """Of an answer in its provider's own words."""
    items = found.get("output") or found["candidates"][0]["content"]["parts"]
    given = [item.get("result") or (item.get("inlineData") or {}).get("data") for item in items]
    return [base64.b64decode(data) for data in given if data]


@pytest.mark.fault(66)
@pytest.mark.parametrize("drawn", ["openai", "gemini"], indirect=True)
def test_a_picture_is_kept_in_the_output_or_beside_it(world: World, drawn: ProviderName) -> None:
    outputs = world.rows("SELECT output FROM nightbatch.result ORDER BY job_id")
    (rest,) = world.rows("SELECT rest FROM nightbatch.answer WHERE job_id = 2")
    assert world.rows("SELECT job_id FROM nightbatch.answer") == [2], "the first holds all of it itself"
    for found in (pictures(outputs[0]["message"]), pictures(rest)):
        assert [picture[:8] for picture in found] == [b"\x89PNG\r\n\x1a\n"]
    assert outputs[0]["text"] == outputs[1]["text"] != "", drawn


@pytest.mark.fault(67)
@pytest.mark.parametrize("drawn", ["gemini"], indirect=True)
def test_a_picture_costs_what_the_bill_says(world: World, drawn: ProviderName) -> None:
    assert [units["output_image_tokens"] for units in world.rows("SELECT units FROM nightbatch.result")] == [1290, 1290]
    (source,) = world.rows("SELECT DISTINCT price_source FROM nightbatch.batch")
    assert "output_image_mtok" in source, drawn
    world.judge()


@pytest.mark.fault(67)
@pytest.mark.parametrize("drawn", ["openai"], indirect=True)
def test_a_picture_that_another_model_drew_leaves_the_line_without_a_price(world: World, drawn: ProviderName) -> None:
    assert world.rows("SELECT DISTINCT batch_cost_usd FROM nightbatch.result") == [None], drawn
    assert world.rows("SELECT unpriced FROM nightbatch_report.run_summary") == [2]
    assert all(Decimal(line["cost_usd"]) > Decimal("0.02") for line in world.bill()), "which is not cheap"


@pytest.mark.fault(67)
def test_pages_that_the_model_opened_cost_what_the_bill_says(world: World) -> None:
    raw(world, "gemini", [asked("gemini", f"Read it {number}", tools=[{"urlContext": {}}]) for number in range(5)])
    world.night("r1")
    rows = world.rows("SELECT units, input_tokens FROM nightbatch.result")
    assert all(units["input_tool_tokens"] >= 40 and taken > units["input_tool_tokens"] for units, taken in rows)
    assert all("urlContextMetadata" in text for text in world.rows("SELECT rest::text FROM nightbatch.answer"))
    assert world.rows("SELECT count(*) FROM nightbatch.answer") == [5]
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

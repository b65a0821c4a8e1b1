"""Every unit that genai-prices prices: read from each provider's own fields, and priced as the library does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from random import Random
from typing import Any

import pytest
from genai_prices import extract_usage
from genai_prices.data import providers
from genai_prices.data_snapshot import get_snapshot

from nightbatch.core.models import ProviderName, ResultLine, Usage
from nightbatch.core.pricing import Cost, PriceFactor, PriceOverride, Tariff, rates_for
from nightbatch.core.profiles import BUILT_IN
from nightbatch.core.units import PLAIN, UNITS, wholes
from nightbatch.postgres.store import open_store

Json = dict[str, Any]
AT = datetime(2026, 11, 20, tzinfo=UTC)
LIBRARY = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
MANY, EACH = 600, 50


def models_of(provider: ProviderName) -> list[str]:
    """Those with a batch price; half of what is tried falls on the few that price the rarest units."""
    listed = next(one for one in providers if one.id == LIBRARY[provider])
    found = [model for model in listed.models if rates_for(provider, model.id, at=AT)]
    rare = [model for model in found if len(vars(model.get_prices(AT))) > 4]
    return [model.id for model in found + rare * (len(found) // max(1, len(rare)))]


def some(random: Random, most: int) -> int:
    """Often nothing, sometimes much."""
    return random.choice((0, 1, random.randint(1, most), random.randint(1, most)))


def openai_chat(random: Random, model: str) -> Json:
    fresh, read, written, audio = (some(random, most) for most in (400_000, 90_000, 90_000, 5000))
    thoughts, spoken, text = some(random, 9000), some(random, 3000), some(random, 9000)
    usage = {
        "prompt_tokens": fresh + read + written + audio,
        "completion_tokens": thoughts + spoken + text,
        "total_tokens": fresh + read + written + audio + thoughts + spoken + text,
        "prompt_tokens_details": {"cached_tokens": read, "audio_tokens": audio, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": thoughts, "audio_tokens": spoken},
    }
    choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    return {"object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def openai_responses(random: Random, model: str) -> Json:
    fresh, read, written, thoughts, text = (some(random, most) for most in (400_000, 90_000, 90_000, 9000, 9000))
    usage = {
        "input_tokens": fresh + read + written,
        "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "output_tokens": thoughts + text,
        "output_tokens_details": {"reasoning_tokens": thoughts},
        "total_tokens": fresh + read + written + thoughts + text,
    }
    message = {"type": "message", "content": [{"type": "output_text", "text": "yes", "annotations": []}]}
    return {"object": "response", "status": "completed", "model": model, "output": [message], "usage": usage}


def anthropic_message(random: Random, model: str) -> Json:
    fresh, read, short, long, thoughts, text = (
        some(random, most) for most in (300_000, 90_000, 90_000, 90_000, 9000, 9000)
    )
    usage: Json = {
        "input_tokens": fresh,
        "cache_creation_input_tokens": short + long,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": thoughts + text,
        "output_tokens_details": {"thinking_tokens": thoughts},
        "service_tier": "batch",
        "inference_geo": random.choice(("not_available", "global")),
    }
    if random.random() < 0.5:
        usage["server_tool_use"] = {"web_search_requests": some(random, 9), "web_fetch_requests": some(random, 3)}
    content = [{"type": "text", "text": "yes"}]
    return {"type": "message", "model": model, "content": content, "stop_reason": "end_turn", "usage": usage}


MODALITIES = ("TEXT", "AUDIO", "IMAGE", "DOCUMENT", "VIDEO")


def divided(random: Random, kinds: tuple[str, ...] = MODALITIES) -> dict[str, int]:
    return {kind: some(random, 60_000) for kind in random.sample(kinds, random.randint(1, len(kinds)))}


def details(counts: Mapping[str, int]) -> list[Json]:
    return [{"modality": kind, "tokenCount": count} for kind, count in counts.items()]


def gemini_response(random: Random, model: str) -> Json:
    prompt, answer, tools = divided(random), divided(random, ("TEXT", "IMAGE", "AUDIO", "VIDEO")), divided(random)
    cached = {kind: random.randint(0, count) for kind, count in prompt.items()}
    usage: Json = {
        "promptTokenCount": sum(prompt.values()),
        "promptTokensDetails": details(prompt),
        "candidatesTokenCount": sum(answer.values()),
        "thoughtsTokenCount": some(random, 9000),
        "serviceTier": "standard",
    }
    if random.random() < 0.7:
        usage["candidatesTokensDetails"] = details(answer)
    if random.random() < 0.5:
        usage |= {"cachedContentTokenCount": sum(cached.values()), "cacheTokensDetails": details(cached)}
    if random.random() < 0.4:
        usage |= {"toolUsePromptTokenCount": sum(tools.values()), "toolUsePromptTokensDetails": details(tools)}
    candidate = {"content": {"parts": [{"text": "yes"}], "role": "model"}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "modelVersion": model, "usageMetadata": usage}


SHAPES: dict[ProviderName, list[tuple[str, Callable[[Random, str], Json]]]] = {
    "openai": [("chat", openai_chat), ("responses", openai_responses)],
    "anthropic": [("default", anthropic_message)],
    "gemini": [("default", gemini_response)],
}


def read(provider: ProviderName, body: Json) -> ResultLine:
    line: Json = {"key": "j1_a1", "response": body}
    if provider == "anthropic":
        line = {"custom_id": "j1_a1", "result": {"type": "succeeded", "message": body}}
    elif provider == "openai":
        line = {"custom_id": "j1_a1", "response": {"status_code": 200, "body": body}, "error": None}
    found = import_module(f"nightbatch.providers.{provider}_results").read(json.dumps(line).encode())
    assert isinstance(found, ResultLine)
    return found


def theirs(provider: ProviderName, body: Json, flavor: str, context: dict[str, str] | None) -> Decimal | None:
    """None where the library cannot price the usage, or takes a unit for nothing because it has no price."""
    found = extract_usage(body, provider_id=LIBRARY[provider], api_flavor=flavor)
    assert found.model is not None
    priced = {name for name, unit in UNITS.items() if getattr(found.model.get_prices(AT, context), unit.price_key)}
    if any(count and not wholes(name) & priced for name, count in vars(found.usage).items()):
        return None
    try:
        return found.calc_price(genai_request_timestamp=AT, price_context=context).total_price
    except ValueError:
        return None


@pytest.mark.fault(67)
@pytest.mark.parametrize("provider", BUILT_IN)
def test_every_unit_costs_what_the_library_says_to_the_last_digit(provider: ProviderName) -> None:
    random, seen, priced = Random(provider), Counter[str](), 0
    models = models_of(provider)
    for number in range(MANY):
        flavor, shape = SHAPES[provider][number % len(SHAPES[provider])]
        model = random.choice(models)
        body = shape(random, model)
        usage, rates = read(provider, body).usage, rates_for(provider, model, at=AT)
        assert usage is not None and rates is not None
        batch = theirs(provider, body, flavor, {"processing": "batch"})
        assert rates.batch.cost(usage) == batch, (model, body)
        assert rates.realtime.cost(usage) == theirs(provider, body, flavor, None), (model, body)
        reported = vars(extract_usage(body, provider_id=LIBRARY[provider], api_flavor=flavor).usage)
        seen.update(name for name, count in reported.items() if count)
        priced += batch is not None
    units = {mapping.dest for flavor, _ in SHAPES[provider] for mapping in extractor(provider, flavor)}
    assert {unit: seen[unit] for unit in units if seen[unit] < EACH} == {}
    assert priced >= 500


def extractor(provider: ProviderName, flavor: str) -> Any:
    library = next(one for one in get_snapshot().providers if one.id == LIBRARY[provider])
    return next(one.mappings for one in library.extractors or () if one.api_flavor == flavor)


def test_the_schema_takes_a_price_for_every_unit_that_the_library_has(dsn: str) -> None:
    """A unit that is new in the library has to come into the schema, and be read from the providers' fields."""
    with open_store(dsn) as store:
        takes = "SELECT nightbatch.are_unit_prices(jsonb_build_object(%s::text, 0.5))"
        keys = {unit.price_key for name, unit in UNITS.items() if name not in PLAIN}
        assert [key for key in keys if not store.connection.execute(takes, [key]).fetchone()[0]] == []  # type: ignore[index]
        for wrong in ('{"cache_mtok": 1}', '{"audio_hours": -1}', '{"audio_hours": "1"}', "[]", '{"input_mtok": 1}'):
            found = store.connection.execute("SELECT nightbatch.are_unit_prices(%s)", [wrong]).fetchone()
            assert found == (False,), wrong


@pytest.mark.parametrize("provider", BUILT_IN)
def test_no_model_prices_what_plain_lines_leave_out(provider: ProviderName) -> None:
    """Text by itself is not read where all is text, and no request has a price of its own: see `nightbatch.providers.plain`."""
    listed = next(one for one in providers if one.id == LIBRARY[provider])
    keys = {key for model in listed.models for key, price in vars(model.get_prices(AT)).items() if price is not None}
    assert not {key for key in keys if "_text_" in key or key == "requests_kcount"}


def tariff(**prices: str) -> Tariff:
    row = PriceOverride(
        "openai", "m", AT.date(), None, None, None, None, Decimal(1), None, Decimal(2), "ours",
        batch_other_usd={key: Decimal(price) for key, price in prices.items()},
    )  # fmt: skip
    rates = rates_for("openai", "m", at=AT, overrides=[replace(row, input_usd=Decimal(1))])
    assert rates is not None
    return rates.batch


@pytest.mark.fault(67)
@pytest.mark.parametrize(
    "unit", ["cache_write_tokens", "cache_write_1h_tokens", "input_audio_tokens", "web_searches", "new"]
)
def test_a_used_unit_that_nobody_gave_a_price_for_leaves_the_line_without_one(unit: str) -> None:
    assert tariff().cost(Usage(1000, 10, 0, ((unit, 5),))) is None


def test_an_override_can_price_each_unit() -> None:
    usage = Usage(1000, 10, 0, (("cache_write_tokens", 300), ("cache_write_1h_tokens", 100), ("web_searches", 2)))
    found = tariff(cache_write_mtok="1.25", cache_write_1h_mtok="2", web_searches_kcount="10")
    fresh, short, long, text = 700 * 1, 200 * Decimal("1.25"), 100 * 2, 10 * 2
    assert found.cost(usage) == (fresh + short + long + text) / Decimal(1_000_000) + Decimal("0.02")


def test_parts_that_do_not_add_up_have_no_price() -> None:
    rates = rates_for("anthropic", "claude-haiku-5-5", at=AT)
    assert rates is not None
    assert rates.cost(Usage(10, 1, 0, (("cache_write_tokens", 11),))) is None


def test_a_term_multiplies_tokens_alone_where_a_row_says_so_and_else_leaves_no_price() -> None:
    usage = Usage(1_000_000, 0, 0, (("web_searches", 3),), ("inference_geo=us",))
    row = PriceFactor("anthropic", "inference_geo=us", AT.date(), None, Decimal("1.1"))
    priced = rates_for("anthropic", "claude-sonnet-5", at=AT, factors=[row])
    assert priced is not None
    cost = priced.cost(usage)
    assert cost is not None and cost.batch_usd == Decimal("1.1") + Decimal("0.03")
    assert priced.source_of(usage).endswith(", inference_geo=us: tokens times 1.1")
    unknown = rates_for("anthropic", "claude-sonnet-5", at=AT)
    assert unknown is not None and unknown.cost(usage) is None


TIERS = [
    ("openai", "gpt-6-luna", "service_tier", "priority"),
    ("openai", "gpt-6-luna", "service_tier", "flex"),
    ("openai", "gpt-5.6-sol", "service_tier", "fast"),
    ("gemini", "gemini-3.8-flash-tts", "service_tier", "priority"),
    ("anthropic", "claude-opus-5-5", "speed", "fast"),
]


def in_tier(provider: ProviderName, model: str, name: str, value: str) -> tuple[Json, str]:
    """A body whose answer came in a tier, and the flavor of it."""
    flavor, shape = SHAPES[provider][0]
    body = shape(Random(f"{model}{value}"), model)
    if provider == "openai":
        body[name] = value
    elif provider == "anthropic":
        body["usage"][name] = value
    else:
        body["usageMetadata"]["serviceTier"] = f"SERVICE_TIER_{value.upper()}"
    return body, flavor


@pytest.mark.fault(67)
@pytest.mark.parametrize(("provider", "model", "name", "value"), TIERS)
def test_a_tier_of_a_realtime_answer_costs_what_the_library_says_and_in_a_batch_nobody_knows(
    provider: ProviderName, model: str, name: str, value: str
) -> None:
    body, flavor = in_tier(provider, model, name, value)
    usage = read(provider, body).usage
    realtime, batch = (rates_for(provider, model, at=AT, mode=mode) for mode in ("realtime", "batch"))
    assert usage is not None and usage.terms == (f"{name}={value}",) and realtime is not None and batch is not None
    wanted = theirs(provider, body, flavor, {name: value})
    assert wanted is not None and wanted != theirs(provider, body, flavor, None)
    assert realtime.cost(usage) == Cost(wanted, wanted)
    assert f"{name}={value}: in " in realtime.source_of(usage)
    assert batch.cost(usage) is None


@pytest.mark.fault(67)
@pytest.mark.parametrize(
    ("provider", "model", "value"),
    [
        ("openai", "gpt-6-luna", "scale"),
        ("openai", "gpt-6-luna", 7),
        ("gemini", "gemini-3.5-flash-lite", "priority"),
        ("anthropic", "claude-haiku-5-5", "priority"),
    ],
)
def test_a_tier_without_a_price_leaves_the_answer_without_one(provider: ProviderName, model: str, value: str) -> None:
    body, _ = in_tier(provider, model, "service_tier", str(value))
    if provider == "openai":
        body["service_tier"] = value
    usage, rates = read(provider, body).usage, rates_for(provider, model, at=AT, mode="realtime")
    assert usage is not None and rates is not None
    assert rates.cost(usage) is None


@pytest.mark.fault(67)
def test_an_override_says_nothing_of_a_tier() -> None:
    override = PriceOverride(
        "openai", "gpt-6-luna", AT.date(), None, Decimal(1), None, Decimal(1), Decimal(1), None, Decimal(1), "ours"
    )
    usage = Usage(1000, 10, 0, (), ("service_tier=priority",))
    rates = rates_for("openai", "gpt-6-luna", at=AT, overrides=[override], mode="realtime")
    assert rates is not None and rates.cost(usage) is None
    factor = PriceFactor("openai", "service_tier=priority", AT.date(), None, Decimal(2))
    rates = rates_for("openai", "gpt-6-luna", at=AT, overrides=[override], factors=[factor], mode="realtime")
    assert rates is not None
    assert rates.cost(usage) == Cost(Decimal("0.00202"), Decimal("0.00202"))


@pytest.mark.fault(67)
def test_a_model_is_priced_under_the_name_that_people_copy() -> None:
    assert rates_for("gemini", "models/gemini-3.5-flash-lite", at=AT) == rates_for(
        "gemini", "gemini-3.5-flash-lite", at=AT
    )

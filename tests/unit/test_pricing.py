from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as ListedUsage
from genai_prices import calc_price
from genai_prices.data import providers

from nightbatch.core.models import ProviderName, Usage
from nightbatch.core.pricing import Cost, PriceOverride, Rates, rates_for

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
NAMES: dict[str, ProviderName] = {"openai": "openai", "anthropic": "anthropic", "google": "gemini"}
USAGES = [
    Usage(0, 0),
    Usage(1, 1),
    Usage(812, 340, 512),
    Usage(200_000, 3),
    Usage(200_001, 777, 131_072),
    Usage(999_999, 65_536, 999_999),
]
MODELS = [
    (provider.id, model.id)
    for provider in providers
    if provider.id in NAMES
    for model in provider.models
    if any(variant.when == {"processing": "batch"} for variant in model.price_variants or ())
    and rates_for(NAMES[provider.id], model.id, at=NOW)
]


def override(**values: object) -> PriceOverride:
    given: dict[str, object] = dict.fromkeys(PriceOverride.__dataclass_fields__)
    given |= {"provider": "openai", "model": "m", "valid_from": date(2026, 1, 1), "note": "a contract"} | values
    return PriceOverride(**given)  # type: ignore[arg-type]


def cost_of(rates: Rates, usage: Usage) -> Cost:
    cost = rates.cost(usage)
    assert cost is not None
    return cost


def test_there_are_models_to_compare() -> None:
    assert len(MODELS) > 50


@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_rates_price_every_usage_as_the_library_does(provider: str, model: str) -> None:
    rates = rates_for(NAMES[provider], model, at=NOW)
    assert rates is not None
    for usage in USAGES:
        listed = ListedUsage(
            input_tokens=usage.input_tokens, cache_read_tokens=usage.cached_tokens, output_tokens=usage.output_tokens
        )
        cost = rates.cost(usage)
        if usage.output_tokens and "output_tokens" not in rates.batch.prices:  # the library takes that for nothing
            assert cost is None
            continue
        assert cost is not None
        for ours, context in ((cost.realtime_usd, None), (cost.batch_usd, {"processing": "batch"})):
            theirs = calc_price(
                listed, model, provider_id=provider, genai_request_timestamp=NOW, price_context=context
            ).total_price
            assert ours == theirs


@pytest.mark.fault(44)
@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "no-such-model"), ("openai", "text-embedding-3-small"), ("gemini", "gemini-embedding-001")],
)
def test_an_unknown_price_is_none_and_never_a_guess(provider: ProviderName, model: str) -> None:
    assert rates_for(provider, model, at=NOW) is None


def test_before_the_librarys_batch_prices_begin_nothing_is_priced() -> None:
    assert rates_for("openai", "gpt-6-luna", at=datetime(2026, 10, 13, tzinfo=UTC)) is None
    assert rates_for("openai", "gpt-6-luna", at=datetime(2026, 10, 14, tzinfo=UTC)) is not None


def test_an_override_gives_the_batch_price_that_the_library_lacks() -> None:
    rates = rates_for(
        "openai",
        "text-embedding-3-small",
        at=NOW,
        overrides=[override(model="text-embedding-3-small", batch_input_usd=Decimal("0.01"))],
    )
    assert rates is not None
    assert cost_of(rates, Usage(1_000_000, 0)).realtime_usd == Decimal("0.02")
    assert cost_of(rates, Usage(1_000_000, 0)).batch_usd == Decimal("0.01")
    assert rates.source.startswith("genai-prices ")
    assert rates.source.endswith(", a contract")


def test_an_override_alone_can_price_a_model_that_nobody_lists() -> None:
    row = override(input_usd=Decimal(4), output_usd=Decimal(8), batch_input_usd=Decimal(1), batch_output_usd=Decimal(2))
    rates = rates_for("openai", "m", at=NOW, overrides=[row])
    assert rates is not None
    assert rates.source == "a contract"
    assert cost_of(rates, Usage(1_000_000, 500_000)).batch_usd == Decimal(2)


@pytest.mark.parametrize(("first", "last", "known"), [
    (date(2026, 11, 23), None, True),
    (date(2026, 11, 24), None, False),
    (date(2026, 1, 1), date(2026, 11, 22), False),
    (date(2026, 1, 1), date(2026, 11, 23), True),
])  # fmt: skip
def test_an_override_holds_on_its_days_only(first: date, last: date | None, known: bool) -> None:
    row = override(valid_from=first, valid_to=last, input_usd=Decimal(2), batch_input_usd=Decimal(1))
    assert (rates_for("openai", "m", at=NOW, overrides=[row]) is not None) is known


def test_of_two_overrides_the_newer_one_wins() -> None:
    rows = [
        override(input_usd=Decimal(2), batch_input_usd=Decimal(1)),
        override(valid_from=date(2026, 6, 1), input_usd=Decimal(2), batch_input_usd=Decimal("0.5")),
    ]
    rates = rates_for("openai", "m", at=NOW, overrides=rows)
    assert rates is not None
    assert rates.batch.input.base == Decimal("0.5")

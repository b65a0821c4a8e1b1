"""What usage costs, and what it would have cost in realtime: exact, per model and day.

Prices come from genai-prices. A million calls of its ``calc_price`` take a minute, so its unit prices are looked up once per
model and moment, and applied here to every row in the same way (tests compare the two for every model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property

import msgspec
from genai_prices import __version__ as genai_prices_version
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from nightbatch.models import ProviderName, Usage

_LIBRARY_IDS: Mapping[ProviderName, str] = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
_BATCH = {"processing": "batch"}
_MILLION = Decimal(1_000_000)
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """A row of ``nightbatch.price_override``: USD per million tokens; None means as in genai-prices."""

    provider: ProviderName
    model: str
    valid_from: date
    valid_to: date | None
    input_usd: Decimal | None
    cached_input_usd: Decimal | None
    output_usd: Decimal | None
    batch_input_usd: Decimal | None
    batch_cached_input_usd: Decimal | None
    batch_output_usd: Decimal | None
    note: str


class Cost(msgspec.Struct, frozen=True, gc=False):
    """USD, exact: what a realtime call would have cost, and what the batch did cost."""

    realtime_usd: Decimal
    batch_usd: Decimal


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per million tokens; a tier's price holds for all tokens of a request with more input tokens than its start."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        """The price for a request with that many input tokens."""
        price = self.base
        for start, tier_price in self.tiers:
            if input_tokens > start:
                price = tier_price
        return price


@dataclass(frozen=True)
class Tariff:
    """The three unit prices of one way to call a model."""

    input: Rate
    cached_input: Rate
    output: Rate

    def cost(self, usage: Usage) -> Decimal:
        """USD for one request."""
        total, cached = usage.input_tokens, usage.cached_tokens
        fresh_price, cached_price, output_price = self._flat or self._at(total)
        return fresh_price * (total - cached) + cached_price * cached + output_price * usage.output_tokens

    def _at(self, input_tokens: int) -> tuple[Decimal, Decimal, Decimal]:
        """USD per token in a request with that many input tokens."""
        rates = (self.input, self.cached_input, self.output)
        fresh, cached, output = (rate.at(input_tokens) / _MILLION for rate in rates)
        return fresh, cached, output

    @cached_property
    def _flat(self) -> tuple[Decimal, Decimal, Decimal] | None:
        """The same for every request; None where prices have tiers."""
        tiered = self.input.tiers or self.cached_input.tiers or self.output.tiers
        return None if tiered else self._at(0)

    def describe(self) -> str:
        """Unit prices for a person, per million tokens."""
        return f"in {self.input.base}, cached {self.cached_input.base}, out {self.output.base}"


@dataclass(frozen=True, slots=True)
class Rates:
    """What a model costs at one moment. ``source`` names where the prices come from, and stays with every result."""

    realtime: Tariff
    batch: Tariff
    source: str

    def cost(self, usage: Usage) -> Cost:
        """Both prices of one request; no rounding."""
        return Cost(self.realtime.cost(usage), self.batch.cost(usage))

    def describe(self) -> str:
        """The source and the unit prices, so that a figure can be explained later."""
        return (
            f"{self.source}; USD per million tokens: batch {self.batch.describe()}; realtime {self.realtime.describe()}"
        )


def rates_for(
    provider: ProviderName, model: str, *, at: datetime, overrides: Sequence[PriceOverride] = ()
) -> Rates | None:
    """The prices in force at a moment; None when the realtime or the batch price is not known.

    genai-prices gives the standard price for a model without a batch variant, and for every model before 2026-10-14, when
    its batch variants begin: both count as unknown here, unless an override names the batch price.
    """
    override = _in_force(provider, model, at.astimezone(UTC).date(), overrides)
    listed = _listed(provider, model, at)
    standard, batch = listed if listed else (None, None)
    realtime_tariff = _tariff(standard, override, ("input_usd", "cached_input_usd", "output_usd"))
    batch_tariff = _tariff(batch, override, ("batch_input_usd", "batch_cached_input_usd", "batch_output_usd"))
    if realtime_tariff is None or batch_tariff is None:
        return None
    source = f"genai-prices {genai_prices_version}" if listed else ""
    if override:
        source = f"{source}, {override.note}" if source else override.note
    return Rates(realtime_tariff, batch_tariff, source)


def _in_force(
    provider: ProviderName, model: str, day: date, overrides: Sequence[PriceOverride]
) -> PriceOverride | None:
    fitting = [
        row
        for row in overrides
        if row.provider == provider
        and row.model == model
        and row.valid_from <= day
        and (row.valid_to is None or day <= row.valid_to)
    ]
    return fitting[-1] if fitting else None


def _listed(provider: ProviderName, model: str, at: datetime) -> tuple[ModelPrice, ModelPrice | None] | None:
    try:
        _, info = get_snapshot().find_provider_model(model, None, _LIBRARY_IDS[provider], None)
    except LookupError:
        return None
    return info.get_prices(at), info.get_prices(at, _BATCH) if _has_batch_price(info, at) else None


def _has_batch_price(info: ModelInfo, at: datetime) -> bool:
    return any(
        variant.when == _BATCH and (variant.constraint is None or variant.constraint.active(at))
        for variant in info.price_variants or ()
    )


def _tariff(price: ModelPrice | None, override: PriceOverride | None, names: tuple[str, str, str]) -> Tariff | None:
    """The override's unit prices before the library's; None without an input price, the one that every model has."""
    own: list[Decimal | None] = [getattr(override, name) if override else None for name in names]
    listed = (price.input_mtok, price.cache_read_mtok, price.output_mtok) if price else (None, None, None)
    fresh, cached, output = (_rate(mine) or _rate(theirs) for mine, theirs in zip(own, listed, strict=True))
    if fresh is None:
        return None
    # Without a price of their own, cached tokens are billed like others, and an embedding's output is nothing.
    return Tariff(fresh, cached or fresh, output or Rate(_ZERO))


def _rate(price: Decimal | TieredPrices | None) -> Rate | None:
    match price:
        case None:
            return None
        case TieredPrices():
            return Rate(price.base, tuple((tier.start, tier.price) for tier in price.tiers))
        case _:
            return Rate(price)

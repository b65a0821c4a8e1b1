"""What usage costs, and what it would have cost in realtime: exact, per model and day.

Prices come from genai-prices. A million calls of its ``calc_price`` take a minute, so its unit prices are looked up once per
model and moment, and applied here to every row in the same way (tests compare the two for every model and every unit).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import msgspec
from genai_prices import __version__ as genai_prices_version
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from nightbatch.core.models import ProviderName, Usage
from nightbatch.core.profiles import profiles
from nightbatch.core.units import BY_PRICE_KEY, PLAIN, UNITS, finest_first, is_untold, wholes

_BATCH = {"processing": "batch"}
_MILLION = Decimal(1_000_000)
_ZERO = Decimal(0)
_NONE: Mapping[str, Decimal] = MappingProxyType({})
_NO_WAYS: Mapping[str, Tariff] = MappingProxyType({})
# What may cost more than the whole that it is a part of, so that the price of the whole does not tell its own.
_DEARER = frozenset(
    name for name, unit in UNITS.items()
    if {"cache_write", "audio", "image", "video"} & {value for _, value in unit.dimensions}
    and ("cache_ttl", "5m") not in unit.dimensions  # priced as a write without a lifetime
)  # fmt: skip
_COLUMNS = {"input_usd": "input_tokens", "cached_input_usd": "cache_read_tokens", "output_usd": "output_tokens"}


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """A row of ``nightbatch.price_override``: USD per million tokens; None means as in genai-prices.

    ``other_usd`` and ``batch_other_usd`` hold the prices of all other units by their name in genai-prices, such as
    ``cache_write_mtok``, each in USD for as much of it as the name says.
    """

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
    other_usd: Mapping[str, Decimal] | None = None
    batch_other_usd: Mapping[str, Decimal] | None = None

    def prices(self, prefix: str = "") -> dict[str, Rate]:
        """Return the prices that the row gives, by unit; ``prefix`` is empty or ``batch_``."""
        named = {unit: getattr(self, prefix + column) for column, unit in _COLUMNS.items()}
        others = getattr(self, f"{prefix}other_usd") or _NONE
        named |= {BY_PRICE_KEY[key].name: price for key, price in others.items() if key in BY_PRICE_KEY}
        return {unit: Rate(price) for unit, price in named.items() if price is not None}


@dataclass(frozen=True, slots=True)
class PriceFactor:
    """A row of ``nightbatch.price_factor``: a factor on the price of all tokens under a term that genai-prices does not know."""

    provider: ProviderName
    term: str
    valid_from: date
    valid_to: date | None
    factor: Decimal


class Cost(msgspec.Struct, frozen=True, gc=False):
    """The exact costs of a request in USD: what a realtime call would have cost, and what the batch did cost."""

    realtime_usd: Decimal
    batch_usd: Decimal


@dataclass(frozen=True, slots=True)
class Rate:
    """A price in USD per million tokens, or for as much as the unit's name says.

    A tier's price holds for all of a request with more input tokens than its start.
    """

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        """Return the price for a request with that many input tokens."""
        price = self.base
        for start, tier_price in self.tiers:
            if input_tokens > start:
                price = tier_price
        return price

    def __str__(self) -> str:
        return " ".join([str(self.base), *(f"(over {start}: {price})" for start, price in self.tiers)])


@dataclass(frozen=True)
class Tariff:
    """The unit prices of one way to call a model, by unit; ``unknown`` are units whose price nobody gave."""

    prices: Mapping[str, Rate]
    unknown: frozenset[str] = frozenset()

    @property
    def input(self) -> Rate:
        """Return the price of input tokens, the one that every model has."""
        return self.prices["input_tokens"]

    @property
    def cached_input(self) -> Rate:
        """Return the price of tokens from a cache; without one of their own they are billed like others."""
        return self.prices.get("cache_read_tokens", self.input)

    @property
    def output(self) -> Rate:
        """Return the price of output tokens; it is 0 for a model that gives vectors, which has none."""
        return self.prices.get("output_tokens", Rate(_ZERO))

    def cost(self, usage: Usage, factor: Decimal | None = None) -> Decimal | None:
        """Return the USD for one request; None where the price of something in it is not known. ``factor`` is for its tokens."""
        if factor is not None or (usage.units and not all(name in self._usual for name, _ in usage.units)):
            return self._sum(usage, factor or Decimal(1))
        if usage.output_tokens and "output_tokens" not in self.prices:
            return None
        total, cached = usage.input_tokens, usage.cached_tokens
        fresh_price, cached_price, output_price = self._flat or self._at(total)
        return fresh_price * (total - cached) + cached_price * cached + output_price * usage.output_tokens

    def cost_together(self, input_tokens: Decimal | int, output_tokens: Decimal | int) -> Decimal:
        """USD for the tokens of many requests, of which only the sum is known: each is priced as if it were a short one."""
        return (self.input.base * input_tokens + self.output.base * output_tokens) / _MILLION

    def _at(self, input_tokens: int) -> tuple[Decimal, Decimal, Decimal]:
        """Return the USD per fresh, cached and output token in a request with that many input tokens."""
        fresh, cached, output = self._plain
        return fresh.at(input_tokens) / _MILLION, cached.at(input_tokens) / _MILLION, output.at(input_tokens) / _MILLION

    @cached_property
    def _plain(self) -> tuple[Rate, Rate, Rate]:
        return self.input, self.cached_input, self.output

    @cached_property
    def _flat(self) -> tuple[Decimal, Decimal, Decimal] | None:
        """Return the prices per token that hold for every request; None where prices have tiers."""
        return None if any(rate.tiers for rate in self._plain) else self._at(0)

    @cached_property
    def _usual(self) -> frozenset[str]:
        """Return the units that cost as much as the tokens that they are a part of: the three plain units say all there is."""
        special = (self.prices.keys() | self.unknown) - PLAIN
        return frozenset(
            name for name in UNITS if wholes(name) & PLAIN & self.prices.keys() and not wholes(name) & special
        )

    def _sum(self, usage: Usage, factor: Decimal) -> Decimal | None:
        """Return the cost of all units, each without its parts that have a price of their own; None where it is not known."""
        counts = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, **dict(usage.units)}
        if usage.cached_tokens or "cache_read_tokens" in self.prices:
            counts["cache_read_tokens"] = usage.cached_tokens
        told = frozenset(name for name, count in counts.items() if count)
        if not all(self._covers(name) for name in told):
            return None
        alone: dict[str, int] = {}
        cost = _ZERO
        for unit, parts in finest_first(frozenset(self.prices)):
            if unit.name not in counts and is_untold(unit.name, told):
                return None
            left = counts.get(unit.name, 0) - sum(alone[part] for part in parts)
            if left < 0:
                return None
            alone[unit.name] = left
            if left:
                price = self.prices[unit.name].at(usage.input_tokens)
                cost += price * (factor if unit.is_tokens else 1) * left / unit.per
        return cost

    def _covers(self, name: str) -> bool:
        """Return whether a unit has a price, or is a part of something that has, and is not known to be dearer."""
        around = wholes(name)
        return name in self.prices or (bool(around & self.prices.keys()) and not around & self.unknown)

    def describe(self) -> str:
        """Return the unit prices for a person, per million tokens or as their names say."""
        texts = [f"in {self.input}", f"cached {self.cached_input}", f"out {self.output}"]
        others = (UNITS[name] for name in UNITS if name in self.prices and name not in PLAIN)
        return ", ".join([*texts, *(f"{unit.price_key} {self.prices[unit.name]}" for unit in others)])


@dataclass(frozen=True, slots=True)
class Rates:
    """The prices of a model at one moment. ``source`` names where they come from, and stays with every result.

    ``factors`` are what tokens cost more under a term, ``ways`` the prices of a realtime answer under one, as in a service tier.
    """

    realtime: Tariff
    batch: Tariff
    source: str
    factors: Mapping[str, Decimal] = field(default_factory=dict)
    ways: Mapping[str, Tariff] = field(default_factory=dict)

    def cost(self, usage: Usage) -> Cost | None:
        """Return both prices of one request, not rounded; None where the price of something in it is not known."""
        factor, way = None, None
        for term in usage.terms:
            if term in self.factors:
                factor = self.factors[term] * (factor or 1)
            elif term in self.ways and way is None:
                way = self.ways[term]
            else:
                return None
        realtime, batch = (way or self.realtime).cost(usage, factor), (way or self.batch).cost(usage, factor)
        return None if realtime is None or batch is None else Cost(realtime, batch)

    def source_of(self, usage: Usage) -> str:
        """Return where the prices of a request come from, with the factors and the other prices that were applied to it."""
        return ", ".join([self.source, *(f"{term}: {self._under(term)}" for term in usage.terms)])

    def _under(self, term: str) -> str:
        return f"tokens times {self.factors[term]}" if term in self.factors else self.ways[term].describe()

    def describe(self) -> str:
        """Return the source and the unit prices, so that a figure can be explained later."""
        return (
            f"{self.source}; USD per million tokens: batch {self.batch.describe()}; realtime {self.realtime.describe()}"
        )


def rates_for(
    provider: ProviderName,
    model: str,
    *,
    at: datetime,
    overrides: Sequence[PriceOverride] = (),
    factors: Sequence[PriceFactor] = (),
    mode: Literal["batch", "realtime"] = "batch",
) -> Rates | None:
    """Return the prices in force at a moment; None when the realtime or the batch price is not known.

    With the ``mode`` realtime they include those of the model's service tiers and speeds, unless an override speaks for the
    model: it says nothing of them.

    genai-prices gives the standard price for a model without a batch variant, and for every model before 2026-10-14, when
    its batch variants begin: both count as unknown here, unless an override names the batch price.
    """
    name, day = model.removeprefix("models/"), at.astimezone(UTC).date()
    override = _in_force(provider, name, day, overrides)
    listed = _listed(provider, name, at)
    standard, batch = listed if listed else (None, None)
    realtime_tariff = _tariff(standard, override.prices() if override else {}, standard)
    batch_tariff = _tariff(batch, override.prices("batch_") if override else {}, standard)
    if realtime_tariff is None or batch_tariff is None:
        return None
    source = f"genai-prices {genai_prices_version}" if listed else ""
    if override:
        source = f"{source}, {override.note}" if source else override.note
    terms = {row.term: row.factor for row in factors if row.provider == provider and _holds(row, day)}
    ways = _ways(provider, name, at) if mode == "realtime" and override is None else _NO_WAYS
    return Rates(realtime_tariff, batch_tariff, source, terms, ways)


def _in_force(
    provider: ProviderName, model: str, day: date, overrides: Sequence[PriceOverride]
) -> PriceOverride | None:
    fitting = [
        row
        for row in overrides
        if row.provider == provider and row.model.removeprefix("models/") == model and _holds(row, day)
    ]
    return fitting[-1] if fitting else None


def _holds(row: PriceOverride | PriceFactor, day: date) -> bool:
    return row.valid_from <= day and (row.valid_to is None or day <= row.valid_to)


def _listed(provider: ProviderName, model: str, at: datetime) -> tuple[ModelPrice, ModelPrice | None] | None:
    info = _info(provider, model)
    if info is None:
        return None
    return info.get_prices(at), info.get_prices(at, _BATCH) if _has_batch_price(info, at) else None


def _ways(provider: ProviderName, model: str, at: datetime) -> dict[str, Tariff]:
    """Return the prices of a realtime answer by the term that it names, such as ``service_tier=priority``."""
    info = _info(provider, model)
    if info is None:
        return {}
    asked = [
        dict(variant.when)
        for variant in info.price_variants or ()
        if len(variant.when) == 1
        and variant.when != _BATCH
        and (not variant.constraint or variant.constraint.active(at))
    ]
    named = {f"{name}={value}": info.get_prices(at, {name: value}) for when in asked for name, value in when.items()}
    return {term: tariff for term, price in named.items() if (tariff := _tariff(price, {}, price)) is not None}


def _info(provider: ProviderName, model: str) -> ModelInfo | None:
    """Return what the library lists of a model; None also for a provider that is not installed any more."""
    facts = profiles().get(provider)
    if facts is None or facts.price_library_id is None:
        return None
    try:
        return get_snapshot().find_provider_model(model, None, facts.price_library_id, None)[1]
    except LookupError:
        return None


def _has_batch_price(info: ModelInfo, at: datetime) -> bool:
    return any(
        variant.when == _BATCH and (variant.constraint is None or variant.constraint.active(at))
        for variant in info.price_variants or ()
    )


def _tariff(price: ModelPrice | None, own: Mapping[str, Rate], standard: ModelPrice | None) -> Tariff | None:
    """Return an override's unit prices, then the library's; None without an input price, the one that every model has.

    Where the library has no prices for this way to call the model, what the standard list prices by itself, and what may be
    dearer if there is no list at all, is not known unless the override says. What is no token costs the same in a batch.
    """
    unknown: frozenset[str] = frozenset()
    if price is not None:
        prices = {**_rates(price), **own}
    else:
        known = _rates(standard) if standard else {}
        prices = {**{name: rate for name, rate in known.items() if not UNITS[name].is_tokens}, **own}
        unknown = frozenset(known or _DEARER) - PLAIN - prices.keys()
    return Tariff(prices, unknown) if "input_tokens" in prices else None


def _rates(price: ModelPrice) -> dict[str, Rate]:
    """Return the prices of a list, by unit."""
    listed = {key: value for key, value in vars(price).items() if key in BY_PRICE_KEY and value is not None}
    return {BY_PRICE_KEY[key].name: _rate(value) for key, value in listed.items()}


def _rate(price: Decimal | TieredPrices) -> Rate:
    if isinstance(price, TieredPrices):
        return Rate(price.base, tuple((tier.start, tier.price) for tier in price.tiers))
    return Rate(price)

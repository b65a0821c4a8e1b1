"""Reckon what a request costs, from genai-prices, and say which models there are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from nightbatch_local.emulator.errors import Provider
from nightbatch_local.emulator.prompt import Usage

Processing = Literal["batch", "realtime"]

_LIBRARY_IDS: dict[Provider, str] = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
_MILLION = 1_000_000

# The providers bill these at half price in a batch, the library has no batch variant of them:
# https://platform.openai.com/docs/pricing and https://ai.google.dev/gemini-api/docs/pricing
_HALF_PRICE = {
    ("openai", "text-embedding-3-small"),
    ("openai", "text-embedding-3-large"),
    ("openai", "text-embedding-ada-002"),
    ("gemini", "gemini-embedding-001"),
    ("gemini", "gemini-3.5-flash"),
    ("gemini", "gemini-3.7-flash"),
}

# Still priced in the library, no longer served: https://platform.openai.com/docs/deprecations,
# https://docs.claude.com/en/docs/about-claude/model-deprecations, https://ai.google.dev/gemini-api/docs/deprecations
_RETIRED: dict[Provider, tuple[str, ...]] = {
    "openai": (
        "gpt-4-32k",
        "gpt-4.5-preview",
        "gpt-3.5-turbo-0301",
        "gpt-3.5-turbo-0613",
        "text-davinci",
        "davinci",
    ),
    "anthropic": (
        "claude-2",
        "claude-v1",
        "claude-3-opus",
        "claude-3-sonnet",
        "claude-3-5-sonnet",
        "claude-3-7",
    ),
    "gemini": ("gemini-1.0", "gemini-1.5", "gemini-pro", "gemini-2.0"),
}
_OWN_MODELS = "emulator-"
# What OpenAI's tool draws with, unless it is told otherwise: https://platform.openai.com/docs/guides/tools-image-generation
_DRAWS = "gpt-image-1"


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens of one model, at one moment, for one way of processing."""

    price: ModelPrice
    share: Decimal
    draws: ModelPrice | None = None
    """Of the model that draws for this one."""

    def cost(self, usage: Usage) -> Decimal:
        """Return what the provider charges, in USD.

        Every token counts once, at its own price, else at that of input. Tiers go by the whole input. Searches cost the same in
        a batch.
        """
        price, left = self.price, usage.input_tokens
        tokens = Decimal(0)
        for own, count in (
            (price.cache_read_mtok, usage.cached_tokens),
            (price.cache_write_1h_mtok, usage.written_for_an_hour),
            (price.cache_write_mtok, usage.written - usage.written_for_an_hour),
            (price.input_audio_mtok, usage.audio),
        ):
            if own is not None:
                tokens += _at(own, usage.input_tokens) * count
                left -= count
        tokens += _at(price.input_mtok, usage.input_tokens) * left
        pictures = price.output_image_mtok or price.output_mtok
        tokens += _at(price.output_mtok, usage.input_tokens) * (usage.output_tokens - usage.picture)
        tokens += _at(pictures, usage.input_tokens) * usage.picture
        if self.draws is not None:
            tokens += _at(self.draws.input_mtok, 0) * usage.asked_to_draw + _at(self.draws.output_mtok, 0) * usage.drawn
        return tokens / _MILLION * self.share + _at(price.web_searches_kcount, 0) * usage.searches / 1000


def _at(price: Decimal | TieredPrices | None, input_tokens: int) -> Decimal:
    """Return the price for a request of that size; 0 where there is none."""
    if isinstance(price, TieredPrices):
        reached = [tier.price for tier in price.tiers if input_tokens > tier.start]
        return reached[-1] if reached else price.base
    return price or Decimal(0)


def rates(provider: Provider, model: str, processing: Processing, at: float) -> Rates | None:
    """Return the rates in force at `at` (seconds since 1970), None for an `emulator-` model."""
    found = _library_model(provider, model)
    if found is None:
        return None
    moment = datetime.fromtimestamp(at, UTC)
    draws = _library_model(provider, _DRAWS) if provider == "openai" else None
    way = {} if processing == "realtime" else {"processing": "batch"}
    drawing = draws.get_prices(moment, way) if draws else None
    if processing == "realtime":
        return Rates(found.get_prices(moment), Decimal(1), drawing)
    if any(variant.when == way for variant in found.price_variants or ()):
        return Rates(found.get_prices(moment, way), Decimal(1), drawing)
    share = Decimal("0.5") if (provider, found.id) in _HALF_PRICE else Decimal(1)
    return Rates(found.get_prices(moment), share, drawing)


def cost_text(found: Rates | None, usage: Usage) -> str | None:
    """Return the cost as a plain decimal string, None when the model has no price."""
    return None if found is None else f"{found.cost(usage):f}"


@lru_cache(maxsize=4096)
def serves(provider: Provider, model: str) -> bool:
    """Return False for a model that is unknown or retired. Names that begin with `emulator-` are always served."""
    if model.startswith(_OWN_MODELS):
        return True
    if model.startswith(_RETIRED[provider]) or (provider == "gemini" and not model.startswith(("gemini", "gemma"))):
        return False
    return _library_model(provider, model) is not None


@lru_cache(maxsize=4096)
def bills_cache_writes(model: str) -> bool:
    """Return True for OpenAI's models that charge for writing a prompt to the cache, which they do unasked: GPT-5.6 and later."""
    found = _library_model("openai", model)
    return found is not None and found.get_prices(datetime.now(UTC)).cache_write_mtok is not None


def embeds(model: str) -> bool:
    """Return True for a model that answers with vectors."""
    return "embedding" in model


@lru_cache(maxsize=4096)
def _library_model(provider: Provider, model: str) -> ModelInfo | None:
    snapshot = get_snapshot()
    library = next(one for one in snapshot.providers if one.id == _LIBRARY_IDS[provider])
    return library.find_model(model)

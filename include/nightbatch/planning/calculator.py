"""Calculate what a year of calls would cost in realtime and in batches, before a single one is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import orjson

from nightbatch.core.errors import ConfigurationError, Rejected
from nightbatch.core.models import ProviderName, Usage
from nightbatch.core.pricing import PriceOverride, rates_for
from nightbatch.core.profiles import profiles
from nightbatch.job_types.base import JobType
from nightbatch.planning import estimates
from nightbatch.postgres import plans
from nightbatch.postgres.store import Store

DAYS = 365
_MIN_OF_ANSWER = 10
"""An answer is taken to fill a tenth of what its type allows: the least, so that the savings are not overstated."""


@dataclass(frozen=True, slots=True)
class Calculation:
    """The cost of a year of 365 days, in USD; None without a price.

    Tokens are per call; ``tokens_from`` says where they come from.
    """

    calls_a_day: int
    job_type: str
    provider: ProviderName
    model: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    tokens_from: str
    price_source: str | None
    realtime_usd: Decimal | None
    batch_usd: Decimal | None

    @property
    def savings_usd(self) -> Decimal | None:
        """Return what batches save in the year; None without a price."""
        if self.realtime_usd is None or self.batch_usd is None:
            return None
        return self.realtime_usd - self.batch_usd


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one call, and where the figures come from."""

    usage: Usage
    source: str


def yearly(
    calls_a_day: int,
    job_type: str,
    model: str | None = None,
    *,
    types: Mapping[str, JobType],
    provider: ProviderName | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    at: datetime | None = None,
    store: Store | None = None,
) -> Calculation:
    """Calculate a year of so many calls of one type a day, at the prices of one moment (now, if not given).

    Without a model the provider's default is taken; without a provider the one whose model it is. Tokens that are not given
    are those of the last 30 days, where the database of ``store`` knows any, else those of the type's example. Prices are
    genai-prices', with the overrides of ``store``; failures and waste are left out of account. Raises `ConfigurationError` when
    type, provider and model do not go together, or when nothing tells how long a call is.
    """
    kind = types.get(job_type)
    if kind is None:
        raise ConfigurationError(f"There is no job type {job_type!r}; there are {', '.join(sorted(types))}.")
    moment = at or datetime.now(UTC)
    overrides = store.price_overrides() if store else []
    provider = provider or _provider(kind, model, moment, overrides)
    model = model or _default_model(kind, provider)
    tokens = _tokens(kind, provider, model, store, input_tokens, output_tokens)
    rates = rates_for(provider, model, at=moment, overrides=overrides)
    cost = rates.cost(tokens.usage) if rates else None
    return Calculation(
        calls_a_day=calls_a_day,
        job_type=job_type,
        provider=provider,
        model=model,
        input_tokens=tokens.usage.input_tokens,
        cached_tokens=tokens.usage.cached_tokens,
        output_tokens=tokens.usage.output_tokens,
        tokens_from=tokens.source,
        price_source=rates.source if rates else None,
        realtime_usd=cost.realtime_usd * calls_a_day * DAYS if cost else None,
        batch_usd=cost.batch_usd * calls_a_day * DAYS if cost else None,
    )


def _provider(kind: JobType, model: str | None, at: datetime, overrides: Sequence[PriceOverride]) -> ProviderName:
    """Return the provider whose default the model is, else the one that has a price for it; without a model the type's first."""
    if model is None:
        return next(name for name in profiles() if name in kind.models)
    found = [name for name, default in kind.models.items() if default == model]
    found = found or [name for name in kind.models if rates_for(name, model, at=at, overrides=overrides)]
    if len(found) != 1:
        raise ConfigurationError(f"Whose model is {model!r}? Name the provider: {', '.join(kind.models)}.")
    return found[0]


def _default_model(kind: JobType, provider: ProviderName) -> str:
    if provider not in kind.models:
        raise ConfigurationError(
            f"{kind.name} has no model at {provider}: name one, or one of {', '.join(kind.models)}."
        )
    return kind.models[provider]


def _tokens(
    kind: JobType, provider: ProviderName, model: str, store: Store | None, given_in: int | None, given_out: int | None
) -> Tokens:
    """Return the tokens of a call: what the person says goes before what is known.

    Of an input that was given, nothing is taken to be cached.
    """
    if given_in is not None and given_out is not None:
        return Tokens(Usage(given_in, given_out), "as given")
    found = _known(kind, provider, model, store)
    if given_in is not None:
        return Tokens(Usage(given_in, found.usage.output_tokens), f"input as given; output: {found.source}")
    if given_out is not None:
        used = Usage(found.usage.input_tokens, given_out, found.usage.cached_tokens)
        return Tokens(used, f"output as given; input: {found.source}")
    return found


def _known(kind: JobType, provider: ProviderName, model: str, store: Store | None) -> Tokens:
    """Return the tokens of a call as the last 30 days showed, else as the type's example has it."""
    seen = plans.usual(store, kind.name, provider, model) if store else None
    if seen:
        counts = Usage(round(seen.input_tokens), round(seen.output_tokens), round(seen.cached_tokens))
        return Tokens(counts, f"the average of {seen.jobs:,} answers of the last 30 days")
    try:
        tokens_in, longest = estimates.of_one(kind.render_request(orjson.dumps(kind.example)))
    except Rejected as error:
        raise ConfigurationError(f"What a call of {kind.name} takes is not known ({error}): give its tokens.") from None
    return Tokens(
        Usage(tokens_in, longest // _MIN_OF_ANSWER),
        "the job type's example, by OpenAI's tokenizer; the answer a tenth of the longest allowed",
    )

"""Send a past interval's jobs again with another model, prompt version or provider; the same wish twice makes no job twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from nightbatch.core.errors import ConfigurationError
from nightbatch.core.models import ProviderName
from nightbatch.core.pricing import PriceOverride, Tariff, rates_for
from nightbatch.core.profiles import profiles
from nightbatch.job_types.base import JobType
from nightbatch.job_types.historical_reprocessing import HistoricalReprocessing
from nightbatch.planning.estimates import FOREIGN, Estimate
from nightbatch.postgres import reprocessing
from nightbatch.postgres.reprocessing import Expected
from nightbatch.postgres.store import Store

Types = Mapping[str, JobType]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReprocessRequest:
    """What to send again, by when its results were loaded (``since`` inclusive, ``until`` not), and what to change.

    Empty job types mean all that can be asked again, ``from_model`` only what that model answered.
    """

    since: datetime
    until: datetime
    job_types: tuple[str, ...] = ()
    from_model: str | None = None
    to_model: str | None = None
    to_provider: ProviderName | None = None
    prompt_version: str | None = None
    max_jobs: int | None = None


@dataclass(frozen=True, slots=True)
class ReprocessResult:
    """What a reprocessing found: ``new`` jobs are queued, ``known`` ones were asked for before; ``estimates`` price both."""

    new: int
    known: int
    estimates: tuple[Estimate, ...]


class _Rollback(Exception):
    pass


def send_again(store: Store, types: Types, wish: ReprocessRequest, *, dry_run: bool = False) -> ReprocessResult:
    """Queue a reprocessing of every past job that the wish names and changes; a dry run only prices them.

    What would be asked just as before is left out. Raises `ConfigurationError` for a wish that no job can meet.
    """
    _check(types, wish)
    found = ReprocessResult(0, 0, ())
    try:
        with store.transaction():
            expected = reprocessing.gather(store, _values(types, wish), max_jobs=wish.max_jobs)
            overrides, at = store.price_overrides(), store.now()
            estimates = tuple(_estimate(one, overrides, at) for one in expected)
            jobs = sum(one.jobs for one in expected)
            new = reprocessing.insert(store, wish.prompt_version)
            found = ReprocessResult(new, jobs - new, estimates)
            if dry_run:
                raise _Rollback
    except _Rollback:
        pass
    return found


def _check(types: Types, wish: ReprocessRequest) -> None:
    if not (wish.to_model or wish.to_provider or wish.prompt_version):
        raise ConfigurationError("Say what is to change: the model, the provider or the prompt version.")
    if wish.since >= wish.until:
        raise ConfigurationError("The interval is empty: it ends before it begins.")
    for name in wish.job_types:
        if name not in types:
            raise ConfigurationError(f"There is no job type {name}; there are {', '.join(sorted(types))}.")
    asked = [types[name] for name in wish.job_types] or list(types.values())
    if wish.to_provider and not any(_can(kind, wish.to_provider) for kind in asked):
        raise ConfigurationError(f"{wish.to_provider} cannot do {', '.join(wish.job_types) or 'any of them'}.")
    if wish.prompt_version and not any(wish.prompt_version in kind.prompts for kind in asked):
        raise ConfigurationError(f"No job type among these has a prompt version {wish.prompt_version}.")


def _can(kind: JobType, provider: ProviderName) -> bool:
    """Say whether a type can be reprocessed at a provider.

    A reprocessing goes where its own type goes, so vectors cannot be asked for again: insert those as new jobs.
    """
    return provider in kind.models and kind.endpoint(provider) == HistoricalReprocessing().endpoint(provider)


def _values(types: Types, wish: ReprocessRequest) -> dict[str, object]:
    kinds = [
        (kind, provider)
        for name, kind in types.items()
        for provider in profiles()
        if (not wish.job_types or name in wish.job_types)
        and not isinstance(kind, HistoricalReprocessing)
        and _can(kind, provider)
        and (wish.prompt_version is None or wish.prompt_version in kind.prompts)
    ]
    return {
        "since": wish.since,
        "until": wish.until,
        "from_model": wish.from_model,
        "to_model": wish.to_model,
        "to_provider": wish.to_provider,
        "prompt_version": wish.prompt_version,
        "job_types": [kind.name for kind, _ in kinds],
        "providers": [provider for _, provider in kinds],
        "default_models": [kind.models[provider] for kind, provider in kinds],
        "prompt_versions": [kind.prompt_version for kind, _ in kinds],
    }


def _estimate(one: Expected, overrides: list[PriceOverride], at: datetime) -> Estimate:
    """Price the past usage at the new prices; jobs whose usage is not known count like the others on average."""
    known = one.jobs - one.unknown
    scale = Decimal(one.jobs) / known if known else Decimal(0)
    usage_in, usage_out = (int(tokens * scale) for tokens in (one.input_tokens, one.output_tokens))
    most_in = int(usage_in * FOREIGN) if one.moves else usage_in
    rates = rates_for(one.provider, one.model, at=at, overrides=overrides) if known else None
    return Estimate(
        job_type=one.job_type,
        provider=one.provider,
        model=one.model,
        jobs=one.jobs,
        input_tokens=(usage_in, most_in),
        output_tokens=(usage_out, usage_out),
        batch_usd=_usd(rates.batch if rates else None, (usage_in, most_in), usage_out),
        realtime_usd=_usd(rates.realtime if rates else None, (usage_in, most_in), usage_out),
        price_source=rates.source if rates else None,
    )


def _usd(tariff: Tariff | None, usage_in: tuple[int, int], usage_out: int) -> tuple[Decimal, Decimal] | None:
    if tariff is None:
        return None
    least, most = usage_in
    return tariff.cost_together(least, usage_out), tariff.cost_together(most, usage_out)

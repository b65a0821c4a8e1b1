"""What one batch may hold, and which job types go where: pure decisions, made before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from types import MappingProxyType
from typing import Protocol
from zoneinfo import ZoneInfo

from nightbatch.core.ledger import Lane
from nightbatch.core.models import Endpoint, Limits, ProviderName
from nightbatch.core.profiles import profile, profiles
from nightbatch.core.settings import Settings

# Text grows when it is escaped into a request; what does not fit after all is left for the next run.
_ROOM = 0.9


class PlannedType(Protocol):
    """What planning has to know of a job type."""

    @property
    def name(self) -> str: ...
    @property
    def models(self) -> Mapping[ProviderName, str]: ...
    @property
    def overhead_bytes(self) -> int: ...
    @property
    def fallback(self) -> bool: ...
    @property
    def ready(self) -> bool: ...
    @property
    def model_in(self) -> str | None: ...
    def endpoints(self, provider: ProviderName) -> tuple[Endpoint, ...]: ...


def limits(provider: ProviderName) -> Limits:
    """What one batch may hold, from the provider's documentation; the same for every endpoint."""
    return profile(provider).limits


Turnarounds = Mapping[tuple[str, str], float]
"""By provider and model: how long a batch takes, in seconds."""

_PROMISED = 86_400.0  # what the providers promise, until their batches tell


def lanes(
    types: Iterable[PlannedType], settings: Settings, turnarounds: Turnarounds = MappingProxyType({})
) -> list[Lane]:
    """Return a lane for every job type on every provider that can do it, and each of its endpoints."""
    return [
        Lane(
            job_type=kind.name,
            provider=provider,
            default_model=kind.models[provider],
            endpoint=endpoint,
            overhead=kind.overhead_bytes,
            capacity=int(limits(provider).max_bytes * _ROOM),
            max_requests=min(limits(provider).max_requests, settings.max_batch_jobs),
            max_request_bytes=limits(provider).max_request_bytes,
            fallback=kind.fallback,
            turnaround=turnarounds.get((provider, kind.models[provider]), _PROMISED),
            ready=kind.ready,
            model_in=kind.model_in,
            dialect=facts.dialect,
            model_prefix=facts.model_prefix,
        )
        for kind in types
        for provider, facts in profiles().items()
        if provider in kind.models
        for endpoint in kind.endpoints(provider)
    ]


def span(first: date, last: date, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return when these days begin in a time zone, and when they have ended; ``last`` is one of them."""
    return datetime.combine(first, time(), zone), datetime.combine(last + timedelta(days=1), time(), zone)


def night_of(moment: datetime, settings: Settings) -> datetime:
    """When the night began that a moment belongs to: at noon, in the schedule's time zone."""
    local = moment.astimezone(ZoneInfo(settings.timezone))
    day = local.date() if local.time() >= time(12) else local.date() - timedelta(days=1)
    return datetime.combine(day, time(12), local.tzinfo)

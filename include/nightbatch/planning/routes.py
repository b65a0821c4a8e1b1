"""Decide what one batch may hold, and which job types go where: pure decisions, made before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from nightbatch.core.ledger import Route
from nightbatch.core.models import Endpoint, ProviderName
from nightbatch.core.profiles import profiles
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


Turnarounds = Mapping[tuple[str, str], float]
"""By provider and model: how long a batch takes, in seconds."""

_PROMISED = 86_400.0  # what the providers promise, until their batches tell


def all_routes(
    types: Iterable[PlannedType], settings: Settings, turnarounds: Turnarounds = MappingProxyType({})
) -> list[Route]:
    """Return a route for every job type on every provider that can do it, and each of its endpoints."""
    return [
        Route(
            job_type=kind.name,
            provider=provider,
            default_model=kind.models[provider],
            endpoint=endpoint,
            overhead=kind.overhead_bytes,
            capacity=int(facts.limits.max_bytes * _ROOM),
            max_requests=min(facts.limits.max_requests, settings.max_batch_jobs),
            max_request_bytes=facts.limits.max_request_bytes,
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

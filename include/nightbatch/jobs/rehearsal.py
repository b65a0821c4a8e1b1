"""Writes every job type's example for each of its providers: what cannot be written is known before the night."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from msgspec.structs import replace

from nightbatch.core.errors import NightbatchError, Rejected
from nightbatch.core.models import Prompt, ProviderName, Request
from nightbatch.job_types.base import JobType, costs_the_job
from nightbatch.providers import build


def unwritable(types: Mapping[str, JobType]) -> list[str]:
    """Return a sentence for each type and provider whose example cannot be written. Sends nothing and needs no key."""
    told = []
    for kind in types.values():
        if kind.name == "historical_reprocessing":
            continue  # has no request of its own
        for provider in kind.models:
            try:
                _write(kind, provider)
            except NightbatchError as error:
                told.append(f"{kind.name} cannot be sent to {provider}, all its jobs there would be rejected: {error}.")
    return told


def _write(kind: JobType, provider: ProviderName) -> None:
    with costs_the_job(f"the job type {kind.name}"):
        request = kind.render_request(orjson.dumps(kind.example))
        if not isinstance(request, Request):
            raise Rejected(f"the job type {kind.name} gave a {type(request).__name__} instead of a request")
        endpoint = kind.endpoint(provider)
    adapter = build(provider, api_key="none")
    with costs_the_job(f"the adapter of {provider}"):
        adapter.render("j1_a1", kind.models[provider], endpoint, _without_media(request))


def _without_media(request: Request) -> Request:
    """Return the request without media: the example's files are in nobody's media folder."""
    return replace(request, media=()) if isinstance(request, Prompt) and request.media else request

"""The three providers' wire quirks, behind `nightbatch.provider.BatchProvider`. An SDK is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING, Any

from nightbatch.models import ProviderName
from nightbatch.provider import BatchProvider
from nightbatch.providers.extras import PLAIN, Wire

if TYPE_CHECKING:
    from nightbatch.providers.wire import LineWriter


def build(
    name: ProviderName,
    *,
    api_key: str,
    base_url: str | None = None,
    account: str | None = None,
    allowed: Collection[str] | None = None,
    wire: Wire = PLAIN,
) -> BatchProvider:
    """The adapter of a provider for one key. ``account`` names who pays, so that keys of one account can be rotated.

    ``allowed`` are the hosts at private addresses that may be called, and None if the caller answers for the base URL.
    ``wire`` is what the connection adds to its requests. Raises `ConfigurationError` for a key, a base URL, a proxy or a CA that
    cannot be used, and `Transient` while a host cannot be resolved.
    """
    given: dict[str, Any] = {
        "api_key": api_key, "base_url": base_url, "account": account, "allowed": allowed, "wire": wire
    }  # fmt: skip
    match name:
        case "openai":
            from nightbatch.providers.openai import OpenAIBatches

            return OpenAIBatches(**given)
        case "anthropic":
            from nightbatch.providers.anthropic import AnthropicBatches

            return AnthropicBatches(**given)
        case "gemini":
            from nightbatch.providers.gemini import GeminiBatches

            return GeminiBatches(**given)


@cache
def writer(name: ProviderName) -> LineWriter:
    """Return what writes the lines of a provider's input files: no key, no connection and no SDK."""
    from nightbatch.providers.wire import LineWriter

    match name:
        case "openai":
            from nightbatch.providers.openai_requests import line
        case "anthropic":
            from nightbatch.providers.anthropic_requests import line
        case "gemini":
            from nightbatch.providers.gemini_requests import line
    return LineWriter(line)

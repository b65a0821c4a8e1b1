"""The three providers' wire quirks, behind `nightbatch.provider.BatchProvider`. An SDK is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nightbatch.models import ProviderName
from nightbatch.provider import BatchProvider


def build(
    name: ProviderName,
    *,
    api_key: str,
    base_url: str | None = None,
    account: str | None = None,
    allowed: Collection[str] | None = None,
) -> BatchProvider:
    """The adapter of a provider for one key. ``account`` names who pays, so that keys of one account can be rotated.

    ``allowed`` are the hosts at private addresses that may be called, and None if the caller answers for the base URL.
    Raises `ConfigurationError` for a key, a base URL or a proxy that cannot be used, and `Transient` while the base URL's
    host cannot be resolved.
    """
    given: dict[str, Any] = {"api_key": api_key, "base_url": base_url, "account": account, "allowed": allowed}
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

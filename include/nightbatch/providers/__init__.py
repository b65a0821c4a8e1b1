"""The three providers' wire quirks, behind `nightbatch.provider.BatchProvider`. An SDK is imported when it is first needed."""

from __future__ import annotations

from nightbatch.models import ProviderName
from nightbatch.provider import BatchProvider


def build(
    name: ProviderName, *, api_key: str, base_url: str | None = None, account: str | None = None
) -> BatchProvider:
    """The adapter of a provider for one key. ``account`` names who pays, so that keys of one account can be rotated."""
    match name:
        case "openai":
            from nightbatch.providers.openai import OpenAIBatches

            return OpenAIBatches(api_key=api_key, base_url=base_url, account=account)
        case "anthropic":
            from nightbatch.providers.anthropic import AnthropicBatches

            return AnthropicBatches(api_key=api_key, base_url=base_url, account=account)
        case "gemini":
            from nightbatch.providers.gemini import GeminiBatches

            return GeminiBatches(api_key=api_key, base_url=base_url, account=account)

"""A provider that speaks OpenAI's words at an address of its own."""

from __future__ import annotations

from nightbatch.core.models import ProviderName
from nightbatch.providers.openai import OpenAIBatches


class AcmeBatches(OpenAIBatches):
    """OpenAI's adapter under another name."""

    name: ProviderName = "acme"

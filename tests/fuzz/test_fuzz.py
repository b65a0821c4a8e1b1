"""A sample of `make fuzz`, and what it has to find where something is wrong."""

from __future__ import annotations

import pytest

from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.providers import anthropic_requests, gemini_requests, openai_requests
from tests.fuzz.judge import judge

EXAMPLES = 150


@pytest.mark.parametrize("provider", BUILT_IN)
def test_each_of_many_schemas_is_rejected_in_words_or_taken_by_the_provider(provider: ProviderName) -> None:
    tally = judge(provider, range(EXAMPLES))
    assert not tally.wrong
    assert tally.sent > EXAMPLES / 3 and len(tally.rejected) > 5
    assert tally.sent + sum(tally.rejected.values()) == EXAMPLES


@pytest.mark.parametrize("provider", BUILT_IN)
def test_schemas_that_are_sent_as_they_are_would_be_refused(
    provider: ProviderName, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {"openai": openai_requests, "anthropic": anthropic_requests, "gemini": gemini_requests}
    monkeypatch.setattr(modules[provider], f"{provider}_schema", lambda schema: schema)
    wrong = judge(provider, range(1000, 1040)).wrong
    assert any("refused by the emulator" in found for found in wrong.values())

"""Any text goes into a line and comes out again; half a character is rejected, not a crash."""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightbatch.core.errors import Rejected
from nightbatch.core.models import EmbeddingInput, Endpoint, Prompt, ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.core.provider import BatchProvider
from nightbatch.providers import build

ENDPOINTS: list[tuple[ProviderName, Endpoint]] = [
    ("openai", "chat"), ("openai", "responses"), ("anthropic", "chat"), ("gemini", "chat"),
]  # fmt: skip
UNICODE = st.text(st.characters(codec="utf-8"), max_size=200)
ANYTHING = st.text(st.characters(), max_size=50)
SURROGATE = st.integers(0xD800, 0xDFFF).map(chr)


@cache
def adapter(name: ProviderName) -> BatchProvider:
    return build(name, api_key="k")


def said(body: Any) -> set[str]:
    """Every string in a body."""
    if isinstance(body, dict):
        return set().union(*(said(value) for value in body.values()), set())
    if isinstance(body, list):
        return set().union(*(said(value) for value in body), set())
    return {body} if isinstance(body, str) else set()


@pytest.mark.parametrize(("name", "endpoint"), ENDPOINTS)
@given(user=UNICODE, system=UNICODE)
def test_any_prompt_round_trips_in_one_line(name: ProviderName, endpoint: Endpoint, user: str, system: str) -> None:
    line = adapter(name).render("j1_a7", "m", endpoint, Prompt(user, system))
    assert b"\n" not in line and b"\r" not in line
    assert {user} | ({system} if system else set()) <= said(orjson.loads(line))


@pytest.mark.parametrize("name", ["openai", "gemini"])
@given(text=UNICODE)
def test_any_text_to_embed_round_trips(name: ProviderName, text: str) -> None:
    line = adapter(name).render("j1_a7", "m", "embeddings", EmbeddingInput((text,)))
    assert b"\n" not in line and text in said(orjson.loads(line))


@pytest.mark.parametrize(("name", "endpoint"), ENDPOINTS)
@given(before=ANYTHING, half=SURROGATE, after=ANYTHING)
def test_half_a_character_is_rejected(
    name: ProviderName, endpoint: Endpoint, before: str, half: str, after: str
) -> None:
    for prompt in (Prompt(before + half + after), Prompt("fine", before + half + after)):
        with pytest.raises(Rejected, match="half a character"):
            adapter(name).render("j1_a7", "m", endpoint, prompt)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_same_request_renders_to_the_same_bytes(name: ProviderName) -> None:
    schema = {
        "type": "object",
        "properties": {"b": {"type": "string"}, "a": {"type": "string"}},
        "required": ["b", "a"],
    }
    prompt = Prompt("u", "s", schema)
    first, second = (build(name, api_key=key).render("j1_a7", "m", "chat", prompt) for key in ("one", "two"))
    assert first == second

"""What a schema allows, its translation allows too; and the reverse, where nothing had to go into a description."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from nightbatch.core.errors import Rejected
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.providers.anthropic_schema import anthropic_schema
from nightbatch.providers.gemini_schema import gemini_schema
from nightbatch.providers.openai_schema import openai_schema
from nightbatch.schemas import json_schema
from nightbatch.schemas.plain import children
from nightbatch.schemas.words import every, strict
from nightbatch_local.emulator.schemas import SchemaWriter
from tests.fuzz.models import job_type
from tests.fuzz.schemas import Writer

Schema = dict[str, Any]

TRANSLATE: dict[ProviderName, Callable[[Schema], Schema]] = {
    "openai": openai_schema,
    "anthropic": anthropic_schema,
    "gemini": gemini_schema,
}
_OTHERS: tuple[Any, ...] = (None, True, 0, -1, 3, 2.5, 1e9, "", "x", "S", "ABC", "cat", [], ["x", "x"], {}, {"x": 1})


def as_json_schema(node: Any) -> Any:
    """Return one of Gemini's schemas in JSON schema's words."""
    if isinstance(node, list):
        return [as_json_schema(child) for child in node]
    if not isinstance(node, dict):
        return node
    made = {word: value for word, value in node.items() if word not in ("nullable", "propertyOrdering", "format")}
    if "properties" in made:
        named = {name: as_json_schema(child) for name, child in made["properties"].items()}
        made |= {"properties": named, "additionalProperties": False}
    for word in ("items", "anyOf"):
        if word in made:
            made[word] = as_json_schema(made[word])
    return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") else made


def values(schema: Schema, random: Random) -> Iterator[Any]:
    """Yield values that follow the schema, and some that nearly do."""
    for _ in range(4):
        try:
            value = SchemaWriter(schema, random, ("shoes", "runner")).write()
        except (IndexError, KeyError, ValueError, RecursionError):
            return
        yield value
        for _ in range(6):
            yield changed(value, random)


def changed(value: Any, random: Random) -> Any:
    """Return the value with one part in another's place."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        name = random.choice([*value])
        return {**value, name: changed(value[name], random)}
    if isinstance(value, list) and value and random.random() < 0.7:
        at = random.randrange(len(value))
        return [*value[:at], changed(value[at], random), *value[at + 1 :]]
    return random.choice(_OTHERS)


def says_all(made: Schema) -> bool:
    """Return whether no word of the schema went into a description."""
    inside = [*children(made), *made.get("$defs", {}).values()]
    return "{" not in str(made.get("description", "")) and all(map(says_all, inside))


def compare(provider: ProviderName, schema: Schema, random: Random) -> int:
    """Return how many values were compared. Raises `AssertionError` for one that only one of the two allows."""
    asked = strict(schema)
    try:
        made = TRANSLATE[provider](asked)
    except Rejected:
        return 0
    judge = Draft202012Validator(as_json_schema(made) if provider == "gemini" else made)
    closed = not any("allOf" in node for node in every(asked))  # else what is left open is closed once it is merged
    both = closed and says_all(made)
    compared = 0
    for value in [*values(asked, random), *values(made, random)]:
        fits, taken = json_schema.fault(asked, value) is None, judge.is_valid(value)
        compared += fits
        assert taken or not (fits and closed), (schema, made, value, "is not taken")
        assert fits or not (taken and both), (schema, made, value, "does not fit")
    return compared


SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("provider", BUILT_IN)
@SLOW
@given(seed=st.integers(0, 10**9))
def test_a_schema_and_its_translation_allow_the_same(provider: ProviderName, seed: int) -> None:
    random = Random(seed)
    compare(provider, Writer(random, sayable=True).write(), random)


@pytest.mark.parametrize("provider", BUILT_IN)
@SLOW
@given(seed=st.integers(0, 10**9))
def test_a_models_schema_and_its_translation_allow_the_same(provider: ProviderName, seed: int) -> None:
    random = Random(seed)
    compare(provider, job_type(random).Output.model_json_schema(), random)


@pytest.mark.parametrize("provider", BUILT_IN)
def test_the_comparison_sees_many_values(provider: ProviderName) -> None:
    compared = 0
    for seed in range(40):
        random = Random(seed)
        compared += compare(provider, Writer(random, sayable=True).write(), random)
    assert compared > 200

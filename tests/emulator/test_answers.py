"""Answers: the same for the same request, valid for the schema, readable; vectors that know their neighbours."""

from __future__ import annotations

from datetime import date
from enum import Enum
from random import Random
from typing import Any, Literal

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from nightbatch_local.emulator.embeddings import embed
from nightbatch_local.emulator.openai.bodies import answer
from nightbatch_local.emulator.schemas import SchemaWriter
from tests.emulator.support import CHAT, CHAT_MODEL, Account, chat_line


class Mood(Enum):
    """An enum behind a $ref."""

    GOOD = "good"
    BAD = "bad"


class Node(BaseModel):
    """A recursive model."""

    name: str = Field(max_length=20)
    children: list[Node] = Field(default_factory=list, max_length=3)
    parent: Node | None = None


class Review(BaseModel):
    """One of nearly everything."""

    score: int = Field(ge=1, le=10)
    share: float = Field(gt=0, lt=1)
    mood: Mood
    kind: Literal["creative", "text"]
    tags: list[str] = Field(min_length=1, max_length=5)
    day: date
    note: str | None
    by_channel: dict[str, float]
    pair: tuple[int, str]
    tree: Node
    steps: int = Field(multiple_of=5, ge=0, le=40)


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    """JSON schemas of the kinds that structured output knows."""
    small = st.integers(0, 5)
    leaves = st.one_of(
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.builds(
            lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, st.integers(-99, 99), small
        ),
        st.builds(
            lambda low, more: {"type": "number", "minimum": low, "maximum": low + more}, st.integers(-99, 99), small
        ),
        st.builds(
            lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
            small,
            st.integers(0, 90),
        ),
        st.builds(lambda options: {"enum": options}, st.lists(st.text(max_size=5), min_size=1, unique=True)),
        st.just({"type": ["string", "null"]}),
    )
    names = st.sampled_from(["score", "title", "reason", "confidence", "tags"])

    def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        objects = st.dictionaries(names, inner, max_size=4).map(
            lambda found: {
                "type": "object",
                "properties": found,
                "required": sorted(found),
                "additionalProperties": False,
            }
        )
        arrays = st.builds(
            lambda item, least, more: {"type": "array", "items": item, "minItems": least, "maxItems": least + more},
            inner, small, small,
        )  # fmt: skip
        return objects | arrays | st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options})

    return st.recursive(leaves, nested, max_leaves=12)


@given(schema=schemas(), seed=st.integers(0, 9))
def test_an_answer_is_valid_for_any_schema(schema: dict[str, Any], seed: int) -> None:
    value = SchemaWriter(schema, Random(seed), ("shoes", "runner")).write()
    jsonschema.validate(value, schema)


@pytest.mark.parametrize("seed", range(20))
def test_an_answer_is_valid_for_a_pydantic_model(seed: int) -> None:
    value = SchemaWriter(Review.model_json_schema(), Random(seed), ("shoes", "runner")).write()
    Review.model_validate(value)


def test_geminis_upper_case_types_and_nullable_are_understood() -> None:
    schema = {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}, "b": {"type": "STRING", "nullable": True}}}
    value = SchemaWriter(schema, Random(1), ()).write()
    assert isinstance(value["a"], int)
    assert value["b"] is None or isinstance(value["b"], str)


def content(seed: int, text: str, **more: Any) -> str:
    body = chat_line("a", text, **more)["body"]
    answered = answer(CHAT, body, seed=seed, at=0).body
    return str(answered["choices"][0]["message"]["content"])


def test_the_same_request_has_the_same_answer() -> None:
    assert content(1, "Rate the shoes") == content(1, "Rate the shoes")
    assert content(1, "Rate the shoes") != content(2, "Rate the shoes")
    assert content(1, "Rate the shoes") != content(1, "Rate the hats")


def test_an_answer_speaks_of_the_prompt() -> None:
    assert "waterproof" in content(0, "waterproof waterproof").lower()


def test_an_answer_keeps_to_the_token_limit() -> None:
    answered = answer(CHAT, chat_line("a", max_tokens=5)["body"], seed=0, at=0)
    assert (answered.usage.output_tokens, answered.body["choices"][0]["finish_reason"]) == (5, "length")


def test_markers_make_an_answer_misbehave(account: Account) -> None:
    names = ("refusal", "truncate", "misfit", "nousage")
    batch = account.ended(account.send([chat_line(name, f"Say it [[emulator:{name}]]") for name in names]).id)
    found = {key: line["response"]["body"] for key, line in account.lines_of(batch.output_file_id).items()}
    assert found["refusal"]["choices"][0]["message"]["refusal"]
    assert found["truncate"]["choices"][0]["finish_reason"] == "length"
    assert "unexpected" in found["misfit"]["choices"][0]["message"]["content"]
    assert "usage" not in found["nousage"]
    assert account.billed_ids() == sorted(names)


@pytest.mark.parametrize("dimensions", [8, 256, 1536, 3072])
def test_a_vector_is_of_unit_length(dimensions: int) -> None:
    for text in ("red running shoes", "", "日本語のテキスト"):
        vector = embed(text, dimensions)
        assert vector.shape == (dimensions,)
        assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-5)


def test_similar_texts_lie_near_each_other() -> None:
    shoes, other, far = (embed(t, 1536) for t in ("light red running shoes", "red running shoes", "tax law of Malta"))
    assert shoes @ other > 0.7 > 0.3 > shoes @ far


def test_the_model_is_named_in_the_answer() -> None:
    assert answer(CHAT, chat_line("a")["body"], seed=0, at=0).model == CHAT_MODEL

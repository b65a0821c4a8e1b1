"""Answers checked without making the model: what is taken comes out as the model would write it, byte by byte."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator

from nightbatch.job_types import job_types
from nightbatch.job_types.fast_json import canonical_json


class Scored(BaseModel):
    score: Annotated[int, Field(ge=1, le=10)]


class Everything(BaseModel):
    verdict: Literal["run", "drop"] = "run"
    count: int
    text: str
    short: Annotated[str, Field(min_length=2, max_length=4)] = "ab"
    sure: bool
    maybe: int | None = None
    numbers: list[int]
    scores: Annotated[list[Scored], Field(max_length=1)]
    best: Scored | None


_ANY = st.floats() | st.integers() | st.text() | st.booleans() | st.none() | st.sampled_from(["5", 5.0, "true", 10**30])
_SCORE = st.fixed_dictionaries({"score": st.integers(0, 11) | _ANY}, optional={"more": _ANY})
_REQUIRED = {
    "count": st.integers() | _ANY,
    "text": st.text() | _ANY,
    "sure": st.booleans() | _ANY,
    "numbers": st.lists(st.integers()) | _ANY,
    "scores": st.lists(_SCORE, max_size=2),
    "best": st.none() | _SCORE,
}
_OPTIONAL = {"verdict": st.sampled_from(["run", "drop", "go"]), "short": st.text(), "maybe": _ANY, "more": _ANY}


@settings(max_examples=1000, deadline=None)
@given(value=st.fixed_dictionaries(_REQUIRED, optional=_OPTIONAL), escaped=st.booleans())
def test_what_is_taken_is_what_the_model_would_write(value: dict[str, Any], escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped, indent=1)
    canonical = canonical_json(Everything)
    assert canonical is not None
    try:
        made = canonical(text)
    except ValueError:
        return  # the model decides
    assert made == Everything.model_validate_json(text).model_dump_json().encode()


def test_a_good_answer_is_taken() -> None:
    canonical = canonical_json(Everything)
    assert canonical is not None
    good = {"best": None, "scores": [{"score": 3}], "numbers": [1, 2**40], "sure": True, "text": "Grüße\n", "count": 5}
    assert json.loads(canonical(json.dumps(good))) == good | {"verdict": "run", "short": "ab", "maybe": None}


class Aliased(BaseModel):
    count: Annotated[int, Field(alias="n")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int


class Checked(BaseModel):
    count: int

    @field_validator("count")
    @classmethod
    def even(cls, value: int) -> int:
        assert value % 2 == 0
        return value


class Written(BaseModel):
    count: int

    @field_serializer("count")
    def shown(self, value: int) -> str:
        return f"{value} pieces"


class Patterned(BaseModel):
    text: Annotated[str, Field(pattern="^a")]


class Stepped(BaseModel):
    count: Annotated[int, Field(multiple_of=5)]


class Dumped(BaseModel):
    count: int

    def model_dump_json(self, **options: Any) -> str:
        return "{}"


class Made(BaseModel):
    count: int
    _seen: int = 0

    def model_post_init(self, context: Any) -> None:
        self.count += 1


class Kept(BaseModel):
    items: list[Checked]


class Measured(BaseModel):
    size: float


@pytest.mark.parametrize("model", [Aliased, Strict, Checked, Written, Patterned, Stepped, Dumped, Made, Kept, Measured])
def test_a_model_with_a_will_of_its_own_is_made(model: type[BaseModel]) -> None:
    assert canonical_json(model) is None


def test_the_types_that_come_by_the_million_are_not_made() -> None:
    for name in ("creative_scoring", "hook_generation", "bulk_predictions"):
        assert canonical_json(job_types()[name].Output) is not None

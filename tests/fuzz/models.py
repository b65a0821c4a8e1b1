"""Pydantic models as job types have them for their answers."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from random import Random
from typing import Annotated, Any, ClassVar, Literal, Optional, Union

from pydantic import BaseModel, ConfigDict, Field, create_model

from nightbatch.core.models import Prompt, ProviderName, Request
from nightbatch.job_types.base import JobType


class Color(enum.Enum):
    """Of a text."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """Of numbers."""

    LOW = 1
    HIGH = 5


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"]
    tricks: list[str]


class Tree(BaseModel):
    """Holds itself."""

    name: str
    below: list[Tree] = []


class Open(BaseModel):
    """Allows others."""

    model_config = ConfigDict(extra="allow")
    a: str


class Empty(BaseModel):
    """Has nothing."""


_LEAVES: tuple[Any, ...] = (
    *(str, int, float, bool, datetime.date, datetime.datetime, datetime.timedelta, uuid.UUID, decimal.Decimal, bytes),
    *(Color, Level, Cat, Open, Literal["a"], Literal["a", "b"], Literal[1, 2], Literal["a", 1, None], None),
    Annotated[int, Field(ge=1, le=10)],
    Annotated[int, Field(gt=0, lt=10, multiple_of=2)],
    Annotated[str, Field(min_length=1, max_length=9, pattern="^[a-z]+$")],
    Annotated[float, Field(ge=0)],
    Annotated[Cat | Dog, Field(discriminator="kind")],
    Annotated[Color, Field(description="the main colour")],
    Annotated[Cat, Field(description="the cat", title="C")],
)
_ODD: tuple[Any, ...] = (
    *(Any, list, dict, object, dict[str, int], dict[str, Any], tuple[int, str], tuple[int, int], tuple[int, ...], Tree),
    *(Empty, set[str], frozenset[int], list[Any], dict[str, Cat]),
)


def _annotation(random: Random, depth: int = 0) -> Any:
    if random.random() < 0.06:
        return random.choice(_ODD)
    kind = random.randrange(6) if depth < 3 else 0
    if kind == 1:
        return Optional[_annotation(random, depth + 1)]  # noqa: UP045
    if kind == 2:
        return list[_annotation(random, depth + 1)]  # type: ignore[misc]
    if kind == 3:
        return Union[_annotation(random, depth + 1), _annotation(random, depth + 1)]  # noqa: UP007
    if kind == 4 and depth < 2:
        return _model(random, depth + 1)
    return random.choice(_LEAVES)


def _model(random: Random, depth: int = 0) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name in random.sample(["title", "name", "score", "items", "enum", "properties", "tags"], random.randint(1, 5)):
        words: dict[str, Any] = {"description": "what it is"} if random.random() < 0.2 else {}
        words |= {"default": None} if random.random() < 0.2 else {}
        fields[name] = (_annotation(random, depth), Field(**words))
    return create_model(f"M{random.randrange(10**6)}", **fields)


def job_type(random: Random) -> JobType:
    """Return a team's own type with a model made at random."""

    class Own(JobType):
        """Made at random."""

        name = "own"
        models: ClassVar[dict[ProviderName, str]] = {
            "openai": "gpt-6-luna",
            "anthropic": "claude-haiku-5-5",
            "gemini": "gemini-3.5-flash-lite",
        }
        example: ClassVar[dict[str, Any]] = {"text": "x"}

        class Input(BaseModel):
            """A text."""

            text: str

        Output = _model(random)

        def request(self, job: Any) -> Request:
            return Prompt(user=job.text, schema=self.schema)

    return Own()

"""What no adapter can write is known before the night."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from nightbatch.core.models import Prompt, ProviderName, Request
from nightbatch.job_types import job_types
from nightbatch.job_types.base import JobType
from nightbatch.jobs import rehearsal


class Facts(JobType):
    """A field without a type is a schema that no provider takes."""

    name = "facts"
    models: ClassVar[dict[ProviderName, str]] = {"openai": "gpt-6-luna", "anthropic": "claude-haiku-5-5"}
    example: ClassVar[dict[str, Any]] = {"text": "x"}

    class Input(BaseModel):
        text: str

    class Output(BaseModel):
        facts: list[Any]
        extra: Any = None

    def request(self, job: Input) -> Request:
        return Prompt(user=job.text, schema=self.schema)


def test_all_types_of_the_package_can_be_written() -> None:
    assert rehearsal.unwritable(job_types()) == []


@pytest.mark.fault(65)
def test_a_type_that_an_adapter_cannot_write_is_named_with_the_provider() -> None:
    told = rehearsal.unwritable({"facts": Facts()})
    assert told == [
        f"facts cannot be sent to {provider}, all its jobs there would be rejected: schema: $.properties.facts.items: a list of"
        " anything; structured outputs need the type of its items."
        for provider in ("openai", "anthropic")
    ]


@pytest.mark.fault(65)
def test_a_type_that_fails_is_named_and_the_others_are_tried() -> None:
    class Fails(Facts):
        def request(self, job: Any) -> Request:
            raise KeyError("a secret")

    told = rehearsal.unwritable({"fails": Fails(), **job_types()})
    assert len(told) == 2 and all("KeyError" in sentence and "secret" not in sentence for sentence in told)

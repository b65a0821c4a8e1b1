"""What users test their own job types with."""

from __future__ import annotations

from typing import ClassVar, Literal

import pytest
from pydantic import BaseModel

from nightbatch import JobType, NightbatchError, Prompt, Rejected
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.job_types import job_types
from nightbatch.testing import outputs_of


class Tagging(JobType):
    name = "tagging"
    models: ClassVar[dict[ProviderName, str]] = dict(job_types()["creative_scoring"].models)
    example: ClassVar[dict[str, str]] = {"body": "Since this morning."}

    class Input(BaseModel):
        body: str

    class Output(BaseModel):
        tag: Literal["login", "billing"]

    def request(self, job: Input) -> Prompt:
        return Prompt(user=job.body, schema=self.schema)


@pytest.mark.parametrize("provider", BUILT_IN)
def test_a_type_of_ones_own_is_answered_by_every_provider(provider: ProviderName) -> None:
    outputs = outputs_of(Tagging(), {"body": "One"}, {"body": "Two"}, provider=provider)
    assert [set(output) for output in outputs] == [{"tag"}] * 2


def test_without_an_input_it_is_the_example() -> None:
    assert len(outputs_of(Tagging())) == 1
    assert outputs_of(job_types()["embedding_generation"])[0]["count"] >= 1


def test_what_would_not_work_at_night_is_raised() -> None:
    with pytest.raises(Rejected, match="body"):
        outputs_of(Tagging(), {"bdy": "One"})
    with pytest.raises(NightbatchError):
        outputs_of(Tagging(), {"body": "[[emulator:refusal]]"})

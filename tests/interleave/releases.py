"""The same job type as workers of other releases, or with other mounts, have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from nightbatch.core.errors import Rejected
from nightbatch.core.models import Limits, Prompt, ProviderName
from nightbatch.job_types import job_types
from nightbatch.job_types.base import JobType
from nightbatch.job_types.creative_scoring import CreativeScoring


class _Scoring(CreativeScoring):
    """Scoring that any provider may answer when there is no time left."""

    fallback: ClassVar[bool] = True
    fallback_providers: ClassVar[tuple[ProviderName, ...]] = ("openai", "anthropic", "gemini")


class _WithAnotherPrompt(_Scoring):
    prompts: ClassVar[dict[str, str]] = {**CreativeScoring.prompts, "2": "You judge creatives. Be brief."}


class _WithoutAFile(_Scoring):
    def request(self, job: CreativeScoring.Input) -> Prompt:
        if job.headline.startswith("Creative 0"):
            raise Rejected("a media file cannot be read (FileNotFoundError)")
        return super().request(job)


@dataclass(frozen=True, slots=True)
class Release:
    """What a worker has installed, and how many requests it believes to fit into a batch."""

    name: str
    types: Mapping[str, JobType]
    most: int | None = None

    def limits(self, known: Limits) -> Limits:
        """The provider's limits, as this release knows them."""
        return replace(known, max_requests=self.most) if self.most else known


def _with(scoring: JobType) -> Mapping[str, JobType]:
    return MappingProxyType({**job_types(), scoring.name: scoring})


USUAL = Release("", _with(_Scoring()))
ANOTHER_PROMPT = Release("with another prompt", _with(_WithAnotherPrompt()))
CANNOT_RENDER = Release("where a job cannot be rendered", _with(_WithoutAFile()))
DOES_NOT_FIT = Release("where a job does not fit", _with(_Scoring()), most=1)
RELEASES = (USUAL, ANOTHER_PROMPT, CANNOT_RENDER, DOES_NOT_FIT)

"""A job type that asks a past job again: with another model, prompt version or provider."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from nightbatch.core.errors import Rejected
from nightbatch.core.models import Request
from nightbatch.job_types.base import JobInput, JobType


class HistoricalReprocessing(JobType):
    """A past job again, rendered and read as the job that ``job_id`` names.

    The view ``nightbatch.reprocessed`` shows old beside new.
    """

    name = "historical_reprocessing"
    example: ClassVar[dict[str, Any]] = {"job_id": 1}

    class Input(JobInput):
        """``prompt_version``: one of the past job's type; its newest if not given."""

        job_id: Annotated[int, Field(ge=1)]
        prompt_version: str | None = None

    class Output(BaseModel):
        """The output of the past job's type."""

    def request(self, job: Input) -> Request:
        """Raise `Rejected`: the database knows no such job, else that job's row would stand in place of the reference."""
        raise Rejected(f"job_id: there is no job {job.job_id}")

    def check_input(self, raw: bytes) -> None:
        """Check only the reference, by `read_input`: the database says at the plan whether it knows the job."""
        self.read_input(raw)

    @property
    def overhead_bytes(self) -> int:
        """Return room for a long input and a long prompt: those of the past job are not known when batches are cut."""
        return 16_384

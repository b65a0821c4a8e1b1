"""Turn texts into vectors."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from nightbatch.core.models import EmbeddingInput
from nightbatch.job_types.base import EmbeddingType, JobInput

# https://ai.google.dev/gemini-api/docs/embeddings#supported-task-types
_TaskType = Literal[
    "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION", "CLUSTERING", "QUESTION_ANSWERING",
    "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY",
]  # fmt: skip
_Text = Annotated[str, Field(min_length=1)]


class EmbeddingGeneration(EmbeddingType):
    """One vector per text, into ``nightbatch.embedding``. Anthropic has no embeddings."""

    name = "embedding_generation"
    example: ClassVar[dict[str, Any]] = {"text": "A short text to be found again."}

    class Input(JobInput):
        """``text`` or ``texts``; ``dimensions`` where the model can shorten its vectors.

        ``task_type``, what the vectors are for, and a document's ``title`` are Gemini's; OpenAI knows none.
        """

        text: _Text | None = None
        texts: Annotated[list[_Text], Field(min_length=1, max_length=2048)] | None = None
        dimensions: Annotated[int, Field(ge=1, le=4096)] | None = None
        task_type: _TaskType | None = None
        title: Annotated[str, Field(max_length=2000)] | None = None

        @model_validator(mode="after")
        def _one_of_them(self) -> EmbeddingGeneration.Input:
            if (self.text is None) == (self.texts is None):
                raise ValueError("give either text or texts")
            return self

    def request(self, job: Input) -> EmbeddingInput:
        """Return the texts in the job's order: a vector's ``position`` counts them from 0."""
        texts = (job.text,) if job.text is not None else tuple(job.texts or ())
        return EmbeddingInput(texts=texts, dimensions=job.dimensions, task_type=job.task_type, title=job.title)

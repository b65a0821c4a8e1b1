"""A job type for a ready request body, passed through as it is."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import orjson
from pydantic import AfterValidator, BaseModel, Field

from nightbatch.core.models import Answer, Endpoint, ProviderName, RawRequest, Request
from nightbatch.core.profiles import profile
from nightbatch.job_types.base import JobInput, JobType, ParsedOutput, require_vectors, writable

Url = Literal[
    "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions", "/v1/moderations",
    "/v1/images/generations", "/v1/images/edits", "/v1/videos",
]  # fmt: skip


class _Ready(msgspec.Struct, forbid_unknown_fields=True):
    body: Annotated[dict[str, Any], msgspec.Meta(min_length=1)]
    url: Url | None = None


_ready = msgspec.json.Decoder(_Ready)


class Raw(JobType):
    """The body of one call in the provider's own words: whatever its batches take.

    On OpenAI that is chat completions, responses, embeddings and the others: ``url`` says which, as in OpenAI's own batch
    files, else the body's members do (``nightbatch.raw_endpoint``). A model in the body is the one that is asked; a job that
    names another one is rejected.
    """

    name = "raw"
    example: ClassVar[dict[str, Any]] = {"body": {"messages": [{"role": "user", "content": "Say yes."}]}}
    openai_endpoint: ClassVar[Endpoint] = "chat"

    class Input(JobInput):
        """The job's model is put into the body; what else stands there is the provider's to judge.

        ``url``: which of OpenAI's endpoints the body is for.
        """

        body: Annotated[dict[str, Any], Field(min_length=1), AfterValidator(writable)]
        url: Url | None = None

    class Output(BaseModel):
        """The answer's text; where it holds more than one text, all of it in the provider's own words too.

        Vectors stand in ``nightbatch.embedding``, and ``count`` says how many.
        """

        text: str
        message: dict[str, Any] | None = None
        count: int | None = None

    @property
    def ready(self) -> bool:
        """Return whether this is the type itself: a team's own type made from it may look otherwise."""
        return type(self) is Raw

    @cached_property
    def model_in(self) -> str | None:
        """Return where the body may name the model, as a path for Postgres; a team's own type made from this one may differ."""
        return "{body,model}" if self.ready else super().model_in

    def endpoints(self, provider: ProviderName) -> tuple[Endpoint, ...]:
        """Return what the provider's batches are made of; a team's own type made from this one goes where it says."""
        return profile(provider).endpoints if self.ready else super().endpoints(provider)

    def render_request(self, raw: bytes) -> Request:
        """Return the request for a job's JSON input.

        The quick way, which builds no pydantic model, takes nothing that the other would not.
        """
        if self.ready:  # not a team's own type made from it, which may ask for more
            try:
                given = _ready.decode(raw)
                return RawRequest(writable(given.body), given.url)
            except (ValueError, RecursionError):
                pass  # for the reason
        return super().render_request(raw)

    def request(self, job: Input) -> RawRequest:
        """Return the job's body, with its URL."""
        return RawRequest(job.body, job.url)

    def read_answer(self, answer: Answer, context: bytes = b"") -> ParsedOutput:
        """Return the answer's text, whatever it says, or its vectors.

        The message stands beside the text where it calls a function, shows an image, or has more than one choice.
        """
        if answer.embeddings is not None:
            vectors = require_vectors(answer.embeddings)
            return ParsedOutput(b'{"text":"","count":%d}' % len(vectors), vectors)
        text = orjson.dumps(answer.text or "")
        if answer.message is None:
            return ParsedOutput(b'{"text":%b}' % text)
        return ParsedOutput(b'{"text":%b,"message":%b}' % (text, answer.message), whole=True)

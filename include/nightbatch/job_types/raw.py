"""A ready request body, passed through as it is."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
import orjson
from pydantic import AfterValidator, BaseModel, Field

from nightbatch.job_types.base import JobInput, JobType, Read, writable
from nightbatch.models import Answer, Endpoint, ProviderName, ReadyBody, Request

BatchUrl = Literal[
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/videos",
]
"""What OpenAI takes in a batch: https://platform.openai.com/docs/api-reference/batch/create"""


class _Ready(msgspec.Struct, forbid_unknown_fields=True):
    body: Annotated[dict[str, Any], msgspec.Meta(min_length=1)]
    url: BatchUrl | None = None


_ready = msgspec.json.Decoder(_Ready)


class Raw(JobType):
    """The body of one call in the provider's own words: chat completions, messages, or generateContent."""

    name = "raw"
    models: ClassVar[dict[ProviderName, str]] = {
        "openai": "gpt-6-luna",
        "anthropic": "claude-haiku-5-5",
        "gemini": "gemini-3.5-flash-lite",
    }
    example: ClassVar[dict[str, Any]] = {"body": {"messages": [{"role": "user", "content": "Say yes."}]}}
    openai_endpoint: ClassVar[Endpoint] = "chat"

    class Input(JobInput):
        """The job's model is put into the body; what else stands there is the provider's to judge.

        ``url``: which of OpenAI's endpoints the body is for.
        """

        body: Annotated[dict[str, Any], Field(min_length=1), AfterValidator(writable)]
        url: BatchUrl | None = None

    class Output(BaseModel):
        """The answer's text; where it holds more than one text, all of it in the provider's own words too."""

        text: str
        message: dict[str, Any] | None = None

    def render_request(self, raw: bytes) -> Request:
        """As ever; the quick way, which builds no model, takes nothing that the other would not."""
        if type(self) is Raw:  # not a team's own type made from it, which may ask for more
            try:
                return ReadyBody(writable(_ready.decode(raw).body))
            except (ValueError, RecursionError):
                pass  # for the reason
        return super().render_request(raw)

    def request(self, job: Input) -> ReadyBody:
        """The body."""
        return ReadyBody(job.body)

    def read_answer(self, answer: Answer, context: bytes = b"") -> Read:
        """The text, whatever it says; and the message where it calls a function, shows an image, or has more than one choice."""
        text = orjson.dumps(answer.text or "")
        if answer.message is None:
            return Read(b'{"text":%b}' % text)
        return Read(b'{"text":%b,"message":%b}' % (text, answer.message), whole=True)

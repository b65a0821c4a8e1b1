"""Any prompt template with any JSON schema, given with the job: no code."""

from __future__ import annotations

from functools import lru_cache
from string import Template
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import AfterValidator, BaseModel, Field, field_validator

from nightbatch import foreign_schema
from nightbatch.canonical import with_digits
from nightbatch.errors import Rejected
from nightbatch.job_types.base import JobType, Misfit, Read, writable
from nightbatch.models import Answer, Prompt, ProviderName
from nightbatch.plain_schema import plain_schema
from nightbatch.schema_words import strict


class BulkPredictions(JobType):
    """A template such as ``Is this a complaint? $text``, the values for it, and the schema of the answer."""

    name = "bulk_predictions"
    models: ClassVar[dict[ProviderName, str]] = {
        "openai": "gpt-6-luna",
        "anthropic": "claude-haiku-5-5",
        "gemini": "gemini-3.5-flash-lite",
    }
    example: ClassVar[dict[str, Any]] = {
        "template": "Is this a complaint? $text",
        "values": {"text": "The coffee was cold."},
        "schema": {"type": "object", "properties": {"complaint": {"type": "boolean"}}},
    }
    keeps_context = True

    class Input(BaseModel):
        """``$name`` or ``${name}`` in the template stands for a value, ``$$`` for a dollar sign."""

        template: Annotated[str, Field(min_length=1)]
        values: dict[str, str | int | float | bool] = {}
        answer: Annotated[dict[str, Any], Field(alias="schema"), AfterValidator(writable)]
        system: str | None = None
        max_tokens: Annotated[int, Field(ge=1, le=32_000)] = 1024

        @field_validator("answer")
        @classmethod
        def _is_a_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
            if schema.get("type") != "object":
                raise ValueError('its type has to be "object"')
            foreign_schema.require_usable(schema)
            try:
                _asked(orjson.dumps(schema))
            except Rejected as error:
                raise ValueError(str(error).removeprefix("schema: ")) from None
            return schema

    class Output(BaseModel):
        """Whatever the job's own schema says."""

    def request(self, job: Input) -> Prompt:
        """The template with its values. Raises `Rejected` for a name without a value."""
        try:
            user = Template(job.template).substitute(job.values)
        except KeyError as error:
            raise Rejected(f"values: the template's {error.args[0]} is missing") from None
        except ValueError:
            raise Rejected("template: a dollar sign stands alone; write $$ for one") from None
        schema = _asked(orjson.dumps(job.answer))
        return Prompt(user=user, system=job.system, schema=schema, schema_name="prediction", max_tokens=job.max_tokens)

    def context(self, job: Input) -> bytes:
        """The schema, which the answer is checked against."""
        return orjson.dumps(job.answer)

    def read_answer(self, answer: Answer, context: bytes = b"") -> Read:
        """The answer as the schema wants it. Raises `Misfit` with the place that does not fit, never its value."""
        try:
            text = answer.text or ""
            found = orjson.loads(text)
            fault = foreign_schema.fault(orjson.loads(context or b"{}"), found)
        except foreign_schema.Endless:
            raise Misfit("the answer does not fit: its schema refers to itself without end, or to nothing") from None
        except ValueError:
            raise Misfit("the answer does not fit: it is no JSON") from None
        if fault:
            raise Misfit(f"the answer does not fit: {fault.json_path} breaks the rule {fault.validator!r}")
        return Read(with_digits(text))


@lru_cache(maxsize=64)  # the jobs of a night share a few
def _asked(text: bytes) -> dict[str, Any]:
    """Return the schema to ask for. Raises `Rejected` for what no provider's structured output can say."""
    schema: dict[str, Any] = strict(orjson.loads(text))
    plain_schema(schema)
    return schema

"""Any prompt template with any JSON schema, given with the job: no code."""

from __future__ import annotations

from functools import lru_cache
from string import Template
from typing import Annotated, Any, ClassVar

import msgspec
import orjson
from pydantic import AfterValidator, BaseModel, Field, field_validator

from nightbatch.core.errors import Rejected
from nightbatch.core.models import Answer, Prompt
from nightbatch.job_types.base import JobType, OutputInvalid, ParsedOutput, Tuned, writable
from nightbatch.job_types.fast_json import with_digits
from nightbatch.schemas import json_schema
from nightbatch.schemas.plain import plain_schema
from nightbatch.schemas.words import strict


class BulkPredictions(JobType):
    """A template such as ``Is this a complaint? $text``, the values for it, and the schema of the answer."""

    name = "bulk_predictions"
    example: ClassVar[dict[str, Any]] = {
        "template": "Is this a complaint? $text",
        "values": {"text": "The coffee was cold."},
        "schema": {"type": "object", "properties": {"complaint": {"type": "boolean"}}},
    }
    keeps_context = True

    class Input(Tuned):
        """``$name`` or ``${name}`` in the template stands for a value, ``$$`` for a dollar sign.

        A text stands in the prompt as it is, any other value as its JSON.
        ``shared`` stands before the template, the same for many jobs: the provider keeps it in its cache.
        """

        template: Annotated[str, Field(min_length=1)]
        values: Annotated[dict[str, Any], Field(default_factory=dict)]
        answer: Annotated[dict[str, Any], Field(alias="schema"), AfterValidator(writable)]
        system: str | None = None
        shared: str | None = None
        temperature: Annotated[float, Field(ge=0, le=2)] | None = None

        @field_validator("answer")
        @classmethod
        def _is_a_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
            if schema.get("type") != "object":
                raise ValueError('its type has to be "object"')
            json_schema.require_usable(schema)
            try:
                _asked(orjson.dumps(schema))
            except Rejected as error:
                raise ValueError(str(error).removeprefix("schema: ")) from None
            return schema

    class Output(BaseModel):
        """Whatever the job's own schema says."""

    def read_input(self, raw: bytes) -> Input:
        """Return the input with its values as texts, every digit of their numbers as it was given: 19.90 is no 19.9."""
        job: BulkPredictions.Input = super().read_input(raw)
        if not all(type(value) is str for value in job.values.values()):
            job.values = _as_given(raw)
        return job

    def request(self, job: Input) -> Prompt:
        """Return the template with its values as a prompt.

        Raises `Rejected` for a name without a value, a value without a name, and a dollar sign that stands alone.
        """
        template = Template(job.template)
        try:
            user = template.substitute(job.values)
        except KeyError as error:
            raise Rejected(f"values: the template's {error.args[0]} is missing") from None
        except ValueError:
            raise Rejected("template: a dollar sign stands alone; write $$ for one") from None
        unused = job.values.keys() - _names(job.template)
        if unused:
            raise Rejected(_why_unused(job.template, min(unused)))
        return Prompt(
            user=user,
            system=job.system,
            shared=job.shared,
            schema=_asked(orjson.dumps(job.answer)),
            schema_name="prediction",
            max_tokens=job.max_tokens or 1024,
            effort=job.effort or "light",
            temperature=job.temperature,
        )

    def context(self, job: Input) -> bytes:
        """Return the schema, which the answer is checked against."""
        return orjson.dumps(job.answer)

    def read_answer(self, answer: Answer, context: bytes = b"") -> ParsedOutput:
        """Return the answer, checked against the schema, with every digit of its numbers.

        Raises `OutputInvalid` with the place that does not fit, never its value.
        """
        try:
            text = answer.text or ""
            found = orjson.loads(text)
            fault = json_schema.fault(orjson.loads(context or b"{}"), found)
        except json_schema.Endless:
            raise OutputInvalid(
                "the answer does not fit: its schema refers to itself without end, or to nothing"
            ) from None
        except ValueError:
            raise OutputInvalid("the answer does not fit: it is no JSON") from None
        if fault:
            raise OutputInvalid(f"the answer does not fit: {fault.json_path} breaks the rule {fault.validator!r}")
        return ParsedOutput(with_digits(text))


class _Given(msgspec.Struct):
    values: dict[str, msgspec.Raw] = {}


_given = msgspec.json.Decoder(_Given)
# How other tools write the place of a value: Jinja and mustache, str.format, the % operator, tags, shells on Windows.
_OTHER_STYLES = ("{{{{ {} }}}}", "{{{}}}", "%({})s", "<{}>", "[{}]", "%{}%", "#{{{}}}", "<%= {} %>")


@lru_cache(maxsize=64)  # the jobs of a night share a few
def _names(template: str) -> frozenset[str]:
    return frozenset(Template(template).get_identifiers())


def _as_given(raw: bytes) -> dict[str, str]:
    try:
        return {name: _as_text(bytes(value)) for name, value in _given.decode(raw).values.items()}
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Rejected("values: a value is no JSON, or nested too deep") from None


def _as_text(value: bytes) -> str:
    if value.startswith(b'"'):
        return str(orjson.loads(value))
    return with_digits(value.decode()).decode() if value.startswith((b"[", b"{")) else value.decode()


def _why_unused(template: str, name: str) -> str:
    """Return why a value without a place in the template is refused, and how the template has to name it."""
    shown = name[:100]
    if Template.pattern.fullmatch(f"${name}") is None:
        return f"values: no $name can be written for {shown!r}: a name holds a to z, digits and _ only"
    bare = template.replace(" ", "")
    styles = [style.format(name) for style in _OTHER_STYLES if style.format(name).replace(" ", "") in bare]
    written = f": {styles[0][:110]} is no place for it" if styles else " uses it"
    return f"values: {shown} is given, and nothing in the template{written}; write ${shown} or ${{{shown}}}"


@lru_cache(maxsize=64)  # the jobs of a night share a few
def _asked(text: bytes) -> dict[str, Any]:
    """Return the schema to ask for. Raises `Rejected` for what no provider's structured output can say."""
    schema: dict[str, Any] = strict(orjson.loads(text))
    plain_schema(schema)
    return schema

"""Any prompt template with any JSON schema, given with the job: no code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from string import Template
from typing import Annotated, Any, ClassVar

import orjson
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema import SchemaError as BadSchema
from jsonschema import ValidationError as DoesNotFit
from jsonschema.validators import extend
from pydantic import AfterValidator, BaseModel, Field, field_validator
from pydantic_core import SchemaError, SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable

from nightbatch.errors import Rejected
from nightbatch.job_types.base import JobType, Misfit, Read, strict, writable
from nightbatch.models import Answer, Prompt, ProviderName


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
            try:
                Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
                _check(schema, schema)
                list(_validator(schema).iter_errors({}))  # would not end if the schema is nothing but itself
            except BadSchema as error:
                raise ValueError(f"no JSON schema: {error.json_path} is wrong") from None
            except RecursionError:
                raise ValueError("it refers to itself without end") from None
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
        return Prompt(
            user=user, system=job.system, schema=strict(job.answer), schema_name="prediction", max_tokens=job.max_tokens
        )

    def context(self, job: Input) -> bytes:
        """The schema, which the answer is checked against."""
        return orjson.dumps(job.answer)

    def read_answer(self, answer: Answer, context: bytes = b"") -> Read:
        """The answer as the schema wants it. Raises `Misfit` with the place that does not fit, never its value."""
        try:
            found = orjson.loads(answer.text or "")
            _validator(orjson.loads(context or b"{}")).validate(found)
            return Read(orjson.dumps(found))
        except DoesNotFit as error:
            raise Misfit(f"the answer does not fit: {error.json_path} breaks the rule {error.validator!r}") from None
        except (RecursionError, Unresolvable):
            raise Misfit("the answer does not fit: its schema refers to itself without end, or to nothing") from None
        except ValueError:
            raise Misfit("the answer does not fit: it is no JSON") from None


# What follows keeps a schema, which comes from whoever inserts a job, from holding up the load of everybody else's answers:
# nothing is fetched for a reference, and a pattern takes time in proportion to the text, whatever it says.

_REFERENCE = re.compile(r"#(/(\$defs|definitions)/([^/]+))?")
_SCHEMAS_BY_NAME = ("properties", "$defs", "definitions", "dependentSchemas")
_VALUES = ("enum", "const", "default", "examples")


def _check(node: Any, root: dict[str, Any]) -> None:
    """Raises `ValueError` for a reference to elsewhere or to nothing, and for a pattern that cannot be used."""
    if isinstance(node, list):
        for item in node:
            _check(item, root)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key in _SCHEMAS_BY_NAME and isinstance(value, dict):
            _check(list(value.values()), root)
        elif key in ("$dynamicRef", "patternProperties"):
            raise ValueError(f"no provider's structured output knows {key}")
        elif key == "$ref":
            _check_reference(value, root)
        elif key == "pattern":
            _regex(value)
        elif key not in _VALUES:
            _check(value, root)


def _check_reference(reference: str, root: dict[str, Any]) -> None:
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise ValueError("a $ref has to be # or begin with #/$defs/")
    if found[1] and found[3] not in root.get(found[2], {}):
        raise ValueError("a $ref names what is not in $defs")


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> SchemaValidator:
    """pydantic's engine, Rust's: without look-around and back-references, and so without a text that it takes for ever over."""
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        raise ValueError("a pattern is no regular expression, or looks around or back") from None


def _fits_pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[DoesNotFit]:
    if validator.is_type(instance, "string") and not _regex(pattern).isinstance_python(instance):
        yield DoesNotFit("the pattern does not match")


_Validator = extend(Draft202012Validator, {"pattern": _fits_pattern})  # type: ignore[no-untyped-call]


def _validator(schema: dict[str, Any]) -> Any:
    return _Validator(schema, registry=Registry())

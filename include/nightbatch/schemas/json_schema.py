"""Checks of answers against JSON schemas that come with a job, which must not hold up the load of everybody else's answers.

Nothing is fetched for a reference. References are followed a limited number of times, since a few that name each other twice
come to billions. A pattern takes time in proportion to the text, whatever it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from itertools import count
from typing import Any

import orjson
from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend
from pydantic_core import SchemaError as BadPattern
from pydantic_core import SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable

from nightbatch.schemas.words import every

_MAX_REFERENCES = 20_000
_DEEPEST = 60  # references within references: the stack's own end may come in native code, which panics there
_REFERENCE = re.compile(r"#(/(\$defs|definitions)/([^/]+))?")

_followed: ContextVar[Iterator[int]] = ContextVar("followed")
_depth: ContextVar[int] = ContextVar("depth", default=0)


class Endless(Exception):
    """The schema refers to itself without end or too often, or to nothing."""


def require_usable(schema: dict[str, Any]) -> None:
    """Raise `ValueError` with the reason for what is no schema, or one that answers cannot be checked against."""
    _require_usable(orjson.dumps(schema))


@lru_cache(maxsize=64)  # the jobs of a night share a few
def _require_usable(text: bytes) -> None:
    schema = orjson.loads(text)
    try:
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
        _check(schema)
        fault(schema, {})  # would not end if the schema is nothing but itself
    except SchemaError as error:
        raise ValueError(f"no JSON schema: {error.json_path} is wrong") from None
    except (RecursionError, Endless):
        raise ValueError("it refers to itself without end, or too often") from None


def fault(schema: dict[str, Any], instance: Any) -> ValidationError | None:
    """Return the first thing to mend in an instance, None if it fits. Raises `Endless`."""
    _followed.set(count())
    _depth.set(0)
    try:
        found: ValidationError | None = best_match(_Validator(schema, registry=Registry()).iter_errors(instance))
    except (RecursionError, Unresolvable):
        raise Endless from None
    return found


def _check(schema: dict[str, Any]) -> None:
    """Raise `ValueError` for a reference to elsewhere or to nothing, an unusable pattern, and a word that no provider knows."""
    for node in every(schema):
        for word in ("$dynamicRef", "patternProperties"):
            if word in node:
                raise ValueError(f"no provider's structured output knows {word}")
        if "$ref" in node:
            _check_reference(node["$ref"], schema)
        if "pattern" in node:
            _regex(node["pattern"])


def _check_reference(reference: str, root: dict[str, Any]) -> None:
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise ValueError("a $ref has to be # or begin with #/$defs/")
    if found[1] and found[3] not in root.get(found[2], {}):
        raise ValueError("a $ref names what is not in $defs")


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> SchemaValidator:
    """Return a matcher of pydantic's Rust engine: without look-around and back-references, no text takes it for ever.

    Raises `ValueError` for a pattern that the engine cannot use.
    """
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except BadPattern:
        raise ValueError("a pattern is no regular expression, or looks around or back") from None


def _fits_pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _regex(pattern).isinstance_python(instance):
        yield ValidationError("the pattern does not match")


def _follow(validator: Any, reference: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    depth = _depth.get()
    if next(_followed.get()) > _MAX_REFERENCES or depth > _DEEPEST:
        raise Endless
    _depth.set(depth + 1)
    yield from Draft202012Validator.VALIDATORS["$ref"](validator, reference, instance, schema)
    _depth.set(depth)


def _is_of_type(validator: Any, types: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """Yield the errors of a type; OpenAPI's ``nullable``, which stands in many schemas, allows null beside the type."""
    if instance is not None or schema.get("nullable") is not True:
        yield from Draft202012Validator.VALIDATORS["type"](validator, types, instance, schema)


_Validator = extend(Draft202012Validator, {"pattern": _fits_pattern, "$ref": _follow, "type": _is_of_type})  # type: ignore[no-untyped-call]

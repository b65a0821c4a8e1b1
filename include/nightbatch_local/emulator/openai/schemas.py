"""Refuse what strict mode refuses: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas.

Lengths of texts are not among the supported properties there, and are refused. Of titles, examples and other annotations the
document says nothing: they pass, as those of OpenAI's own SDK do; ``default`` is refused, as users report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson

from nightbatch_local.emulator.errors import ApiError

_NOT_PERMITTED = (
    *("allOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else", "oneOf", "patternProperties"),
    *("propertyNames", "minProperties", "maxProperties", "unevaluatedProperties", "unevaluatedItems", "prefixItems"),
    *("contains", "minContains", "maxContains", "uniqueItems", "minLength", "maxLength", "default", "discriminator"),
    *("$dynamicRef", "$recursiveRef"),
)
_TYPES = ("string", "number", "boolean", "integer", "object", "array", "null")
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_LOOKAROUND = ("(?=", "(?!", "(?<=", "(?<!")
_REFERENCE = re.compile(r"#(?:/(\$defs|definitions)/([^/]+))?")
_LEVELS, _PROPERTIES, _ENUM_VALUES, _LETTERS = 10, 5000, 1000, 120_000
_LONG_ENUM, _LETTERS_OF_A_LONG_ENUM = 250, 15_000

Schema = dict[str, Any]
Path = tuple[str, ...]


def require_strict(schema: Any, *, what: str, param: str) -> None:
    """Raise `ApiError` for a schema that strict mode does not take; `what` it is for, like "response_format 'score'"."""
    fault = _fault(orjson.dumps(schema))
    if fault:
        raise ApiError(400, f"Invalid schema for {what}: {fault}", param=param, code="invalid_json_schema")


@lru_cache(maxsize=1024)  # the requests of a batch share a few
def _fault(text: bytes) -> str | None:
    schema = orjson.loads(text)
    if not isinstance(schema, dict) or schema.get("type") != "object":
        kind = schema.get("type") if isinstance(schema, dict) else None
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    if "anyOf" in schema:
        return "In context=(), 'anyOf' is not permitted at the root."
    return next(_faults(schema, (), schema), None) or _too_large(schema)


def _faults(node: Any, path: Path, root: Schema) -> Iterator[str]:
    if not isinstance(node, dict):
        yield f"In context={path}, the schema must be an object."
        return
    for word in _NOT_PERMITTED:
        if word in node:
            yield f"In context={path}, '{word}' is not permitted."
    if "$ref" in node:
        yield from _faults_of_reference(node, path, root)
    elif "anyOf" not in node:
        yield from _faults_of_type(node, path)
    for step, child in _children(node):
        yield from _faults(child, (*path, *step), root)


def _faults_of_reference(node: Schema, path: Path, root: Schema) -> Iterator[str]:
    if others := set(node) - {"$ref"}:
        yield f"In context={path}, $ref cannot have keywords {others}."
    found = _REFERENCE.fullmatch(str(node["$ref"]))
    if not found or (found[1] and found[2] not in (root.get(found[1]) or {})):
        yield f"In context={path}, reference '{node['$ref']}' cannot be resolved."


def _faults_of_type(node: Schema, path: Path) -> Iterator[str]:
    kinds = node.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if kinds == [None] and "enum" not in node and "const" not in node:
        yield f"In context={path}, schema must have a 'type' key."
    elif any(kind is not None and kind not in _TYPES for kind in kinds):
        yield f"In context={path}, '{kinds[0]}' is not a valid type."
    values = node.get("enum", [node.get("const")])
    if not isinstance(values, list) or not values or any(isinstance(value, dict | list) for value in values):
        yield f"In context={path}, enum must hold strings, numbers, booleans or null."
    if "object" in kinds or "properties" in node:
        yield from _faults_of_object(node, path)
    if "array" in kinds and "items" not in node:
        yield f"In context={path}, array schema missing items."
    if "format" in node and node["format"] not in _FORMATS:
        yield f"In context={path}, '{node['format']}' is not a valid format."
    if any(part in str(node.get("pattern", "")) for part in _LOOKAROUND):
        yield f"In context={path}, pattern uses lookaround, which is not supported."


def _faults_of_object(node: Schema, path: Path) -> Iterator[str]:
    if node.get("additionalProperties") is not False:
        yield f"In context={path}, 'additionalProperties' is required to be supplied and to be false."
    names = node.get("properties") or {}
    required = node.get("required") or []
    missing = [name for name in names if name not in required]
    if missing:
        yield (
            f"In context={path}, 'required' is required to be supplied and to be an array including every key in"
            f" properties. Missing '{missing[0]}'."
        )
    if extra := [name for name in required if name not in names]:
        yield f"In context={path}, 'required' has extra keys. Extra required key '{extra[0]}' supplied."


def _children(node: Schema) -> Iterator[tuple[Path, Any]]:
    for word in ("properties", "$defs", "definitions"):
        for name, child in (node.get(word) or {}).items():
            yield (word, name), child
    for number, child in enumerate(node.get("anyOf") or ()):
        yield ("anyOf", str(number)), child
    if "items" in node:
        yield ("items",), node["items"]


def _all(node: Schema) -> Iterator[Schema]:
    yield node
    for _, child in _children(node):
        yield from _all(child)


def _depth(node: Schema) -> int:
    inner = [child for step, child in _children(node) if step[0] not in ("$defs", "definitions")]
    return max(map(_depth, inner), default=0) + ("properties" in node)


def _too_large(schema: Schema) -> str | None:
    nodes = list(_all(schema))
    definitions = {**(schema.get("$defs") or {}), **(schema.get("definitions") or {})}
    depth = max(map(_depth, [schema, *definitions.values()]))
    if depth > _LEVELS:
        return f"{depth} levels of nesting exceeds limit of {_LEVELS}."
    names = [name for node in nodes for name in node.get("properties") or ()]
    if len(names) > _PROPERTIES:
        return f"Total number of object properties {len(names)} exceeds limit of {_PROPERTIES}."
    lists = [node["enum"] if "enum" in node else [node["const"]] for node in nodes if {"enum", "const"} & set(node)]
    if sum(map(len, lists)) > _ENUM_VALUES:
        return f"Expected at most {_ENUM_VALUES} enum values in total within a schema, received {sum(map(len, lists))}."
    letters = sum(map(_letters, [names, list(definitions), *lists]))
    if letters > _LETTERS:
        return f"Expected at most {_LETTERS} characters in total within a schema, received {letters}."
    if any(len(values) > _LONG_ENUM and _letters(values) > _LETTERS_OF_A_LONG_ENUM for values in lists):
        return f"An enum with more than {_LONG_ENUM} values may have at most {_LETTERS_OF_A_LONG_ENUM} characters."
    return None


def _letters(texts: list[Any]) -> int:
    return sum(len(text) for text in texts if isinstance(text, str))

"""Refuse what a `Schema` is refused for: https://ai.google.dev/api/caching#Schema, and the words that users report.

How deep and how large it may be is not published ("too many states for serving"): refused here is only what is far beyond what
anybody reports to work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson

from nightbatch_local.emulator.errors import ApiError

_TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
_FIELDS = {
    *("type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties", "required"),
    *("minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example", "anyOf", "propertyOrdering"),
    *("default", "items", "minimum", "maximum"),
}
_ONLY_FOR = {"properties": ("OBJECT",), "required": ("OBJECT",), "items": ("ARRAY",), "enum": ("STRING",)}
_FORMATS = {"STRING": ("enum", "date-time"), "NUMBER": ("float", "double"), "INTEGER": ("int32", "int64")}
_DEEPEST, _MAX_NODES = 64, 20_000

Schema = dict[str, Any]


def require_taken(schema: Any, *, place: str) -> None:
    """Raise `ApiError` for a schema that is not taken; `place` is that of the schema in the request."""
    fault = _fault(orjson.dumps(schema), place)
    if fault:
        raise ApiError(400, fault)


@lru_cache(maxsize=1024)  # the requests of a batch share a few
def _fault(text: bytes, place: str) -> str | None:
    schema = orjson.loads(text)
    faults = list(_faults(schema, place, 0))
    if len(faults) == 0 and sum(1 for _ in _all(schema)) > _MAX_NODES:
        return "The specified schema produces a constraint that has too many states for serving."
    return "\n".join(faults[:5]) or None


def _faults(given: Any, place: str, depth: int) -> Iterator[str]:
    if not isinstance(given, dict):
        yield f"Invalid value at '{place}': Proto field is not repeating or is no message."
        return
    if depth > _DEEPEST:
        yield "A schema in GenerationConfig in the request exceeds the maximum allowed nesting depth."
        return
    node = _camel(given)
    for word in sorted(set(node) - _FIELDS):
        yield f"Invalid JSON payload received. Unknown name \"{word}\" at '{place}': Cannot find field."
    kind = str(node.get("type", "")).upper()
    if "type" in node and kind not in _TYPES:
        yield f"Invalid value at '{place}.type': \"{node['type']}\""
    elif not kind and "anyOf" not in node:
        yield f"* {place}.type: must be specified"
    for word, kinds in _ONLY_FOR.items():
        if word in node and kind and kind not in kinds:
            yield f"* {place}.{word}: only allowed for {kinds[0]} type"
    yield from _faults_of_values(node, kind, place)
    for step, child in _children(node):
        yield from _faults(child, place + step, depth + 1)


def _faults_of_values(node: Schema, kind: str, place: str) -> Iterator[str]:
    if kind == "OBJECT" and not node.get("properties"):
        yield f"* {place}.properties: should be non-empty for OBJECT type"
    if kind == "ARRAY" and "items" not in node:
        yield f"* {place}.items: missing field."
    for name in node.get("required") or ():
        if name not in (node.get("properties") or {}):
            yield f"* {place}.required: property '{name}' is not defined"
    for number, value in enumerate(node.get("enum") or ()):
        if not isinstance(value, str):
            yield f"Invalid value at '{place}.enum[{number}]' (TYPE_STRING), {value}"
        elif not value:
            yield f"* {place}.enum[{number}]: cannot be empty"
    if "format" in node and node["format"] not in _FORMATS.get(kind, ()):
        yield f"* {place}.format: only {' and '.join(map(repr, _FORMATS.get(kind, ())))} are supported for {kind} type"


def _children(node: Schema) -> Iterator[tuple[str, Any]]:
    for name, child in (node.get("properties") or {}).items():
        yield f'.properties["{name}"]', child
    for number, child in enumerate(node.get("anyOf") or ()):
        yield f".any_of[{number}]", child
    if "items" in node:
        yield ".items", node["items"]


def _all(given: Schema) -> Iterator[Schema]:
    yield given
    for _, child in _children(_camel(given)):
        yield from _all(child)


def _camel(node: Schema) -> Schema:
    """Return the fields in camel case: they may be written either way; names of properties stay as they are."""
    return {re.sub("_([a-z])", lambda found: found[1].upper(), word): value for word, value in node.items()}

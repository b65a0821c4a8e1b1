"""Refuse the schemas that structured outputs do not take.

See https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations.
Of how large a schema may be the document says only that complex ones may fail ("compiled grammar is too large"): none is
refused for that here. Annotations it does not name (title, examples) pass, as those of Anthropic's SDK do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson

from nightbatch_local.emulator.errors import ApiError

_TAKEN = {
    *("type", "anyOf", "allOf", "$ref", "$defs", "definitions", "enum", "const"),
    *("title", "description", "default", "examples", "$schema", "$id", "$comment"),
}
_TAKEN_OF: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems"},
    "string": {"format", "pattern"},
    "number": set(),
    "integer": set(),
    "boolean": set(),
    "null": set(),
}
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
_NOT_IN_PATTERNS = re.compile(r"\(\?[=!<]|\\[1-9bB]")
_REFERENCE = re.compile(r"#(?:/(\$defs|definitions)/([^/]+))?")
_OPTIONAL, _UNIONS = 24, 16

Schema = dict[str, Any]


def require_taken(schema: Any, *, place: str) -> None:
    """Raise `ApiError` for a schema that is not taken; `place` is that of the schema in the request."""
    fault = _fault(orjson.dumps(schema))
    if fault:
        raise ApiError(400, f"{place}: {fault}")


@lru_cache(maxsize=1024)  # the requests of a batch share a few
def _fault(text: bytes) -> str | None:
    schema = orjson.loads(text)
    found = next(_faults(schema, schema), None)
    return found or (_holds_itself(schema, schema, ()) or _too_many(schema))


def _faults(node: Any, root: Schema) -> Iterator[str]:
    if not isinstance(node, dict):
        yield "Schema must be an object"
        return
    if "$ref" in node:
        found = _REFERENCE.fullmatch(str(node["$ref"]))
        if not found or (found[1] and found[2] not in (root.get(found[1]) or {})):
            yield f"External or unresolvable $ref '{node['$ref']}' is not supported"
    elif not {"type", "anyOf", "allOf", "enum", "const"} & set(node):
        yield "Schema must have a 'type', 'anyOf', 'allOf', '$ref', 'enum' or 'const' field"
    kinds = node.get("type")
    kinds = kinds if isinstance(kinds, list) else [] if kinds is None else [kinds]
    if any(kind not in _TAKEN_OF for kind in kinds):
        yield f"'{kinds[0]}' is not a supported type"
        return
    taken = _TAKEN.union(*(_TAKEN_OF[kind] for kind in kinds))
    if others := sorted(set(node) - taken):
        yield f"For '{kinds[0] if kinds else 'any'}' type, properties {', '.join(others)} are not supported"
    yield from _faults_of_words(node, kinds)
    for child in _children(node):
        yield from _faults(child, root)


def _faults_of_words(node: Schema, kinds: list[Any]) -> Iterator[str]:
    values = node.get("enum", [node.get("const")])
    if not isinstance(values, list) or not values or any(isinstance(value, dict | list) for value in values):
        yield "Enum and const must hold strings, numbers, booleans or null"
    if "object" in kinds and node.get("additionalProperties") is not False:
        yield "For 'object' type, 'additionalProperties' must be explicitly set to false"
    if "minItems" in node and node["minItems"] not in (0, 1):
        yield "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    if "format" in node and node["format"] not in _FORMATS:
        yield f"For 'string' type, format '{node['format']}' is not supported"
    if _NOT_IN_PATTERNS.search(str(node.get("pattern", ""))):
        yield "For 'string' type, pattern uses lookaround, back-references or word boundaries, which are not supported"
    if any("$ref" in part for part in node.get("allOf") or () if isinstance(part, dict)):
        yield "allOf with $ref is not supported"


def _children(node: Schema) -> Iterator[Any]:
    for word in ("properties", "$defs", "definitions"):
        yield from (node.get(word) or {}).values()
    for word in ("anyOf", "allOf"):
        yield from node.get(word) or ()
    if "items" in node:
        yield node["items"]


def _holds_itself(node: Schema, root: Schema, within: tuple[str, ...]) -> str | None:
    if "$ref" in node:
        reference = node["$ref"]
        if reference == "#" or reference in within:
            return "Recursive schemas are not supported"
        word, name = reference.removeprefix("#/").split("/")
        return _holds_itself(root[word][name], root, (*within, reference))
    inner = {word: value for word, value in node.items() if word not in ("$defs", "definitions")}
    return next((found for child in _children(inner) if (found := _holds_itself(child, root, within))), None)


def _too_many(schema: Schema) -> str | None:
    nodes = list(_all(schema))
    unions = sum("anyOf" in node or isinstance(node.get("type"), list) for node in nodes)
    if unions > _UNIONS:
        return (
            f"Schemas contains too many parameters with union types ({unions} parameters with type arrays or anyOf,"
            f" limit: {_UNIONS})"
        )
    optional = sum(len(set(node.get("properties") or ()) - set(node.get("required") or ())) for node in nodes)
    if optional > _OPTIONAL:
        return f"Schemas contains too many optional parameters ({optional}, limit: {_OPTIONAL})"
    return None


def _all(node: Schema) -> Iterator[Schema]:
    yield node
    for child in _children(node):
        yield from _all(child)

"""Merges several JSON schemas into one that asks for what all of them do, as long as it can be said without allOf."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

from nightbatch.schemas import json_schema

Schema = dict[str, Any]

_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
WORDS: dict[str, tuple[str, ...]] = {
    "object": (
        "properties",
        "required",
        "additionalProperties",
        "minProperties",
        "maxProperties",
        "propertyNames",
        "dependentRequired",
        "unevaluatedProperties",
    ),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": _NUMBERS,
    "integer": _NUMBERS,
    "boolean": (),
    "null": (),
}
_OF_ALL = ("type", "enum", "const", "description")
_BOUNDS = {word for words in WORDS.values() for word in words if word.startswith(("min", "max")) or word in _NUMBERS}
_VALUES: dict[str, type[Any] | tuple[type[Any], ...]] = {
    **dict.fromkeys(_BOUNDS, (int, float)),
    **dict.fromkeys(("pattern", "format", "description"), str),
    **dict.fromkeys(("properties", "dependentRequired"), dict),
    **dict.fromkeys(("required", "enum", "prefixItems"), list),
}
_ANY = frozenset(_OF_ALL).union(*WORDS.values())


class Contradiction(Exception):
    """No value fits both schemas; or ``word`` stands in both and cannot be written as one."""

    def __init__(self, word: str = "") -> None:
        self.word = word


def flat_words(node: Schema, kind: str | None = None) -> Schema:
    """Return the words of the part itself, none if it has only a description; with ``kind`` only those for this type."""
    if kind is None:
        own = {word: value for word, value in node.items() if word in _ANY and _says_something(word, value)}
        return own if set(own) - {"description"} else {}
    kept = {word: value for word, value in node.items() if word in WORDS[kind] or word in _OF_ALL}
    return kept | {"type": kind}


def kinds_of(node: Schema) -> list[str]:
    """Return the types that the part names; ``nullable`` is OpenAPI's word for null as one of them."""
    named = node.get("type", [])
    kinds = [named] if isinstance(named, str) else named
    kinds = [*kinds, "null"] if kinds and node.get("nullable") is True else kinds
    return [kind for kind in dict.fromkeys(kinds) if not (kind == "integer" and "number" in kinds)]


def kinds_meant_by(node: Schema) -> list[str]:
    """Return the types that the words of a part without a type are for: a bound on the length means a text."""
    return [kind for kind, words in WORDS.items() if kind != "integer" and any(word in node for word in words)]


def merged(nodes: Iterable[Schema]) -> Schema:
    """Return one schema that asks for what all of these do. Raises `Contradiction`."""
    return reduce(_both, nodes)


def with_values_that_fit(node: Schema) -> list[Schema]:
    """Return a part for each type among the listed values, with those values that the rest of the part allows."""
    values = [value for value in node.get("enum", ()) if "const" not in node or _same(value, node["const"])]
    if "enum" not in node:
        values = [node["const"]]
    rest = {word: value for word, value in node.items() if word not in ("enum", "const", "description")}
    by_kind: dict[str, list[Any]] = {}
    for value in values:
        kept = by_kind.setdefault(_kind_of(value), [])
        if fits(rest, value) and not any(_same(value, other) for other in kept):
            kept.append(value)
    if "integer" in by_kind and "number" in by_kind:
        by_kind["number"] = [*by_kind.pop("integer"), *by_kind["number"]]
    kept_words = {word: node[word] for word in ("description",) if word in node}
    return [kept_words | _listed(kind, found, node) for kind, found in by_kind.items() if found]


def _listed(kind: str, values: list[Any], node: Schema) -> Schema:
    if kind == "null":
        return {"type": "null"}
    return {"const": values[0], "type": kind} if "const" in node else {"enum": values, "type": kind}


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else "string"


def fits(node: Any, value: Any) -> bool:
    """Return whether a schema allows a value; True where that cannot be told, since the load has the last word."""
    try:
        return json_schema.fault(node, value) is None
    except (json_schema.Endless, ValueError, TypeError, ArithmeticError):
        return True


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _says_something(word: str, value: Any) -> bool:
    """Return whether a word restricts anything: a bound that is no finite number bounds nothing.

    Raises `ValueError` for a value that no JSON schema has there.
    """
    if not isinstance(value, _VALUES.get(word, object)) or (word in _BOUNDS and isinstance(value, bool)):
        raise ValueError
    if word == "uniqueItems":
        return bool(value)
    return word not in _BOUNDS or math.isfinite(value)


def _both(one: Schema, other: Schema) -> Schema:
    one, other = _without_the_forbidden(one, other), _without_the_forbidden(other, one)
    made = {**one, **other}
    for word in one.keys() & other.keys():
        if one[word] != other[word]:
            made[word] = _MERGE.get(word, _only_one(word))(one[word], other[word])
    kind = made.get("type")
    return flat_words(made, kind) if kind else made


def _without_the_forbidden(node: Schema, other: Schema) -> Schema:
    """Return the part without the properties that the other part, if it is closed, does not have.

    Raises `Contradiction` if one of them is required.
    """
    named = node.get("properties")
    if other.get("additionalProperties") is not False or not isinstance(named, dict):
        return node
    kept = {name: child for name, child in named.items() if name in (other.get("properties") or {})}
    if set(node.get("required") or ()) & (named.keys() - kept.keys()):
        raise Contradiction
    return node | {"properties": kept}


def _type(one: str, other: str) -> str:
    if {one, other} == {"integer", "number"}:
        return "integer"
    raise Contradiction


def _properties(one: Schema, other: Schema) -> Schema:
    shared = {name: {"allOf": [one[name], other[name]]} for name in one if name in other and one[name] != other[name]}
    return {**one, **other, **shared}


def _enum(one: list[Any], other: list[Any]) -> list[Any]:
    return [value for value in one if any(_same(value, there) for there in other)]


def _const(one: Any, other: Any) -> Any:
    if not _same(one, other):
        raise Contradiction
    return one


def _multiple(one: float, other: float) -> float:
    if isinstance(one, int) and isinstance(other, int):
        return math.lcm(one, other)
    raise Contradiction("multipleOf")


def _others(one: Any, other: Any) -> Any:
    if one is False or other is False:
        return False
    return (
        {"allOf": [one, other]}
        if isinstance(one, dict) and isinstance(other, dict)
        else one
        if other is True
        else other
    )


def _only_one(word: str) -> Callable[[Any, Any], Any]:
    def refuse(one: Any, other: Any) -> Any:
        raise Contradiction(word)

    return refuse


def _first(one: Any, other: Any) -> Any:
    return one


_MERGE: dict[str, Callable[[Any, Any], Any]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "description": _first,
    "properties": _properties,
    "required": lambda one, other: list(dict.fromkeys([*one, *other])),
    "additionalProperties": _others,
    "items": lambda one, other: {"allOf": [one, other]},
    "uniqueItems": lambda one, other: bool(one or other),
    "multipleOf": _multiple,
    "pattern": _first,  # the load checks both
    "format": _first,
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}

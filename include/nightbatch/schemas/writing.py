"""Writes a plain schema, part by part; see `nightbatch.schemas.plain` for what that is."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import product
from typing import Any
from urllib.parse import unquote

from nightbatch.schemas.merging import (
    Contradiction,
    fits,
    flat_words,
    kinds_meant_by,
    kinds_of,
    merged,
    with_values_that_fit,
)
from nightbatch.schemas.words import reject

Schema = dict[str, Any]

_DEEPEST = 64
_MAX_PARTS = 20_000
_MAX_COMBINATIONS = 100
_BESIDE = {"title", "description", "default", "examples", "$comment", "$defs", "definitions", "$schema", "$id"}
# What no structured output knows, and dropping it would change what is asked for.
_UNKNOWN = ("not", "then", "else", "contains", "dependentSchemas", "patternProperties", "$dynamicRef", "$recursiveRef")
_ONLY_WITH_IF = ("then", "else")
_NOT_IN_A_NAME = re.compile(r"[^\w.-]")


class _Nothing(Exception):
    """No value fits; among several choices this one is left out."""

    def __init__(self, place: str) -> None:
        self.place = place


class PlainWriter:
    """Writes one schema; it holds what is known of the whole."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._defs: Schema = {}
        self._names: dict[str, str] = {}
        self._parts = self._depth = 0

    def write(self) -> Schema:
        """Return the schema in plain words. Raises `Rejected`, and `TypeError` or the like for what is no schema."""
        try:
            made = self._node(self._root, "$")
        except _Nothing as nothing:
            reject(nothing.place, "no value fits it")
        if not self._defs:
            return made
        order = [*self._root.get("$defs", ()), *self._root.get("definitions", ()), *self._defs]
        made["$defs"] = {name: self._defs[name] for name in order if name in self._defs}
        return _in_order_of(self._root, made)

    def _node(self, node: Any, place: str) -> Schema:
        self._depth += 1
        if self._depth > _DEEPEST:
            reject(place, f"it is nested too deep; {_DEEPEST} levels can be written")
        described = node.get("description") if isinstance(node, dict) else None
        bare = {word: value for word, value in node.items() if word != "description"} if described else node
        found = self._alternatives(bare, place, ())
        if place == "$":
            found = self._written_out(found, place, ())
        made = self._one_of(found, place)
        self._depth -= 1
        if described:
            made = made | {"description": described}
        return _in_order_of(node, made) if isinstance(node, dict) else made

    def _one_of(self, choices: Sequence[Schema], place: str) -> Schema:
        made: list[Schema] = []
        where, before = place, self._depth
        for number, choice in enumerate(choices):
            at = f"{place}.anyOf[{number}]" if len(choices) > 1 else place
            try:
                made += [one for one in self._choice(choice, at) if one not in made]
            except _Nothing as nothing:
                where, self._depth = nothing.place, before
        if not made:
            raise _Nothing(where)
        return made[0] if len(made) == 1 else {"anyOf": made}

    def _alternatives(self, node: Any, place: str, within: tuple[str, ...]) -> list[Schema]:
        """Return the choices that the schema leaves: words of one type, or a reference; ``{}`` is anything."""
        self._parts += 1
        if self._parts > _MAX_PARTS:
            reject(place, "the schema is too large when all that it refers to is written out")
        if node is True:
            return [{}]
        if node is False:
            return []
        for word in _UNKNOWN:
            if word in node and ("if" in node or word not in _ONLY_WITH_IF):
                reject(f"{place}.{word}", f"no provider's structured output knows {word}")
        groups = [self._of_own_words(node, place)]
        if "$ref" in node:
            groups.append([{"$ref": node["$ref"]}])
        groups += [self._alternatives(part, at, within) for part, at in _parts(node, "allOf", place)]
        for word in ("anyOf", "oneOf"):
            if word in node:
                branches = [self._alternatives(part, at, within) for part, at in _parts(node, word, place)]
                groups.append([choice for branch in branches for choice in branch])
        return self._all_of([group for group in groups if not any(map(_is_anything, group))], node, place, within)

    def _all_of(self, groups: list[list[Schema]], node: Schema, place: str, within: tuple[str, ...]) -> list[Schema]:
        described = {"description": node["description"]} if node.get("description") else {}
        if len(groups) < 2:
            return [described | choice for choice in (groups[0] if groups else [{}])]
        groups = [self._written_out(group, place, within) for group in groups]
        if math.prod(map(len, groups)) > _MAX_COMBINATIONS:
            reject(place, f"what is merged there has more than {_MAX_COMBINATIONS} combinations")
        made = []
        for combination in product(*groups):
            try:
                made.append(merged(combination) | described)
            except Contradiction as error:
                if error.word:
                    reject(f"{place}.{error.word}", "two of it are merged there, which cannot be written as one")
        return made

    def _written_out(self, group: list[Schema], place: str, within: tuple[str, ...]) -> list[Schema]:
        """Return the choices with each reference replaced by what it refers to."""
        made = []
        for choice in group:
            if "$ref" not in choice:
                made.append(choice)
                continue
            if choice["$ref"] in within:
                reject(place, "it refers to itself without end")
            inner = (*within, choice["$ref"])
            found = self._target(choice["$ref"], place)
            kept = {word: value for word, value in choice.items() if word != "$ref"}
            made += [one | kept for one in self._written_out(self._alternatives(found, place, inner), place, inner)]
        return made

    def _of_own_words(self, node: Schema, place: str) -> list[Schema]:
        if node.get("nullable") is True and "type" not in node:
            reject(f"{place}.nullable", 'it needs a type beside it; or write {"type": "null"} as one part of anyOf')
        own = flat_words(node)
        return [flat_words(own, kind) for kind in kinds_of(node)] or [own]

    def _choice(self, choice: Schema, place: str) -> list[Schema]:
        if "$ref" in choice:
            kept = {word: value for word, value in choice.items() if word == "description"}
            return [{"$ref": self._reference(choice["$ref"], place)} | kept]
        if "enum" in choice or "const" in choice:
            return self._values(choice, place)
        kinds = [choice["type"]] if "type" in choice else kinds_meant_by(choice)
        if not kinds:
            reject(place, "it may be anything, and structured outputs need a type; for any text use a string")
        return [self._typed(flat_words(choice | {"type": kind}, kind), place) for kind in kinds]

    def _values(self, choice: Schema, place: str) -> list[Schema]:
        if any(isinstance(value, dict | list) for value in [choice.get("const"), *(choice.get("enum") or ())]):
            reject(
                place, "an enum or const of objects or lists; only texts, numbers, true, false and null can be listed"
            )
        found = with_values_that_fit(choice)
        if not found:
            raise _Nothing(place)
        return [_in_order_of(choice, one) for one in found]

    def _typed(self, node: Schema, place: str) -> Schema:
        for low, high in (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")):
            if low in node and high in node and node[low] > node[high]:
                raise _Nothing(place)
        if node["type"] == "object":
            return _in_order_of(node, self._object(node, place))
        if node["type"] == "array":
            return _in_order_of(node, self._array(node, place))
        return node

    def _object(self, node: Schema, place: str) -> Schema:
        named, others = node.get("properties"), node.get("additionalProperties")
        if isinstance(others, dict) and not _is_anything(others):
            reject(f"{place}.additionalProperties", "a map, whose names are not known beforehand; use a list of pairs")
        if named is None and others is not False:
            reject(place, "an object without properties; name them, or use a list of pairs")
        required = node.get("required") or []
        named = {name: child for name, child in (named or {}).items() if child is not False or name in required}
        for name in required:
            if name not in named:
                reject(f"{place}.required", f"{str(name)[:40]!r} is not among the properties")
        _check_names(node, named, place)
        made = {name: self._node(child, f"{place}.properties.{name[:60]}") for name, child in named.items()}
        kept = {word: node[word] for word in ("type", "description") if word in node}
        return kept | {"properties": made, "required": list(made), "additionalProperties": False}

    def _array(self, node: Schema, place: str) -> Schema:
        items, first = node.get("items", True), node.get("prefixItems")
        kept = {word: value for word, value in node.items() if word not in ("items", "prefixItems")}
        if not first:
            if items is False:
                reject(f"{place}.items", "only an empty list fits it")
            if _is_anything(items):
                reject(f"{place}.items", "a list of anything; structured outputs need the type of its items")
            return kept | {"items": self._node(items, f"{place}.items")}
        made = [self._node(child, f"{place}.prefixItems[{number}]") for number, child in enumerate(first)]
        if items is not False and kept.get("maxItems", math.inf) > len(first):
            made.append(self._node(items, f"{place}.items"))
        else:
            kept["maxItems"] = min(kept.get("maxItems", math.inf), len(first))
        if any(one != made[0] for one in made):
            reject(f"{place}.prefixItems", "a tuple of different types; use an object with a name for each")
        return kept | {"items": made[0]}

    def _reference(self, reference: str, place: str) -> str:
        """Return the reference to a definition in the result, where every definition is written once."""
        seen: list[str] = []
        while reference not in seen:
            seen.append(reference)
            found = self._target(reference, place)
            if reference == "#" or not _is_only_a_reference(found):
                break
            reference = found["$ref"]
        else:
            reject(place, "it refers to itself without end")
        return "#" if reference == "#" else f"#/$defs/{self._defined(reference, found)}"

    def _defined(self, reference: str, found: Any) -> str:
        if reference in self._names:
            return self._names[reference]
        named = unquote(reference).removeprefix("#/$defs/").removeprefix("#/definitions/").removeprefix("#/")
        name = _NOT_IN_A_NAME.sub("_", named)
        while name in self._defs:
            name += "_"
        self._names[reference], self._defs[name] = name, {}
        try:
            self._defs[name] = self._node(found, f"$.$defs.{name[:60]}")
        except _Nothing:
            del self._defs[name], self._names[reference]
            raise
        return name

    def _target(self, reference: str, place: str) -> Any:
        """Return the schema that a reference means."""
        if reference != "#" and not reference.startswith("#/"):
            reject(f"{place}.$ref", "it refers to elsewhere; only # and what begins with #/ can be looked up")
        found: Any = self._root
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                reject(f"{place}.$ref", f"there is no {reference[:60]}")
        if not isinstance(found, dict | bool):
            reject(f"{place}.$ref", f"{reference[:60]} is no schema")
        return found


def _parts(node: Schema, word: str, place: str) -> list[tuple[Any, str]]:
    return [(part, f"{place}.{word}[{number}]") for number, part in enumerate(node.get(word, ()))]


def _is_only_a_reference(node: Any) -> bool:
    return isinstance(node, dict) and "$ref" in node and _is_anything({word: 0 for word in node if word != "$ref"})


def _is_anything(node: Any) -> bool:
    return node is True or (isinstance(node, dict) and not set(node) - _BESIDE)


def _in_order_of(node: Schema, made: Schema) -> Schema:
    """Return ``made`` with its words in the order of ``node``, so that equal requests are equal byte by byte."""
    return {word: made[word] for word in node if word in made} | made


def _check_names(node: Schema, named: Schema, place: str) -> None:
    """Raise `Rejected` where an object with all of its properties would break a rule about their number or names."""
    least, most = node.get("minProperties", 0), node.get("maxProperties", math.inf)
    if not least <= len(named) <= most:
        word = "minProperties" if len(named) < least else "maxProperties"
        reject(f"{place}.{word}", f"all of its properties are asked for, and there are {len(named)}")
    if isinstance(node.get("unevaluatedProperties"), dict):
        reject(f"{place}.unevaluatedProperties", "a map, whose names are not known beforehand; use a list of pairs")
    for name in named:
        if not fits(node.get("propertyNames", True), name):
            reject(f"{place}.propertyNames", f"the property {name[:40]!r} does not fit it")
    for name, others in (node.get("dependentRequired") or {}).items():
        if name in named and not set(others) <= set(named):
            reject(f"{place}.dependentRequired", "it asks for what is not among the properties")

"""Make a value for a JSON schema: what structured output of a well-behaved model looks like.

Understands the parts that the three providers accept (https://platform.openai.com/docs/guides/structured-outputs):
objects, arrays, strings with enum, length and format, bounded numbers, booleans, null, const, $ref, anyOf, oneOf,
allOf, and Gemini's upper-case types with `nullable`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any

from nightbatch_local.emulator.words import phrase, sentences, some_words

_DEEP = 6
_FORMATS = {
    "date": "2026-05-{day:02d}",
    "time": "{hour:02d}:{minute:02d}:00Z",
    "date-time": "2026-05-{day:02d}T{hour:02d}:{minute:02d}:00Z",
    "email": "{word}@example.com",
    "uri": "https://example.com/{word}",
    "uuid": "{hex:08x}-0000-4000-8000-{hex:012x}",
}
_NOTED_NUMBER = re.compile(r"\b(minimum|maximum|minItems|maxItems|minLength|maxLength|multipleOf): (-?\d+)\b(?!\.)")
_NOTED_ENUM = re.compile(r"\{(?:.*, )?enum: (\[.*?\])(?:, .*)?\}$")
_SHORT_FIELDS = ("name", "title", "label", "tag", "category", "topic", "keyword", "language", "theme", "item")
_FRACTION_FIELDS = ("confidence", "probability", "ratio", "relevance", "similarity")

Schema = Mapping[str, Any]


class SchemaWriter:
    """Writes one value that is valid for `schema`, in words of the prompt."""

    def __init__(self, schema: Schema, random: Random, words: Sequence[str]) -> None:
        self._root = schema
        self._random = random
        self._words = words

    def write(self) -> Any:
        """Return the value."""
        return self._value(self._root, "", 0)

    def _value(self, given: Schema, field: str, depth: int) -> Any:
        schema = self._resolved(given)
        schema = {**_described(schema), **schema}
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._random.choice(schema["enum"])
        options = schema.get("anyOf") or schema.get("oneOf")
        if options:
            return self._value(self._chosen(options, depth), field, depth)
        return self._typed(schema, self._type_of(schema, depth), field, depth)

    def _typed(self, schema: Schema, kind: str, field: str, depth: int) -> Any:
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, field, depth)
        if kind == "integer":
            return self._integer(schema)
        if kind == "number":
            return self._number(schema, field)
        if kind == "boolean":
            return self._random.random() < 0.5
        return None if kind == "null" else self._string(schema, field)

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema or "allOf" in schema:
            parts = [self._pointed_at(schema["$ref"])] if "$ref" in schema else []
            parts += [self._resolved(part) for part in schema.get("allOf", ())]
            schema = _merged([*parts, {key: schema[key] for key in schema if key not in ("$ref", "allOf")}])
        return schema

    def _pointed_at(self, pointer: str) -> Schema:
        found: Any = self._root
        for step in pointer.lstrip("#").strip("/").split("/"):
            found = found[step.replace("~1", "/").replace("~0", "~")] if step else found
        return found  # type: ignore[no-any-return]

    def _chosen(self, options: Sequence[Schema], depth: int) -> Schema:
        """Choose the empty way out deep inside a recursive schema, else any but rarely null."""
        nulls = [option for option in options if str(option.get("type", "")).lower() == "null"]
        others = [option for option in options if option not in nulls]
        if nulls and (not others or depth >= _DEEP or self._random.random() < 0.1):
            return nulls[0]
        return self._random.choice(others)

    def _type_of(self, schema: Schema, depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            return str(self._chosen([{"type": one} for one in kind], depth)["type"]).lower()
        if schema.get("nullable") and (depth >= _DEEP or self._random.random() < 0.1):
            return "null"
        if kind is None:
            return "object" if "properties" in schema else "array" if "items" in schema else "string"
        return str(kind).lower()

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties: Schema = schema.get("properties") or {}
        required = set(schema.get("required", ()))
        wanted = [name for name in properties if depth < _DEEP or name in required]
        value = {name: self._value(properties[name], name, depth + 1) for name in wanted}
        extra = schema.get("additionalProperties")
        if not properties and isinstance(extra, Mapping):
            count = max(2, int(schema.get("minProperties", 0)))
            value = {word: self._value(extra, word, depth + 1) for word in self._distinct_words(count)}
        return value

    def _distinct_words(self, count: int) -> list[str]:
        return [f"{word}_{index}" for index, word in enumerate(some_words(self._random, self._words, count))]

    def _array(self, schema: Schema, field: str, depth: int) -> list[Any]:
        least = int(schema.get("minItems", 0))
        most = int(schema.get("maxItems", max(least, 4)))
        count = least if depth >= _DEEP else self._random.randint(max(least, min(2, most)), min(most, least + 4))
        prefix = schema.get("prefixItems", ())
        items = [self._value(part, field, depth + 1) for part in prefix]
        rest = range(max(0, count - len(items))) if schema.get("items") or not prefix else range(0)
        items += [self._value(schema.get("items") or {}, field.removesuffix("s"), depth + 1) for _ in rest]
        return _without_repeats(items) if schema.get("uniqueItems") else items

    def _integer(self, schema: Schema) -> int:
        low, high = _bounds(schema, 0, 100)
        step = int(schema.get("multipleOf", 1)) or 1
        first, last = math.ceil(low / step), math.floor(high / step)
        if "exclusiveMinimum" in schema and first * step <= schema["exclusiveMinimum"]:
            first += 1
        if "exclusiveMaximum" in schema and last * step >= schema["exclusiveMaximum"]:
            last -= 1
        return self._random.randint(first, max(first, last)) * step

    def _number(self, schema: Schema, field: str) -> float:
        low, high = _bounds(schema, 0, 1 if field in _FRACTION_FIELDS else 100)
        inside = low + (high - low) * (0.05 + 0.9 * self._random.random())
        rounded = round(inside, 2)
        return rounded if low < rounded < high else inside

    def _string(self, schema: Schema, field: str) -> str:
        pattern = _FORMATS.get(schema.get("format", ""))
        if pattern:
            draw = self._random.randint
            word = some_words(self._random, (), 1)[0]
            return pattern.format(day=draw(1, 28), hour=draw(0, 23), minute=draw(0, 59), word=word, hex=draw(1, 2**31))
        most = schema.get("maxLength")
        short = field.endswith(_SHORT_FIELDS) or (most is not None and most < 60)
        text = phrase(self._random, self._words, 3) if short else sentences(self._random, self._words, 2)
        while len(text) < schema.get("minLength", 0):
            text += " " + sentences(self._random, self._words, 1)
        return text if most is None else text[:most].strip().ljust(schema.get("minLength", 0), ".")


def _merged(parts: Sequence[Schema]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in parts:
        both: dict[str, Any] = {
            key: {**merged[key], **part[key]} for key in ("properties", "$defs") if key in merged and key in part
        }
        required = [*merged.get("required", ()), *part.get("required", ())]
        merged = {**merged, **part, **both, **({"required": required} if required else {})}
    return merged


def _described(schema: Schema) -> Schema:
    """Return the keywords that stand in the description, like `{minimum: 1, enum: ["a"]}`, since a provider does not take them.

    A model reads them.
    """
    text = str(schema.get("description", ""))
    if "{" not in text:
        return {}
    found: dict[str, Any] = {name: int(number) for name, number in _NOTED_NUMBER.findall(text)}
    if listed := _NOTED_ENUM.search(text):
        with suppress(ValueError):
            found["enum"] = json.loads(listed[1])
    return found


def _bounds(schema: Schema, low: float, high: float) -> tuple[float, float]:
    lowest = schema.get("minimum", schema.get("exclusiveMinimum"))
    highest = schema.get("maximum", schema.get("exclusiveMaximum"))
    low = lowest if lowest is not None else min(low, highest) if highest is not None else low
    return low, highest if highest is not None else max(
        high, low + 100 if lowest is not None and lowest > high else high
    )


def _without_repeats(items: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept

"""A JSON schema in Gemini's OpenAPI subset.

How deep and how large one may be is not published ("too many states for serving"); what is here keeps far from mere accidents.
https://ai.google.dev/api/caching#Schema
"""

from __future__ import annotations

from itertools import count
from typing import Any

from nightbatch.schemas.plain import holds_itself, looks_around, plain_schema, remembered, with_notes
from nightbatch.schemas.words import reject

_DEEPEST = 32
_MAX_PARTS = 5000
_KEPT = ("description", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "pattern", "required")
_NOTED = ("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "uniqueItems")


@remembered
def gemini_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema in Gemini's words. Raises `Rejected` with the place and the reason for what it cannot say.

    References are written out, null is ``nullable``. Words that Gemini does not take (multipleOf, most formats, lists of
    numbers) go into the description.
    """
    plain = plain_schema(schema)
    if place := holds_itself(plain):
        reject(place, "it holds itself, which Gemini cannot take")
    return _Writer(plain.get("$defs", {})).node(plain, "$", 0)


class _Writer:
    """Writes a schema and counts its parts: definitions that name each other twice come to billions."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions
        self._parts = count(1)

    def node(self, node: dict[str, Any], place: str, depth: int) -> dict[str, Any]:
        if next(self._parts) > _MAX_PARTS or depth > _DEEPEST:
            reject(
                place, f"written out, it has more than {_MAX_PARTS:,} parts or {_DEEPEST} levels, too much for Gemini"
            )
        if "$ref" in node:
            target = self._definitions[node["$ref"].removeprefix("#/$defs/")]
            kept = {"description": node["description"]} if "description" in node else {}
            return self.node(target | kept, place, depth)
        if "anyOf" in node:
            return self._choice(node, place, depth)
        made = _leaf(node)
        if "properties" in node:
            if not node["properties"]:
                reject(place, "an object without properties, which Gemini cannot take")
            named = node["properties"].items()
            made["properties"] = {name: self.node(one, f"{place}.{name[:60]}", depth + 1) for name, one in named}
            made["propertyOrdering"] = list(node["properties"])
        if "items" in node:
            made["items"] = self.node(node["items"], f"{place}[]", depth + 1)
        return made

    def _choice(self, node: dict[str, Any], place: str, depth: int) -> dict[str, Any]:
        given = [child for child in node["anyOf"] if child != {"type": "null"}]
        described = {"description": node["description"]} if "description" in node else {}
        nullable = {"nullable": True} if len(given) < len(node["anyOf"]) else {}
        if len(given) > 1:
            return {"anyOf": [self.node(child, place, depth) for child in given]} | described | nullable
        made = self.node(given[0] | described, place, depth)
        last = {"description": made.pop("description")} if described else {}
        return made | last | nullable


def _leaf(node: dict[str, Any]) -> dict[str, Any]:
    made = {word: node[word] for word in _KEPT if word in node} | {"type": node["type"]}
    notes = {word: node[word] for word in _NOTED if word in node}
    if looks_around(made.get("pattern", "")):
        notes["pattern"] = made.pop("pattern")
    values = [node["const"]] if "const" in node else node.get("enum")
    if values and node["type"] == "string" and "" not in values:
        made |= {"format": "enum", "enum": values}
    elif values:  # "only allowed for STRING type", and none of them may be empty
        notes["enum"] = values
        if node["type"] in ("integer", "number"):
            made |= {"minimum": min(values), "maximum": max(values)}
    if node.get("format") == "date-time":
        made["format"] = "date-time"
    elif "format" in node:
        notes["format"] = node["format"]
    return with_notes(_with_whole_bounds(made, node, notes), notes)


def _with_whole_bounds(made: dict[str, Any], node: dict[str, Any], notes: dict[str, Any]) -> dict[str, Any]:
    """Return the part with exclusive bounds as inclusive ones: exact for whole numbers, wider for others."""
    step = 1 if node["type"] == "integer" else 0
    for word, exclusive, pick, by in (
        ("minimum", "exclusiveMinimum", max, step),
        ("maximum", "exclusiveMaximum", min, -step),
    ):
        if exclusive not in node:
            continue
        bound = node[exclusive] + by if isinstance(node[exclusive], int) else node[exclusive]
        made[word] = pick(bound, made[word]) if word in made else bound
        if step and isinstance(node[exclusive], int):
            del notes[exclusive]
    return made

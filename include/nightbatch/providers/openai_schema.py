"""A JSON schema as OpenAI's strict mode takes it.

https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from __future__ import annotations

from typing import Any

from nightbatch.schemas.plain import children, looks_around, parts, place_of, plain_schema, remembered, with_notes
from nightbatch.schemas.words import reject

_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_MAX_LEVELS = 10
_MAX_PROPERTIES = 5000
_MAX_LETTERS = 120_000  # of the names of properties and definitions, and of listed values
_MAX_VALUES = 1000  # listed in all
_MANY_VALUES, _LETTERS_OF_MANY = 250, 15_000


@remembered
def openai_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema for strict mode. Raises `Rejected` with the place and the reason for what it cannot say.

    Words that are not taken (lengths of texts, other formats) go into the description.
    """
    plain = plain_schema(schema)
    if "anyOf" in plain:
        reject("$", "OpenAI takes no choice between schemas (anyOf) for the whole answer; put it into a property")
    if plain["type"] != "object":
        reject("$", "OpenAI wants an object for the whole answer; put what it is into a property")
    _require_an_end(plain)
    written = _written(plain)
    if "$defs" in plain:
        written["$defs"] = {name: _written(node) for name, node in plain["$defs"].items()}
    _require_size(written)
    return written


def _written(node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:  # nothing may stand beside it
        return {"anyOf": [{"$ref": node["$ref"]}], "description": node["description"]} if len(node) > 1 else node
    notes = {word: value for word, value in node.items() if _is_refused(word, value)}
    made = with_notes({word: value for word, value in node.items() if word not in notes}, notes)
    if "properties" in node:
        made["properties"] = {name: _written(child) for name, child in node["properties"].items()}
    if "items" in node:
        made["items"] = _written(node["items"])
    if "anyOf" in node:
        made["anyOf"] = [_written(child) for child in node["anyOf"]]
    return made


def _is_refused(word: str, value: Any) -> bool:
    if word == "format":
        return value not in _FORMATS
    if word == "pattern":
        return looks_around(value)
    return word in ("minLength", "maxLength", "uniqueItems")


def _require_an_end(plain: dict[str, Any]) -> None:
    """Raise `Rejected` for a schema that holds itself so that no answer could end."""
    nodes = {"#": plain} | {f"#/$defs/{name}": node for name, node in plain.get("$defs", {}).items()}
    ending: set[str] = set()
    while found := {name for name, node in nodes.items() if name not in ending and _ends(node, ending)}:
        ending |= found
    for name in nodes:
        if name not in ending:
            reject(place_of(name), "it always holds itself, so that no answer ends; let that part be null or a list")


def _ends(node: dict[str, Any], ending: set[str]) -> bool:
    if "$ref" in node:
        return node["$ref"] in ending
    if "anyOf" in node:
        return any(_ends(child, ending) for child in node["anyOf"])
    if "items" in node and not node.get("minItems"):
        return True
    return all(_ends(child, ending) for child in children(node))


def _require_size(written: dict[str, Any]) -> None:
    whole = [("$", written)] + [(f"$.$defs.{name[:60]}", node) for name, node in written.get("$defs", {}).items()]
    for place, node in whole:
        if (levels := _levels(node)) > _MAX_LEVELS:
            reject(place, f"{levels} objects stand in each other there; OpenAI takes {_MAX_LEVELS} levels")
    nodes = list(parts(written))
    names = [name for node in nodes for name in node.get("properties", ())]
    values = [[node["const"]] if "const" in node else node.get("enum", []) for node in nodes]
    letters = sum(map(len, [*names, *written.get("$defs", ())])) + sum(map(_letters, values))
    for found, most, of_what in (
        (len(names), _MAX_PROPERTIES, "properties"),
        (sum(map(len, values)), _MAX_VALUES, "values in enums"),
        (letters, _MAX_LETTERS, "letters in names of properties and definitions and in values of enums"),
    ):
        if found > most:
            reject("$", f"it has {found:,} {of_what}; OpenAI takes {most:,}")
    if any(len(listed) > _MANY_VALUES and _letters(listed) > _LETTERS_OF_MANY for listed in values):
        reject("$", f"an enum of more than {_MANY_VALUES} values has more than {_LETTERS_OF_MANY:,} letters")


def _levels(node: dict[str, Any]) -> int:
    """Return how many objects stand in each other; definitions are counted by themselves."""
    inside = max(map(_levels, children(node)), default=0)
    return inside + 1 if "properties" in node else inside


def _letters(values: list[Any]) -> int:
    return sum(len(value) for value in values if isinstance(value, str))

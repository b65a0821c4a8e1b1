"""A JSON schema in the few words that all structured outputs have in common: the first half of every provider's translation.

In the result every part is one of three: ``$ref`` to one of ``$defs`` (or ``#``), ``anyOf``, or one ``type`` with what belongs to
it; a ``description`` may stand beside. Objects name their properties, ask for all of them and allow no others. Merged parts
(allOf, a ``$ref`` or anyOf with words beside) are written out. The set of accepted values stays the same, but for these:
oneOf becomes anyOf, and of two patterns or formats for one text one is kept. The load checks answers against the original.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator, FormatChecker, SchemaError

from nightbatch.core.errors import Rejected
from nightbatch.schemas.words import reject
from nightbatch.schemas.writing import PlainWriter

Schema = dict[str, Any]

_LOOKS_AROUND = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?(?:=|!|<=|<!)|\\[1-9])")


def remembered(translate: Callable[[Schema], Schema]) -> Callable[[Schema], Schema]:
    """Return ``translate`` with a memory of results and rejections: the jobs of a night share a few schemas.

    What it returns is shared: it is to be read only.
    """

    @lru_cache(maxsize=256)
    def done(text: bytes) -> Schema | str:
        try:
            return translate(orjson.loads(text))
        except Rejected as error:
            return str(error)

    def translated(schema: Schema) -> Schema:
        try:
            made = done(orjson.dumps(schema))
        except orjson.JSONEncodeError:
            reject("$", "it is nested too deep, or holds what JSON cannot: half a character, or more than 64 bits")
        if isinstance(made, str):
            raise Rejected(made)
        return made

    return translated


def plain_schema(schema: Schema) -> Schema:
    """Return the schema in plain words. Raises `Rejected` with the place and the reason for what cannot be said in them."""
    try:
        return PlainWriter(schema).write()
    except RecursionError:
        reject("$", "it is nested too deep")
    except (TypeError, AttributeError, KeyError, ValueError):  # checked afterwards, since a check takes long
        reject(_fault(schema), "what stands there is no JSON schema")


def _fault(schema: Schema) -> str:
    try:
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
    except SchemaError as error:
        return error.json_path
    return "$"


def with_notes(node: Schema, notes: Schema) -> Schema:
    """Return the part with the ``notes``, words that a provider does not take, in its description, as Anthropic's SDK does."""
    if not notes:
        return node
    told = ", ".join(f"{word}: {_in_json(value)}" for word, value in notes.items())
    before = f"{node['description']}\n\n" if node.get("description") else ""
    return node | {"description": f"{before}{{{told}}}"}


def looks_around(pattern: str) -> bool:
    """Return whether a pattern looks ahead, behind or back, which no provider's engine does."""
    return _LOOKS_AROUND.search(pattern) is not None


def parts(plain: Schema) -> Iterator[Schema]:
    """Yield every part of a plain schema, its definitions too."""
    yield plain
    for child in [*plain.get("$defs", {}).values(), *children(plain)]:
        yield from parts(child)


def children(node: Schema) -> list[Schema]:
    """Return the parts that stand directly in a part of a plain schema, its definitions aside."""
    items = [node["items"]] if "items" in node else []
    return [*node.get("properties", {}).values(), *node.get("anyOf", ()), *items]


def holds_itself(plain: Schema) -> str | None:
    """Return the place of a definition that holds itself, also by way of others; None without any."""
    uses = {
        name: {part["$ref"] for part in parts(node) if "$ref" in part} for name, node in _definitions(plain).items()
    }
    reached = {name: set(names) for name, names in uses.items()}
    for _ in uses:
        for name in reached:
            reached[name] |= {far for near in reached[name] for far in uses.get(near, ())}
    return next((place_of(name) for name, names in reached.items() if name in names), None)


def place_of(reference: str) -> str:
    """Return a reference as a JSON path: ``#/$defs/Node`` becomes ``$.$defs.Node``."""
    return reference.replace("#", "$").replace("/", ".")


def _definitions(plain: Schema) -> Schema:
    root = {word: value for word, value in plain.items() if word != "$defs"}
    return {"#": root} | {f"#/$defs/{name}": node for name, node in plain.get("$defs", {}).items()}


def _in_json(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()

"""The words under which other schemas stand in a JSON schema: everything else in it is data, whatever it looks like.

https://json-schema.org/draft/2020-12/json-schema-core#name-keywords-for-applying-subsch
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from nightbatch.core.errors import Rejected

ONE = (
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)
MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")


def reject(place: str, reason: str) -> NoReturn:
    """Raise `Rejected` for the part of the schema at ``place``."""
    raise Rejected(f"schema: {place}: {reason}")


def changed(node: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a copy of one schema in which ``change`` was applied to each schema that stands in it directly."""
    made = dict(node)
    for word, value in node.items():
        if word in NAMED and isinstance(value, dict):
            made[word] = {name: change(child) for name, child in value.items()}
        elif word in MANY and isinstance(value, list):
            made[word] = [change(child) for child in value]
        elif word in ONE and isinstance(value, dict):
            made[word] = change(value)
    return made


def every(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all schemas that stand in it."""
    if not isinstance(schema, dict):
        return
    yield schema
    for word, value in schema.items():
        if word in NAMED and isinstance(value, dict):
            for child in value.values():
                yield from every(child)
        elif word in MANY and isinstance(value, list):
            for child in value:
                yield from every(child)
        elif word in ONE:
            yield from every(value)


def strict(schema: Any) -> Any:
    """Return the schema with every property required and no others allowed; titles and defaults are left out.

    Values (of enum, const, examples) stay as they are, and a property may have any name. What merges schemas (allOf) is left
    open here: what its parts allow together is known once they are merged.
    """
    close = not any("allOf" in node for node in every(schema))
    return _strict(schema, close)


def _strict(node: Any, close: bool) -> Any:
    if not isinstance(node, dict):
        return node
    kept = {word: value for word, value in node.items() if word not in ("title", "default")}
    properties = kept.pop("properties", None)
    made = changed(kept, lambda child: _strict(child, close))
    if not isinstance(properties, dict):
        return made if properties is None else made | {"properties": properties}
    made["properties"] = {name: _strict(child, close) for name, child in properties.items()}
    if close:
        made["required"] = _all_names(properties, node.get("required"))
        if made.get("additionalProperties") in (None, True, {}):
            made["additionalProperties"] = False
    return made


def _all_names(properties: dict[str, Any], required: Any) -> list[str]:
    """Return the names of all properties that can be there, then those that are required without being described."""
    others = [name for name in required if name not in properties] if isinstance(required, list) else []
    return [name for name, child in properties.items() if child is not False] + others

"""A JSON schema as Anthropic takes it.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from __future__ import annotations

from typing import Any

import anthropic

from nightbatch.schemas.plain import children, holds_itself, parts, plain_schema, remembered
from nightbatch.schemas.words import reject

_MAX_CHOICES = 16  # parameters of several types: json-schema-limitations in the document above


@remembered
def anthropic_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema in Anthropic's words. Raises `Rejected` with the place and the reason for what it cannot say.

    The SDK moves the words that are refused (minimum, maxLength, ...) into descriptions.
    """
    plain = plain_schema(schema)
    if place := holds_itself(plain):
        reject(place, "it holds itself, which Anthropic cannot take")
    definitions = plain.get("$defs", {})
    made = _described(plain, definitions)
    if definitions:
        made["$defs"] = {name: _described(node, definitions) for name, node in definitions.items()}
    choices = sum("anyOf" in node for node in parts(made))
    if choices > _MAX_CHOICES:
        reject("$", f"{choices} of its parts are choices (anyOf, or may be null); Anthropic takes {_MAX_CHOICES}")
    return anthropic.transform_schema(made)


def _described(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the part with the definition in place of each reference that has a description, which the SDK would leave out."""
    if "$ref" in node and "description" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        return _described(target | {"description": node["description"]}, definitions)
    if not children(node):
        return node
    made = dict(node)
    if "properties" in node:
        made["properties"] = {name: _described(child, definitions) for name, child in node["properties"].items()}
    if "items" in node:
        made["items"] = _described(node["items"], definitions)
    if "anyOf" in node:
        made["anyOf"] = [_described(child, definitions) for child in node["anyOf"]]
    return made

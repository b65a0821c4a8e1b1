"""Schemas that the providers refuse, by their documents and by the words that users report: one refusal for each rule."""

from __future__ import annotations

from typing import Any

import pytest

from nightbatch_local.emulator.anthropic.bodies import answer as ask_anthropic
from nightbatch_local.emulator.errors import ApiError
from nightbatch_local.emulator.gemini.bodies import generate
from nightbatch_local.emulator.openai.bodies import answer as ask_openai

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}


def an_object(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def openai(schema: Schema, *, strict: bool = True) -> None:
    wanted = {"type": "json_schema", "name": "score", "strict": strict, "schema": schema}
    body = {"model": "gpt-6-luna", "input": "x", "text": {"format": wanted}}
    ask_openai("/v1/responses", body, seed=1, at=1)


def anthropic(schema: Schema) -> None:
    wanted = {"format": {"type": "json_schema", "schema": schema}}
    turns = [{"role": "user", "content": "x"}]
    body = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": turns, "output_config": wanted}
    ask_anthropic(body, seed=1, tier="batch")


def gemini(schema: Schema) -> None:
    body = {"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"responseSchema": schema}}
    generate("gemini-3.5-flash-lite", body, seed=1, find=lambda _: None)


DEEP = TEXT
for _ in range(11):
    DEEP = an_object(a=DEEP)
NODE = {"$ref": "#/$defs/Node"}
TREE = an_object(root=NODE) | {"$defs": {"Node": an_object(below={"type": "array", "items": NODE})}}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "array", "items": TEXT}, "'type: \"object\"'"),
        ({**an_object(a=TEXT), "anyOf": [an_object(a=TEXT)]}, "'anyOf' is not permitted at the root"),
        (an_object(a={"oneOf": [TEXT]}), "'oneOf' is not permitted"),
        (an_object(a={"allOf": [TEXT]}), "In context=('properties', 'a'), 'allOf' is not permitted"),
        (an_object(a={"type": "array", "items": TEXT, "uniqueItems": True}), "'uniqueItems' is not permitted"),
        (an_object(a={"$ref": "#/$defs/A", "description": "d"}) | {"$defs": {"A": TEXT}}, "$ref cannot have keywords"),
        (an_object(a={"$ref": "#/properties/b"}, b=TEXT), "cannot be resolved"),
        (an_object(a={}), "schema must have a 'type' key"),
        (an_object(a={"type": "object", "additionalProperties": TEXT}), "'additionalProperties' is required"),
        ({**an_object(a=TEXT), "required": []}, "Missing 'a'"),
        (an_object(a={"type": "string", "format": "uri"}), "'uri' is not a valid format"),
        (an_object(a={"type": "string", "maxLength": 3}), "'maxLength' is not permitted"),
        (an_object(a={"enum": [{"title": "x"}]}), "enum must hold"),
        (an_object(a={"type": "string", "enum": [str(n) for n in range(1001)]}), "at most 1000 enum values"),
        (an_object(a={"type": "string", "enum": ["x" * 80 + str(n) for n in range(251)]}), "at most 15000 characters"),
        (an_object(**{"x" * 60_001 + str(n): TEXT for n in range(2)}), "at most 120000 characters"),
        (an_object(**{str(n): TEXT for n in range(5001)}), "exceeds limit of 5000"),
        (DEEP, "11 levels of nesting exceeds limit of 10"),
    ],
)
def test_openai_refuses(schema: Schema, reason: str) -> None:
    with pytest.raises(ApiError) as refused:
        openai(schema)
    assert (refused.value.status, refused.value.param) == (400, "text.format.schema")
    assert "Invalid schema for response_format 'score'" in refused.value.message and reason in refused.value.message
    openai(schema, strict=False)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (TREE, "Recursive schemas are not supported"),
        (an_object(a={"$ref": "https://example.com/x"}), "External or unresolvable $ref"),
        (an_object(a={"type": "integer", "maximum": 9}), "For 'integer' type, properties maximum are not supported"),
        (an_object(a={"type": "string", "minLength": 9}), "For 'string' type, properties minLength"),
        (an_object(a={"type": "array", "items": TEXT, "minItems": 2}), "'minItems' values other than 0 or 1"),
        (an_object(a={"type": "array", "items": TEXT, "maxItems": 2}), "For 'array' type, properties maxItems"),
        ({"type": "object", "properties": {"a": TEXT}}, "'additionalProperties' must be explicitly set to false"),
        (an_object(a={}), "Schema must have a 'type'"),
        (an_object(a={"enum": [{"x": 1}]}), "Enum and const must hold"),
        (an_object(a={"oneOf": [TEXT]}), "Schema must have"),
        (an_object(**{f"p{n}": {"anyOf": [TEXT, {"type": "null"}]} for n in range(17)}), "limit: 16"),
        ({**an_object(**{f"p{n}": TEXT for n in range(25)}), "required": []}, "limit: 24"),
    ],
)
def test_anthropic_refuses(schema: Schema, reason: str) -> None:
    with pytest.raises(ApiError) as refused:
        anthropic(schema)
    assert refused.value.status == 400
    assert refused.value.message.startswith("output_config.format.schema: ") and reason in refused.value.message


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "object"}, 'properties["a"].properties: should be non-empty for OBJECT type'),
        ({"type": "array"}, "items: missing field"),
        ({}, 'response_schema.properties["a"].type: must be specified'),
        ({"type": "integer", "enum": ["1"]}, "enum: only allowed for STRING type"),
        ({"type": "string", "enum": [""]}, "enum[0]: cannot be empty"),
        ({"type": "string", "format": "uri"}, "format: only 'enum' and 'date-time' are supported"),
        ({"type": "string", "required": ["b"]}, "required: only allowed for OBJECT type"),
        ({"type": "object", "properties": {"b": TEXT}, "required": ["c"]}, "property 'c' is not defined"),
        ({"$ref": "#/$defs/A"}, 'Unknown name "$ref"'),
        ({"type": "object", "properties": {"b": TEXT}, "additionalProperties": False}, 'Unknown name "additionalProp'),
        ({"type": "string", "const": "x"}, 'Unknown name "const"'),
    ],
)
def test_gemini_refuses(part: Schema, reason: str) -> None:
    with pytest.raises(ApiError) as refused:
        gemini({"type": "object", "properties": {"a": part}})
    assert refused.value.status == 400 and reason in refused.value.message


def test_what_the_documents_show_is_taken() -> None:
    openai(TREE)
    openai(an_object(unit={"type": ["string", "null"], "enum": ["F", "C"]}, size={"type": "number", "minimum": 1}))
    anthropic(an_object(a={"type": "string", "format": "uri"}, b={"anyOf": [TEXT, {"type": "null"}]}))
    gemini({"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}, "property_ordering": ["a"]})


def test_the_schemas_of_strict_tools_are_looked_at_too() -> None:
    tool = {"type": "function", "name": "score", "strict": True, "parameters": an_object(a={"oneOf": [TEXT]})}
    with pytest.raises(ApiError, match="Invalid schema for function 'score'"):
        ask_openai("/v1/responses", {"model": "gpt-6-luna", "input": "x", "tools": [tool]}, seed=1, at=1)
    claude = {"name": "score", "strict": True, "input_schema": an_object(a={"type": "integer", "minimum": 1})}
    asked = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(ApiError, match=r"tools\.0\.custom\.input_schema"):
        ask_anthropic(asked | {"tools": [claude]}, seed=1, tier="batch")
    function = {"functionDeclarations": [{"name": "score", "parameters": an_object(a=TEXT)}]}
    with pytest.raises(ApiError, match=r"function_declarations\[0\]\.parameters"):
        generate(
            "gemini-3.5-flash-lite",
            {"contents": [{"parts": [{"text": "x"}]}], "tools": [function]},
            seed=1,
            find=lambda _: None,
        )

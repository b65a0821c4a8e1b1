"""Schemas in each provider's words; what one cannot say is rejected with the place and the reason, and nothing else is raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nightbatch.core.errors import Rejected
from nightbatch.providers.anthropic_schema import anthropic_schema
from nightbatch.providers.gemini_schema import gemini_schema
from nightbatch.providers.openai_schema import openai_schema
from nightbatch.schemas.words import strict

Schema = dict[str, Any]
Translate = Callable[[Schema], Schema]
ALL: list[Translate] = [openai_schema, anthropic_schema, gemini_schema]
TEXT: Schema = {"type": "string"}
NODE: Schema = {"type": "object", "properties": {"below": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}}


def an_object(part: Any, **more: Any) -> Schema:
    return {"type": "object", "properties": {"a": part}, **more}


def deep(levels: int) -> Schema:
    return an_object(deep(levels - 1)) if levels else TEXT


def test_strict_leaves_data_and_names_as_they_are() -> None:
    values = [{"title": "x", "default": 1, "properties": {"title": 2}}]
    named = {
        "title": {"type": "string", "title": "T", "default": "d"},
        "enum": TEXT,
        "default": {"const": {"title": 1}},
    }
    schema = {"title": "T", "type": "object", "properties": {"properties": an_object({"enum": values}), **named}}
    assert strict(schema) == {
        "type": "object",
        "properties": {
            "properties": an_object({"enum": values}, required=["a"], additionalProperties=False),
            "title": TEXT,
            "enum": TEXT,
            "default": {"const": {"title": 1}},
        },
        "required": ["properties", "title", "enum", "default"],
        "additionalProperties": False,
    }
    assert schema["title"] == "T" and named["title"]["default"] == "d"


@pytest.mark.parametrize(
    ("part", "openai", "anthropic", "gemini"),
    [
        ({"type": ["string", "null"]},
         {"anyOf": [TEXT, {"type": "null"}]}, {"anyOf": [TEXT, {"type": "null"}]}, {**TEXT, "nullable": True}),
        ({"type": "string", "nullable": True},
         {"anyOf": [TEXT, {"type": "null"}]}, {"anyOf": [TEXT, {"type": "null"}]}, {**TEXT, "nullable": True}),
        ({"enum": ["S", "M"]},
         {"enum": ["S", "M"], **TEXT}, {"enum": ["S", "M"]}, {**TEXT, "format": "enum", "enum": ["S", "M"]}),
        ({"const": 1}, {"const": 1, "type": "integer"}, {"const": 1},
         {"type": "integer", "minimum": 1, "maximum": 1, "description": "{enum: [1]}"}),
        ({"allOf": [{**TEXT, "description": "d"}, {"maxLength": 5}]}, {**TEXT, "description": "d\n\n{maxLength: 5}"},
         {**TEXT, "description": "d\n\n{maxLength: 5}"}, {**TEXT, "description": "d", "maxLength": 5}),
        ({"oneOf": [TEXT, {"type": "boolean"}], "discriminator": {"propertyName": "kind"}},
         {"anyOf": [TEXT, {"type": "boolean"}]}, {"anyOf": [TEXT, {"type": "boolean"}]},
         {"anyOf": [TEXT, {"type": "boolean"}]}),
        ({"type": "array", "prefixItems": [TEXT, TEXT], "minItems": 2, "maxItems": 2},
         {"type": "array", "minItems": 2, "maxItems": 2, "items": TEXT},
         {"type": "array", "items": TEXT, "description": "{maxItems: 2, minItems: 2}"},
         {"type": "array", "minItems": 2, "maxItems": 2, "items": TEXT}),
        ({"type": "integer", "exclusiveMinimum": 0, "multipleOf": 3},
         {"type": "integer", "exclusiveMinimum": 0, "multipleOf": 3},
         {"type": "integer", "description": "{exclusiveMinimum: 0, multipleOf: 3}"},
         {"type": "integer", "minimum": 1, "description": "{multipleOf: 3}"}),
        ({**TEXT, "format": "uri"}, {**TEXT, "description": "{format: uri}"}, {**TEXT, "format": "uri"},
         {**TEXT, "description": "{format: uri}"}),
        ({"type": "array", "items": TEXT, "uniqueItems": True},
         {"type": "array", "items": TEXT, "description": "{uniqueItems: true}"},
         {"type": "array", "items": TEXT, "description": "{uniqueItems: True}"},
         {"type": "array", "items": TEXT, "description": "{uniqueItems: true}"}),
        ({"allOf": [{"$ref": "#/$defs/B"}], "description": "d"},
         {"anyOf": [{"$ref": "#/$defs/B"}], "description": "d"},
         {**TEXT, "description": "d"}, {**TEXT, "description": "d"}),
        ({"$ref": "#/$defs/B", "description": "d"}, {"anyOf": [{"$ref": "#/$defs/B"}], "description": "d"},
         {**TEXT, "description": "d"}, {**TEXT, "description": "d"}),
    ],
)  # fmt: skip
def test_what_a_provider_does_not_know_is_said_in_its_words(
    part: Schema, openai: Schema, anthropic: Schema, gemini: Schema
) -> None:
    schema = strict(an_object(part, **{"$defs": {"B": TEXT}}))
    assert [translate(schema)["properties"]["a"] for translate in ALL] == [openai, anthropic, gemini]


@pytest.mark.parametrize("translate", ALL)
def test_merged_objects_ask_for_the_properties_of_all(translate: Translate) -> None:
    base = an_object(TEXT, title="Base")
    more = {"type": "object", "properties": {"b": TEXT}}
    merged = an_object({"allOf": [{"$ref": "#/$defs/Base"}, more]}, **{"$defs": {"Base": base}})
    made = translate(strict(merged))["properties"]["a"]
    assert [*made["properties"]] == made["required"] == ["a", "b"]


def test_a_schema_may_hold_itself_at_openai() -> None:
    schema = {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}
    closed = {**NODE, "required": ["below"], "additionalProperties": False}
    assert openai_schema(strict(schema)) == {**closed, "$defs": {"Node": closed}}
    for translate, who in ((anthropic_schema, "Anthropic"), (gemini_schema, "Gemini")):
        with pytest.raises(Rejected, match=rf"^schema: \$\.\$defs\.Node: it holds itself, which {who} cannot take$"):
            translate(strict(schema))


@pytest.mark.parametrize("translate", ALL)
@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (an_object({}), "$.properties.a: it may be anything"),
        (an_object(True), "$.properties.a: it may be anything"),
        (an_object({"type": "object"}), "$.properties.a: an object without properties"),
        (an_object({"type": "array"}), "$.properties.a.items: a list of anything"),
        (an_object({"type": "object", "additionalProperties": TEXT}), "$.properties.a.additionalProperties: a map"),
        (an_object({**an_object(TEXT), "additionalProperties": TEXT}), "$.properties.a.additionalProperties: a map"),
        (an_object({"type": "array", "prefixItems": [TEXT, {"type": "null"}], "items": False}), "a tuple of different"),
        (an_object({**TEXT, "not": {"const": "x"}}), "$.properties.a.not: no provider's structured output knows not"),
        (an_object(TEXT, **{"if": {"required": ["a"]}, "then": {"required": ["b"]}}), "$.then: no provider's"),
        (an_object({"type": "object", "patternProperties": {"^a": TEXT}}), "$.properties.a.patternProperties"),
        (an_object({"$dynamicRef": "#x"}), "$.properties.a.$dynamicRef"),
        (an_object({"$ref": "https://example.com/x"}), "$.properties.a.$ref: it refers to elsewhere"),
        (an_object({"$ref": "#/$defs/X"}), "$.properties.a.$ref: there is no #/$defs/X"),
        (
            an_object({"$ref": "#/$defs/X"}, **{"$defs": {"X": {"$ref": "#/$defs/X"}}}),
            "it refers to itself without end",
        ),
        (an_object({"enum": [{"title": "x"}]}), "$.properties.a: an enum or const of objects or lists"),
        (an_object({"enum": []}), "$.properties.a: no value fits it"),
        (an_object({"allOf": [TEXT, {"type": "integer"}]}), "$.properties.a: no value fits it"),
        (an_object(TEXT, required=["a", "b"]), "$.required: 'b' is not among the properties"),
        (an_object({"type": "text"}), "$.properties.a.type: what stands there is no JSON schema"),
        (an_object({**TEXT, "maxLength": "5"}), "$.properties.a.maxLength: what stands there is no JSON schema"),
        (an_object({"type": "object", "properties": [TEXT]}), "what stands there is no JSON schema"),
        (deep(200), "nested too deep"),
    ],
)
def test_what_cannot_be_said_is_rejected_with_the_place(translate: Translate, schema: Schema, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        translate(strict(schema))
    assert str(caught.value).startswith("schema: $") and reason in str(caught.value)


@pytest.mark.parametrize(
    ("translate", "schema", "reason"),
    [
        (
            openai_schema,
            {"type": "object", "anyOf": [an_object(TEXT), {"properties": {"b": TEXT}}]},
            "$: OpenAI takes no",
        ),
        (openai_schema, {"type": "array", "items": TEXT}, "$: OpenAI wants an object"),
        (openai_schema, deep(11), "$: 11 objects stand in each other there; OpenAI takes 10 levels"),
        (openai_schema, an_object({"enum": [f"{n}" for n in range(1001)]}), "$: it has 1,001 values in enums"),
        (openai_schema, an_object({"enum": ["x" * 80 + f"{n}" for n in range(251)]}), "more than 15,000 letters"),
        (openai_schema, {"type": "object", "properties": {f"{n}": TEXT for n in range(5001)}}, "5,001 properties"),
        (openai_schema, an_object({"$ref": "#"}), "$: it always holds itself"),
        (
            anthropic_schema,
            {"type": "object", "properties": {f"{n}": {"type": ["string", "null"]} for n in range(17)}},
            "$: 17 of its parts are choices",
        ),
        (gemini_schema, an_object({"type": "object", "properties": {}}), "$.a: an object without properties"),
    ],
)
def test_each_providers_own_limits_are_told(translate: Translate, schema: Schema, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        translate(strict(schema))
    assert reason in str(caught.value)


def test_definitions_that_name_each_other_twice_are_not_written_out_for_ever() -> None:
    chain: Schema = {"d30": TEXT}
    for n in range(30):
        chain[f"d{n}"] = {"type": "object", "properties": {name: {"$ref": f"#/$defs/d{n + 1}"} for name in "ab"}}
    schema = strict(an_object({"$ref": "#/$defs/d0"}, **{"$defs": chain}))
    assert openai_schema(schema) and anthropic_schema(schema)
    with pytest.raises(Rejected, match="written out, it has more than 5,000 parts"):
        gemini_schema(schema)

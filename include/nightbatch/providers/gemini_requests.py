"""Gemini's request lines: https://ai.google.dev/gemini-api/docs/batch-api#input-file"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightbatch.errors import Rejected
from nightbatch.models import EmbeddingInput, Endpoint, Media, Prompt, ReadyBody, Request
from nightbatch.providers.thinking import of_gemini
from nightbatch.providers.wire import in_base64, merged, require_fit, with_model


def line(custom_id: str, model: str, endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """Return one line of an input file; its model stands in the create's URL, where the SDK refuses some names.

    Raises `Rejected` for what Gemini cannot do.
    """
    if not model.isprintable() or any(part in model for part in ("..", "?", "&", "#")):
        raise Rejected(f"{model[:60]!r} is no name of a model")
    require_fit(endpoint, request)
    return {"key": custom_id, "request": _request_body(model, request)}


def _request_body(model: str, request: Request) -> dict[str, Any]:
    match request:
        case EmbeddingInput():
            return _embedding(request)
        case ReadyBody():
            return _ready(model, request)
        case Prompt():
            return merged(_generate(model, request), request.provider_options.get("gemini", {}))


def _ready(model: str, request: ReadyBody) -> dict[str, Any]:
    """A model in the body is only looked at: no line of Gemini's carries one."""
    named = str(request.body.get("model") or "").removeprefix("models/")
    with_model({"model": named}, model)
    return {key: value for key, value in request.body.items() if key != "model"}


def _embedding(request: EmbeddingInput) -> dict[str, Any]:
    if len(request.texts) != 1:
        raise Rejected("Gemini takes one text per embedding request: give each text a job of its own")
    body: dict[str, Any] = {"content": {"parts": [{"text": request.texts[0]}]}}
    said = {"outputDimensionality": request.dimensions, "taskType": request.task_type, "title": request.title}
    return body | {name: value for name, value in said.items() if value}


def _generate(model: str, prompt: Prompt) -> dict[str, Any]:
    thinking = of_gemini(model, prompt)
    config: dict[str, Any] = {"maxOutputTokens": thinking.limit}
    if thinking.words:
        config["thinkingConfig"] = thinking.words
    if prompt.temperature is not None:
        config["temperature"] = prompt.temperature
    if prompt.schema:
        # responseJsonSchema gives degenerate answers in batches; responseSchema does not.
        schema = _gemini_schema(prompt.schema, prompt.schema.get("$defs") or {}, ())
        config |= {"responseMimeType": "application/json", "responseSchema": schema}
    said = [{"role": _ROLES[turn.role], "parts": [{"text": turn.text}]} for turn in prompt.turns]
    shared = [{"text": prompt.shared}] if prompt.shared else []  # prefixes are kept without a mark
    parts = [*shared, *map(_part, prompt.media), {"text": prompt.user}]
    body: dict[str, Any] = {"contents": [*said, {"role": "user", "parts": parts}], "generationConfig": config}
    if prompt.system:
        body["systemInstruction"] = {"parts": [{"text": prompt.system}]}
    return body | (_tools(prompt) if prompt.tools else {})


_ROLES = {"user": "user", "assistant": "model"}


def _tools(prompt: Prompt) -> dict[str, Any]:
    """https://ai.google.dev/gemini-api/docs/function-calling"""
    declared = [
        {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
        for tool in prompt.tools
    ]
    said: dict[str, Any] = {"tools": [{"functionDeclarations": declared}]}
    if prompt.tool:
        allowed = {} if prompt.tool == "required" else {"allowedFunctionNames": [prompt.tool]}
        said["toolConfig"] = {"functionCallingConfig": {"mode": "ANY", **allowed}}
    return said


def _part(media: Media) -> dict[str, Any]:
    """A reference to an upload, or the bytes: https://ai.google.dev/api/caching#Part"""
    kind = {"mimeType": media.mime_type} if media.mime_type else {}
    if media.uri is None:
        return {"inlineData": {**kind, "data": in_base64(media)}}
    part: dict[str, Any] = {"fileData": {**kind, "fileUri": media.uri}}
    moves = (media.mime_type or "video/").startswith("video/")
    return part | ({"videoMetadata": {"fps": media.fps}} if media.fps and moves else {})


_KEPT = ("description", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "required")


def _gemini_schema(node: Mapping[str, Any], definitions: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
    """A JSON schema in Gemini's OpenAPI subset: references in place, ``null`` as ``nullable``, nothing it refuses.

    ``within`` are the references around the node. Raises `Rejected` for a schema that holds itself.
    """
    schema = {key: node[key] for key in _KEPT if key in node}
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        if name in within:
            raise Rejected(f"the schema's {name} holds itself, which Gemini cannot take")
        return _gemini_schema(definitions[name], definitions, (*within, name)) | schema
    schema |= _type_and_values(node)
    if "properties" in node:
        children = node["properties"].items()
        schema["properties"] = {name: _gemini_schema(child, definitions, within) for name, child in children}
        schema["propertyOrdering"] = list(node["properties"])
    if "items" in node:
        schema["items"] = _gemini_schema(node["items"], definitions, within)
    if choices := node.get("anyOf") or node.get("oneOf"):
        given = [_gemini_schema(child, definitions, within) for child in choices if child.get("type") != "null"]
        nullable = {"nullable": True} if len(given) < len(choices) else {}
        return (given[0] if len(given) == 1 else {"anyOf": given}) | schema | nullable
    return schema


def _type_and_values(node: Mapping[str, Any]) -> dict[str, Any]:
    """Gemini's enum holds text only, also for numbers: https://ai.google.dev/api/caching#Schema"""
    kinds = node.get("type")
    kinds = [kinds] if isinstance(kinds, str) else list(kinds or ())
    values = [node["const"]] if "const" in node else list(node.get("enum") or ())
    schema: dict[str, Any] = {"nullable": True} if "null" in kinds or None in values else {}
    kinds = [kind for kind in kinds if kind != "null"]
    values = [value for value in values if value is not None]
    if len(kinds) > 1:
        return schema | {"anyOf": [{"type": kind} for kind in kinds]}
    if values and not kinds:
        kinds = ["string" if isinstance(values[0], str) else "integer" if isinstance(values[0], int) else "number"]
    if kinds:
        schema["type"] = kinds[0]
    if values and kinds != ["boolean"] and not isinstance(values[0], bool):
        schema |= {"format": "enum", "enum": [str(value) for value in values]}
    elif node.get("format") == "date-time":
        schema["format"] = "date-time"
    return schema

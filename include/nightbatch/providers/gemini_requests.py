"""Gemini's request lines.

https://ai.google.dev/gemini-api/docs/batch-api#input-file
"""

from __future__ import annotations

from typing import Any

from nightbatch.core.errors import Rejected
from nightbatch.core.models import EmbeddingInput, Endpoint, Media, Prompt, RawRequest, Request
from nightbatch.providers.gemini_schema import gemini_schema
from nightbatch.providers.thinking import of_gemini
from nightbatch.providers.wire import in_base64, merged, require_fit, require_no_url, with_model


def line(custom_id: str, model: str, endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """Return one line of an input file; its model stands in the create's URL, where the SDK refuses some names.

    Raises `Rejected` for what Gemini cannot do.
    """
    if not model.isprintable() or any(part in model for part in ("..", "?", "&", "#")):
        raise Rejected(f"{model[:60]!r} is no name of a model")
    require_fit(endpoint, request)
    require_no_url(request)
    return {"key": custom_id, "request": _request_body(model, request)}


def _request_body(model: str, request: Request) -> dict[str, Any]:
    match request:
        case EmbeddingInput():
            return _embedding(request)
        case RawRequest():
            return _without_model(model, request.body)
        case Prompt():
            return _without_model(model, merged(_generate(model, request), request.provider_options.get("gemini", {})))


def _without_model(model: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the body without its model, which is only checked: no line of Gemini's carries one."""
    with_model({"model": str(body.get("model") or "").removeprefix("models/")}, model)
    return {key: value for key, value in body.items() if key != "model"}


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
        config |= {"responseMimeType": "application/json", "responseSchema": gemini_schema(prompt.schema)}
    said = [{"role": _ROLES[turn.role], "parts": [{"text": turn.text}]} for turn in prompt.turns]
    shared = [{"text": prompt.shared}] if prompt.shared else []  # prefixes are kept without a mark
    parts = [*shared, *map(_part, prompt.media), {"text": prompt.user}]
    body: dict[str, Any] = {"contents": [*said, {"role": "user", "parts": parts}], "generationConfig": config}
    if prompt.system:
        body["systemInstruction"] = {"parts": [{"text": prompt.system}]}
    return body | (_tools(prompt) if prompt.tools else {})


_ROLES = {"user": "user", "assistant": "model"}


def _tools(prompt: Prompt) -> dict[str, Any]:
    """Return the members for the functions that may be called.

    https://ai.google.dev/gemini-api/docs/function-calling
    """
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
    """Return a part with a reference to an upload, or with the bytes.

    https://ai.google.dev/api/caching#Part
    """
    kind = {"mimeType": media.mime_type} if media.mime_type else {}
    if media.uri is None:
        return {"inlineData": {**kind, "data": in_base64(media)}}
    part: dict[str, Any] = {"fileData": {**kind, "fileUri": media.uri}}
    moves = (media.mime_type or "video/").startswith("video/")
    return part | ({"videoMetadata": {"fps": media.fps}} if media.fps and moves else {})

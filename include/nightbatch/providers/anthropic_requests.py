"""Anthropic's request lines.

https://docs.claude.com/en/api/creating-message-batches
"""

from __future__ import annotations

from typing import Any

from nightbatch.core.errors import Rejected
from nightbatch.core.models import EmbeddingInput, Endpoint, Media, Prompt, RawRequest, Request, Tool
from nightbatch.providers.anthropic_schema import anthropic_schema
from nightbatch.providers.thinking import of_anthropic
from nightbatch.providers.wire import image, in_base64, is_long, merged, require_fit, require_no_url, with_model


def line(custom_id: str, model: str, endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """Return one request of a batch. Raises `Rejected` for what Anthropic cannot do."""
    if isinstance(request, EmbeddingInput):
        raise Rejected("Anthropic has no embeddings")
    require_fit(endpoint, request)
    require_no_url(request)
    body = request.body if isinstance(request, RawRequest) else _params(model, request)
    return {"custom_id": custom_id, "params": with_model(body, model)}


def _params(model: str, prompt: Prompt) -> dict[str, Any]:
    """Return the body of a request, never with a temperature: since the API version that the SDK names, it is refused."""
    if prompt.temperature is not None:
        raise Rejected("Anthropic takes no temperature any more: leave it out")
    thinking = of_anthropic(model, prompt)
    if prompt.tool and thinking.words.get("thinking", {}).get("type") in ("enabled", "adaptive"):
        raise Rejected("Anthropic cannot be told to call a function and to think at once: leave tool or effort out")
    params: dict[str, Any] = {
        "model": model,
        "max_tokens": thinking.limit,
        "messages": [
            *({"role": turn.role, "content": turn.text} for turn in prompt.turns),
            {"role": "user", "content": _content(prompt)},
        ],
    }
    if prompt.system:
        params["system"] = _system(prompt)
    output: dict[str, Any] = {}
    if prompt.schema:
        output["format"] = {"type": "json_schema", "schema": anthropic_schema(prompt.schema)}
    if effort := thinking.words.get("effort"):
        output["effort"] = effort
    if output:
        params["output_config"] = output
    if told := thinking.words.get("thinking"):
        params["thinking"] = told
    if prompt.tools:
        params |= _tools(prompt)
    return merged(params, prompt.provider_options.get("anthropic", {}))


def _system(prompt: Prompt) -> str | list[dict[str, Any]]:
    """Return the system prompt; a shared text behind it carries the mark for both."""
    mark = None if prompt.shared else _mark(prompt, prompt.system)
    return [{"type": "text", "text": prompt.system, **mark}] if mark else prompt.system or ""


def _mark(prompt: Prompt, prefix: str | None) -> dict[str, Any] | None:
    """Return the mark that keeps a prefix in the cache, None where it gets none.

    https://platform.claude.com/docs/en/build-with-claude/prompt-caching
    """
    if prompt.cache == "off" or (prompt.cache == "auto" and not is_long(prefix)):
        return None
    kept = {"ttl": "1h"} if prompt.cache == "1h" else {}
    return {"cache_control": {"type": "ephemeral", **kept}}


def _tools(prompt: Prompt) -> dict[str, Any]:
    said: dict[str, Any] = {"tools": [_tool(tool) for tool in prompt.tools]}
    if prompt.tool:
        said["tool_choice"] = {"type": "any"} if prompt.tool == "required" else {"type": "tool", "name": prompt.tool}
    return said


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "input_schema": tool.parameters}


def _content(prompt: Prompt) -> str | list[dict[str, Any]]:
    """Return the content of a message, media before the text.

    https://docs.claude.com/en/docs/build-with-claude/vision and /pdf-support
    """
    if not prompt.media and not prompt.shared:
        return prompt.user
    shared: list[dict[str, Any]] = []
    if prompt.shared:
        mark = _mark(prompt, (prompt.system or "") + prompt.shared) or {}
        shared = [{"type": "text", "text": prompt.shared, **mark}]
    return [*shared, *map(_part, prompt.media), {"type": "text", "text": prompt.user}]


def _part(media: Media) -> dict[str, Any]:
    if media.mime_type == "application/pdf":
        return _base64("document", media.mime_type, in_base64(media))
    return _base64("image", *image("Anthropic", media))


def _base64(kind: str, mime_type: str, data: str) -> dict[str, Any]:
    return {"type": kind, "source": {"type": "base64", "media_type": mime_type, "data": data}}

"""Turn the parameters of a message into the message that answers them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from nightbatch_local.emulator.answers import reply_to
from nightbatch_local.emulator.anthropic.schemas import require_taken
from nightbatch_local.emulator.billing import serves
from nightbatch_local.emulator.errors import ApiError, malformed_is_400
from nightbatch_local.emulator.media import decoded, image_type
from nightbatch_local.emulator.prompt import Answered, Prompt, Reply, digest_of
from nightbatch_local.emulator.thoughts import anthropic_thoughts
from nightbatch_local.emulator.words import names

Params = Mapping[str, Any]

# https://docs.claude.com/en/api/messages
_FIELDS = names(
    """model max_tokens messages system metadata stop_sequences stream thinking tool_choice tools output_config output_format
    cache_control service_tier inference_geo container context_management mcp_servers diagnostics fallbacks user_profile_id
    speed"""
)
_GONE = ("temperature", "top_p", "top_k")  # since API version 2026-10-21
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_IMAGE_BYTES = 5 << 20
# https://docs.claude.com/en/docs/build-with-claude/vision: width times height by 750, here of a picture of 1000 by 1000
_IMAGE_TOKENS = 1334
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal", "no-parts": "end_turn"}


@malformed_is_400
def answer(params: Params, *, seed: int, tier: Literal["batch", "standard"]) -> Answered:
    """Return the message that `POST /v1/messages` gives. Raises `ApiError`."""
    _refuse_faults(params)
    model = params["model"]
    digest = digest_of(seed, model, params)
    _refuse_schemas(params)
    tool = _forced_tool(params)
    schema = tool["input_schema"] if tool else ((params.get("output_config") or {}).get("format") or {}).get("schema")
    reply = reply_to(_prompt(params, digest, schema))
    message: dict[str, Any] = {
        "id": f"msg_{digest}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": _content(reply, tool, digest),
        "stop_reason": "tool_use" if tool and reply.finish == "stop" else _STOP_REASONS[reply.finish],
        "stop_sequence": None,
        "stop_details": None,
    }
    if reply.finish == "refusal":
        message["stop_details"] = {"type": "refusal", "category": None, "explanation": reply.text}
    if reply.shows_usage:
        message["usage"] = _usage(reply, tier)
    return Answered(message, model, reply.usage)


def _refuse_faults(params: Params) -> None:
    for name in ("model", "max_tokens", "messages"):
        if params.get(name) is None:
            raise ApiError(400, f"{name}: Field required")
    if not isinstance(params["max_tokens"], int) or params["max_tokens"] < 0:
        raise ApiError(400, "max_tokens: Input should be greater than or equal to 0")
    for name in sorted(params.keys() - _FIELDS - {*_GONE}):
        raise ApiError(400, f"{name}: Extra inputs are not permitted")
    for name in _GONE:
        if name in params:
            raise ApiError(400, f"{name}: Extra inputs are not permitted")
    if params.get("stream"):
        raise ApiError(400, "stream: streaming is not supported here")
    if params.get("tool_choice") and not params.get("tools"):
        raise ApiError(400, "tool_choice may only be specified while providing tools.")
    for tool in params.get("tools") or ():
        if "input_schema" in tool and not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", str(tool.get("name"))):
            raise ApiError(400, "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'")
    if not isinstance(params["messages"], list) or not params["messages"]:
        raise ApiError(400, "messages: at least one message is required")
    if not isinstance(params["model"], str) or not serves("anthropic", params["model"]):
        raise ApiError(404, f"model: {params['model']}")


def _refuse_schemas(params: Params) -> None:
    """Raise `ApiError` for a schema of the answer that is not taken; of tools the strict ones are looked at."""
    wanted = (params.get("output_config") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        require_taken(wanted.get("schema"), place="output_config.format.schema")
    for number, tool in enumerate(params.get("tools") or ()):
        if tool.get("strict"):
            require_taken(tool.get("input_schema"), place=f"tools.{number}.custom.input_schema")


def _forced_tool(params: Params) -> Params | None:
    """Return the tool that the answer must call, if any; `any` takes the first."""
    choice, tools = params.get("tool_choice") or {}, params.get("tools") or []
    if choice.get("type") == "any" and tools:
        return tools[0]  # type: ignore[no-any-return]
    if choice.get("type") != "tool":
        return None
    named = [tool for tool in tools if tool.get("name") == choice.get("name")]
    if not named:
        raise ApiError(400, f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")
    return named[0]  # type: ignore[no-any-return]


def _prompt(params: Params, digest: str, schema: dict[str, Any] | None) -> Prompt:
    system, _ = _text_of(params.get("system"))
    said = [_text_of(message.get("content")) for message in params["messages"]]
    text, media = "\n".join(text for text, _ in said), sum(tokens for _, tokens in said)
    if not text and not media:
        raise ApiError(400, "messages.0.content: text content blocks must be non-empty")
    marks = [params.get("cache_control"), *_cache_marks(params.get("system"))]
    marks = [mark for mark in marks if mark]
    return Prompt(
        params["model"],
        system,
        text,
        digest,
        schema,
        max_tokens=params["max_tokens"],
        media_tokens=media,
        caches=bool(marks),
        writes_cache=True,
        cache_hour=any(mark.get("ttl") == "1h" for mark in marks),
        thoughts=anthropic_thoughts(params),
        searches=any(str(tool.get("type", "")).startswith("web_search") for tool in params.get("tools") or ()),
    )


def _text_of(content: Any) -> tuple[str, int]:
    if content is None or isinstance(content, str):
        return content or "", 0
    texts = [str(block["text"]) for block in content if "text" in block]
    media = [block for block in content if block.get("type") in ("image", "document")]
    for block in media:
        _check_source(block["source"])
    return "\n".join(texts), len(media) * _IMAGE_TOKENS


def _check_source(source: Params) -> None:
    """Check an image in the request; what stands elsewhere is not looked at."""
    kind = source.get("media_type")
    if source.get("type") != "base64" or kind == "application/pdf":
        return
    if kind not in _IMAGES:
        raise ApiError(400, f"messages.0.content.0.image.source.base64.media_type: Input should be one of {_IMAGES}")
    body = decoded(source["data"], "messages.0.content.0.image.source.base64: invalid base64 data")
    if len(body) > _IMAGE_BYTES:
        raise ApiError(400, f"image exceeds 5 MB maximum: {len(body)} bytes > {_IMAGE_BYTES} bytes")
    found = image_type(body)
    if found not in _IMAGES:
        raise ApiError(400, "Could not process image")
    if found != kind:
        raise ApiError(
            400, f"The image was specified using the {kind} media type, but it appears to be a {found} image"
        )


def _cache_marks(system: Any) -> list[Any]:
    blocks = system if isinstance(system, list) else []
    return [block.get("cache_control") for block in blocks if isinstance(block, dict)]


def _content(reply: Reply, tool: Params | None, digest: str) -> list[dict[str, Any]]:
    if reply.finish in ("refusal", "no-parts"):
        return []
    before = [*_thoughts(reply, digest), *_searches(reply, digest)]
    if tool and reply.finish == "stop":
        return [*before, {"type": "tool_use", "id": f"toolu_{digest}", "name": tool["name"], "input": reply.value}]
    return [*before, {"type": "text", "text": reply.text, "citations": None}]


def _thoughts(reply: Reply, digest: str) -> list[dict[str, Any]]:
    """Return the thoughts, signed, so that a later turn can give them back."""
    return [{"type": "thinking", "thinking": "First I read it.", "signature": digest}] if reply.usage.thoughts else []


def _searches(reply: Reply, digest: str) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for number in range(reply.usage.searches):
        use = f"srvtoolu_{digest}_{number}"
        blocks.append({"type": "server_tool_use", "id": use, "name": "web_search", "input": {"query": f"{number}"}})
        blocks.append({"type": "web_search_tool_result", "tool_use_id": use, "content": []})
    return blocks


def _usage(reply: Reply, tier: str) -> dict[str, Any]:
    """Return the usage as Anthropic tells it: `input_tokens` leaves out what came from the cache or went there."""
    usage = reply.usage
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.written,
        "cache_creation_input_tokens": usage.written,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.written - usage.written_for_an_hour,
            "ephemeral_1h_input_tokens": usage.written_for_an_hour,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.thoughts},
        "server_tool_use": {"web_search_requests": usage.searches, "web_fetch_requests": 0} if usage.searches else None,
        "service_tier": tier,
        "inference_geo": "not_available",
    }

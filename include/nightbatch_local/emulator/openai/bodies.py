"""Turn request bodies into response bodies: chat completions, responses, embeddings, and the smaller endpoints."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from nightbatch_local.emulator.answers import reply_to, require_text
from nightbatch_local.emulator.billing import bills_cache_writes, embeds, serves
from nightbatch_local.emulator.embeddings import embed
from nightbatch_local.emulator.errors import ApiError, malformed_is_400
from nightbatch_local.emulator.media import decoded, image_type, picture
from nightbatch_local.emulator.openai.schemas import require_strict
from nightbatch_local.emulator.prompt import (
    PICTURE_TOKENS,
    Answered,
    Prompt,
    Reply,
    Usage,
    digest_of,
    raise_for_marker,
    tokens_in,
)
from nightbatch_local.emulator.thoughts import openai_thoughts, refuse_openai_temperature
from nightbatch_local.emulator.words import names

Body = Mapping[str, Any]

_DIMENSIONS = {"text-embedding-3-large": 3072}
_DEFAULT_DIMENSIONS = 1536
_INPUTS_PER_REQUEST = 2048
# https://platform.openai.com/docs/api-reference/embeddings/create
_TOKENS_PER_INPUT, _TOKENS_PER_REQUEST = 8192, 300_000
# https://platform.openai.com/docs/api-reference/chat/create
_CHAT_FIELDS = names(
    """messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
    metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_options
    prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store stream
    stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options moderation"""
)
# https://platform.openai.com/docs/api-reference/responses/create
_RESPONSES_FIELDS = names(
    """input model background context_management conversation include instructions max_output_tokens max_tool_calls metadata
    parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_options prompt_cache_retention reasoning
    safety_identifier service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p
    truncation user moderation generate"""
)
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
# https://platform.openai.com/docs/guides/images-vision: a picture of 1024 by 1024 in high detail
_IMAGE_TOKENS = 765


@malformed_is_400
def answer(url: str, body: Body, *, seed: int, at: float) -> Answered:
    """Return what the endpoint at `url` answers at `at` (seconds since 1970). Raises `ApiError`."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError(400, "You must provide a model parameter.", param="model")
    if not serves("openai", model):
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise ApiError(404, message, code="model_not_found")
    if body.get("stream"):
        raise ApiError(400, "The emulator does not stream.", param="stream", code="unsupported_parameter")
    if embeds(model) != (url == "/v1/embeddings") and not model.startswith("emulator-"):
        raise ApiError(400, f"The model `{model}` is not supported by {url}.", param="model", code="unsupported_model")
    return _ENDPOINTS[url](body, model, digest_of(seed, model, body), int(at))


def _refuse_faults(body: Body, thoughts: int, fields: Collection[str]) -> None:
    unknown = sorted(body.keys() - fields)
    if unknown:
        raise ApiError(400, f"Unknown parameter: '{unknown[0]}'.", param=unknown[0], code="unknown_parameter")
    refuse_openai_temperature(body, thoughts)
    for tool in body.get("tools") or ():
        name = (tool.get("function") or tool).get("name")
        if tool.get("type") == "function" and not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", str(name)):
            raise ApiError(400, "Invalid 'tools[0].name': string does not match pattern.", param="tools[0].name")
    if body.get("tool_choice") not in (None, "none", "auto") and not body.get("tools"):
        raise ApiError(400, "'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")


def input_count(body: Body) -> int:
    """Count the texts that an embeddings request asks for."""
    given = body.get("input")
    return len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1


def _chat(body: Body, model: str, digest: str, at: int) -> Answered:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "Invalid 'messages': expected a non-empty array.", param="messages")
    wanted = body.get("response_format") or {}
    schema = (wanted.get("json_schema") or {}).get("schema") if wanted.get("type") == "json_schema" else None
    _require_strict(wanted.get("json_schema") or {}, schema, body.get("tools"), "function", "response_format")
    tool = _forced_tool(body, "function")
    schema = tool.get("parameters") if tool else schema
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    prompt = _prompt(messages, "content", model, digest, schema, limit)
    thoughts = openai_thoughts(model, body.get("reasoning_effort"), "reasoning_effort")
    _refuse_faults(body, thoughts, _CHAT_FIELDS)
    reply = reply_to(require_text(replace(prompt, thoughts=thoughts), "messages"))
    refused = reply.finish == "refusal"
    message: dict[str, Any] = {"role": "assistant", "content": None if refused else reply.text, "annotations": []}
    message["refusal"] = reply.text if refused else None
    finish = "length" if reply.finish == "length" else "stop"
    if tool and reply.finish == "stop":
        finish = "tool_calls"
        function = {"name": tool["name"], "arguments": reply.text}
        message |= {"content": None, "tool_calls": [{"id": f"call_{digest}", "type": "function", "function": function}]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    shown = {"id": f"chatcmpl-{digest}", "object": "chat.completion", "created": at, "model": model}
    choices = [choice | {"index": index} for index in range(body.get("n") or 1)]
    shown |= {"choices": choices, "service_tier": "default", "system_fingerprint": None}
    return Answered(shown | _chat_usage(reply), model, reply.usage)


def _responses(body: Body, model: str, digest: str, at: int) -> Answered:
    given = body.get("input")
    if not given:
        raise ApiError(400, "Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
    turns = [{"role": "system", "content": body.get("instructions") or ""}, *turns]
    wanted = (body.get("text") or {}).get("format") or {}
    schema = wanted.get("schema") if wanted.get("type") == "json_schema" else None
    _require_strict(wanted, schema, body.get("tools"), None, "text.format.schema")
    tool = _forced_tool(body, None)
    schema = tool.get("parameters") if tool else schema
    prompt = _prompt(turns, "content", model, digest, schema, body.get("max_output_tokens"))
    thoughts = openai_thoughts(model, (body.get("reasoning") or {}).get("effort"), "reasoning.effort")
    _refuse_faults(body, thoughts, _RESPONSES_FIELDS)
    searches = any(given.get("type") == "web_search" for given in body.get("tools") or ())
    reply = reply_to(require_text(replace(prompt, thoughts=thoughts, searches=searches), "input"))
    cut = reply.finish == "length"
    part: dict[str, Any] = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
    if reply.finish == "refusal":
        part = {"type": "refusal", "refusal": reply.text}
    status = "incomplete" if cut else "completed"
    message: dict[str, Any] = {
        "type": "message",
        "id": f"msg_{digest}",
        "status": status,
        "role": "assistant",
        "content": [part],
    }
    if "commentary" in prompt.markers():
        message["phase"] = "final_answer"
    shown = {"id": f"resp_{digest}", "object": "response", "created_at": at, "status": status, "model": model}
    shown |= {"incomplete_details": {"reason": "max_output_tokens"} if cut else None, "error": None}
    output = [*_before(prompt, reply, digest), message]
    if tool and reply.finish == "stop":
        call = {"type": "function_call", "id": f"fc_{digest}", "call_id": f"call_{digest}", "status": "completed"}
        output[-1] = call | {"name": tool["name"], "arguments": reply.text}
    used: dict[str, Any] = {"web_search": {"num_requests": reply.usage.searches}}
    if any(given.get("type") == "image_generation" for given in body.get("tools") or ()):
        reply = replace(reply, usage=_with_a_picture(prompt, reply.usage))
        output.insert(-1, _drawn(digest))
        used["image_gen"] = _image_usage(reply.usage)
    shown |= {"output": output, "tool_usage": used}
    shown |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    shown |= {"instructions": body.get("instructions"), "metadata": body.get("metadata") or {}}
    shown |= {"temperature": 1.0, "top_p": 1.0, "service_tier": "default"}
    return Answered(shown | _responses_usage(reply), model, reply.usage)


def _require_strict(wanted: Body, schema: Any, tools: Any, inner: str | None, param: str) -> None:
    """Raise `ApiError` for what strict mode refuses, of the answer's schema and of the functions'."""
    if schema is not None and wanted.get("strict"):
        require_strict(schema, what=f"response_format '{wanted.get('name')}'", param=param)
    for number, tool in enumerate(tools or ()):
        function = tool.get(inner) or {} if inner else tool
        if tool.get("type") == "function" and function.get("strict"):
            what, place = (
                f"function '{function.get('name')}'",
                f"tools[{number}].{inner + '.' if inner else ''}parameters",
            )
            require_strict(function.get("parameters"), what=what, param=place)


def _forced_tool(body: Body, inner: str | None) -> Body | None:
    """Return the function that the answer must call; ``required`` takes the first."""
    choice, tools = body.get("tool_choice"), body.get("tools") or []
    functions: list[Body] = [tool[inner] if inner else tool for tool in tools if tool.get("type") == "function"]
    if choice == "required" and functions:
        return functions[0]
    if not isinstance(choice, Mapping) or choice.get("type") != "function":
        return None
    name = (choice[inner] if inner else choice).get("name")
    named = [function for function in functions if function.get("name") == name]
    if not named:
        raise ApiError(400, f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice")
    return named[0]


def _before(prompt: Prompt, reply: Reply, digest: str) -> list[dict[str, Any]]:
    """Return what comes before the answer: thoughts, searches, and what the model says while it works."""
    items: list[dict[str, Any]] = []
    if reply.usage.thoughts:
        items.append({"type": "reasoning", "id": f"rs_{digest}", "summary": []})
    if "commentary" in prompt.markers():
        said = {"type": "output_text", "text": "I look at it first.", "annotations": [], "logprobs": []}
        items.append({"type": "message", "id": f"msg_c{digest}", "role": "assistant", "phase": "commentary"})
        items[-1] |= {"status": "completed", "content": [said]}
    for number in range(reply.usage.searches):
        action = {"type": "search", "query": f"query {number}"}
        items.append(
            {"type": "web_search_call", "id": f"ws_{digest}_{number}", "status": "completed", "action": action}
        )
    return items


def _with_a_picture(prompt: Prompt, usage: Usage) -> Usage:
    """Add the tokens of a picture: another model draws it, and is billed for it beside the tokens of the answer."""
    return replace(usage, asked_to_draw=tokens_in(prompt.text), drawn=PICTURE_TOKENS)


def _drawn(digest: str) -> dict[str, Any]:
    """Return a picture as the tool gives it: https://platform.openai.com/docs/guides/tools-image-generation."""
    call = {"type": "image_generation_call", "id": f"ig_{digest}", "status": "completed", "output_format": "png"}
    return call | {"size": "1024x1024", "result": picture(digest)}


def _image_usage(usage: Usage) -> dict[str, Any]:
    taken = {"image_tokens": 0, "text_tokens": usage.asked_to_draw}
    shown = {"input_tokens": usage.asked_to_draw, "input_tokens_details": taken, "output_tokens": usage.drawn}
    return shown | {"total_tokens": usage.asked_to_draw + usage.drawn}


def _embeddings(body: Body, model: str, digest: str, at: int) -> Answered:
    texts = _texts(body.get("input"))
    dimensions = body.get("dimensions") or _DIMENSIONS.get(model, _DEFAULT_DIMENSIONS)
    encode = _base64 if body.get("encoding_format") == "base64" else (lambda vector: vector)
    data = [
        {"object": "embedding", "index": index, "embedding": encode(embed(text, dimensions))}
        for index, text in enumerate(texts)
    ]
    markers = Prompt(model=model, system="", text=" ".join(texts), digest=digest).markers()
    raise_for_marker(markers)
    sizes = [max(1, tokens_in(text)) for text in texts]
    if max(sizes) > _TOKENS_PER_INPUT:
        text = f"This model's maximum context length is {_TOKENS_PER_INPUT} tokens, however you requested {max(sizes)} tokens."
        raise ApiError(400, text, param="input")
    if (tokens := sum(sizes)) > _TOKENS_PER_REQUEST:
        raise ApiError(400, f"Requested {tokens} tokens, max {_TOKENS_PER_REQUEST} tokens per request.", param="input")
    shown: dict[str, Any] = {"object": "list", "data": data, "model": model}
    if "nousage" not in markers:
        shown["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Answered(shown, model, Usage(tokens))


def _completions(body: Body, model: str, digest: str, at: int) -> Answered:
    prompt = Prompt(model, "", _text_of(body.get("prompt")), digest, max_tokens=body.get("max_tokens"))
    reply = reply_to(require_text(prompt, "prompt"))
    choice = {"index": 0, "text": reply.text, "logprobs": None}
    choice["finish_reason"] = "length" if reply.finish == "length" else "stop"
    shown = {"id": f"cmpl-{digest}", "object": "text_completion", "created": at, "model": model, "choices": [choice]}
    return Answered(shown | _chat_usage(reply), model, reply.usage)


def _moderations(body: Body, model: str, digest: str, at: int) -> Answered:
    """Answer free of charge: https://platform.openai.com/docs/guides/moderation."""
    _texts(body.get("input"))
    flags = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.01}}
    return Answered({"id": f"modr-{digest}", "model": model, "results": [flags]}, model, Usage(0))


def _images(body: Body, model: str, digest: str, at: int) -> Answered:
    text = _text_of(body.get("prompt"))
    if not text:
        raise ApiError(400, "Missing required parameter: 'prompt'.", param="prompt", code="missing_required_parameter")
    usage = Usage(tokens_in(text), 0, PICTURE_TOKENS, picture=PICTURE_TOKENS)
    taken = {"image_tokens": 0, "text_tokens": usage.input_tokens}
    used = {"input_tokens": usage.input_tokens, "input_tokens_details": taken, "output_tokens": usage.output_tokens}
    shown = {"created": at, "data": [{"b64_json": picture(digest)}], "output_format": "png"}
    used["total_tokens"] = usage.input_tokens + usage.output_tokens
    return Answered(shown | {"usage": used}, model, usage)


def _text_of(given: Any) -> str:
    return given if isinstance(given, str) else ""


_ENDPOINTS: dict[str, Callable[[Body, str, str, int], Answered]] = {
    "/v1/chat/completions": _chat,
    "/v1/responses": _responses,
    "/v1/embeddings": _embeddings,
    "/v1/completions": _completions,
    "/v1/moderations": _moderations,
    "/v1/images/generations": _images,
}


def _prompt(
    turns: Iterable[Body],
    field: str,
    model: str,
    digest: str,
    schema: dict[str, Any] | None,
    limit: int | None,
) -> Prompt:
    said: dict[bool, list[str]] = {True: [], False: []}
    media = 0
    for turn in turns:
        content = turn.get(field) or ""
        parts = [{"text": content}] if isinstance(content, str) else content
        media += sum(_media_tokens(part) for part in parts if "text" not in part)
        said[turn.get("role") in ("system", "developer")] += [str(part["text"]) for part in parts if "text" in part]
    system, text = "\n".join(said[True]), "\n".join(said[False])
    writes = bills_cache_writes(model)
    return Prompt(model, system, text, digest, schema=schema, max_tokens=limit, media_tokens=media, writes_cache=writes)


def _media_tokens(part: Body) -> int:
    """Return the tokens of an image, and check it; one that stands elsewhere is not looked at."""
    named = part.get("image_url")
    url = str(named["url"] if isinstance(named, Mapping) else named or "")
    if url.startswith("data:"):
        kind, _, data = url.removeprefix("data:").partition(";base64,")
        body = decoded(data, "Invalid base64 image_url.", code="invalid_base64")
        if kind not in _IMAGES or image_type(body) not in _IMAGES:
            message = "You uploaded an unsupported image. Please make sure your image is a png, jpeg, gif or webp."
            raise ApiError(400, message, code="invalid_image_format")
    return _IMAGE_TOKENS


def _texts(given: Any) -> list[str]:
    texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    if not texts or any(text in ("", None, []) for text in texts):
        raise ApiError(400, "'$.input' is invalid. It must not be empty.", param="input")
    if len(texts) > _INPUTS_PER_REQUEST:
        raise ApiError(400, f"'$.input' is invalid. At most {_INPUTS_PER_REQUEST} inputs.", param="input")
    return [text if isinstance(text, str) else " ".join(map(str, text)) for text in texts]


def _base64(vector: Any) -> str:
    return base64.b64encode(vector.tobytes()).decode()


def _chat_usage(reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    shown = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
    details = {
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.written},
        "completion_tokens_details": {"reasoning_tokens": usage.thoughts, "audio_tokens": 0},
    }
    return {"usage": shown | details} if reply.shows_usage else {}


def _responses_usage(reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    shown = {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.written},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.thoughts},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    return {"usage": shown} if reply.shows_usage else {}

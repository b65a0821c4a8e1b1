"""OpenAI's request lines.

https://platform.openai.com/docs/guides/batch#1-prepare-your-batch-file
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from nightbatch.core.errors import Rejected
from nightbatch.core.models import EmbeddingInput, Endpoint, Media, Prompt, RawRequest, Request, Tool
from nightbatch.providers.openai_schema import openai_schema
from nightbatch.providers.thinking import of_openai
from nightbatch.providers.wire import image, in_base64, merged, require_fit, with_model
from nightbatch.schemas.words import strict

_Url = Literal[
    "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions", "/v1/moderations",
    "/v1/images/generations", "/v1/images/edits", "/v1/videos",
]  # fmt: skip
URLS: Mapping[Endpoint, _Url] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "completions": "/v1/completions",
    "moderations": "/v1/moderations",
    "images": "/v1/images/generations",
    "image_edits": "/v1/images/edits",
    "videos": "/v1/videos",
}
# https://platform.openai.com/docs/api-reference/embeddings/create
_MAX_TEXTS = 2048
_TEXT_TOKENS = 8192
_REQUEST_TOKENS = 300_000
_MARKS = re.compile(r"gpt-(\d+)(?:\.(\d+))?(?![\d.])")


def marks_caches(model: str) -> bool:
    """Return whether the cache of a model can be controlled: GPT-5.6 and later.

    https://platform.openai.com/docs/guides/prompt-caching
    """
    found = _MARKS.match(model)
    return found is not None and (int(found[1]), int(found[2] or 0)) >= (5, 6)


@cache
def _tokenizer() -> Any:
    from bpe_openai import get_encoding  # half a second and 70 MB: only where a text may be too long

    return get_encoding("cl100k_base").encode_ordinary


def line(custom_id: str, model: str, endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """Return one line of an input file. Raises `Rejected` for what OpenAI cannot do."""
    require_fit(endpoint, request)
    body = _body(model, endpoint, request)
    return {"custom_id": custom_id, "method": "POST", "url": URLS[endpoint], "body": body}


def _body(model: str, endpoint: Endpoint, request: Request) -> dict[str, Any]:
    match request:
        case EmbeddingInput():
            return _embeddings_body(model, request)
        case RawRequest():
            if request.url not in (None, URLS[endpoint]):
                raise Rejected(f"url: its batch goes to {URLS[endpoint]}")
            return with_model(request.body, model)
        case Prompt() if endpoint == "responses":
            body = _responses_body(model, request)
        case Prompt():
            body = _chat_body(model, request)
    return with_model(merged(body, request.provider_options.get("openai", {})), model)


def _embeddings_body(model: str, request: EmbeddingInput) -> dict[str, Any]:
    if len(request.texts) > _MAX_TEXTS:
        raise Rejected(f"OpenAI takes at most {_MAX_TEXTS} texts in a request, not {len(request.texts)}")
    if request.task_type or request.title:
        raise Rejected("OpenAI's embeddings know no task_type and no title: leave them out")
    _require_room(request.texts)
    body = {"model": model, "input": list(request.texts), "encoding_format": "float"}
    return body | ({"dimensions": request.dimensions} if request.dimensions else {})


def _require_room(texts: Sequence[str]) -> None:
    """Raise `Rejected` for texts that are too long. Tokens are counted only where they may be: each is a byte at least."""
    sizes = [len(text.encode("utf-8", "replace")) for text in texts]
    if max(sizes) <= _TEXT_TOKENS and sum(sizes) <= _REQUEST_TOKENS:
        return
    counted = list(map(_tokens, texts))
    for place, tokens in enumerate(counted):
        if tokens > _TEXT_TOKENS:
            raise Rejected(f"text {place} has {tokens:,} tokens; OpenAI takes {_TEXT_TOKENS:,}")
    if sum(counted) > _REQUEST_TOKENS:
        raise Rejected(
            f"its texts have {sum(counted):,} tokens together; OpenAI takes {_REQUEST_TOKENS:,} in a request: spread them over"
            " several jobs"
        )


def _tokens(text: str) -> int:
    return len(_tokenizer()(text.encode("utf-8", "replace").decode()))


def _chat_body(model: str, prompt: Prompt) -> dict[str, Any]:
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    said = [{"role": turn.role, "content": turn.text} for turn in prompt.turns]
    thinking = of_openai(model, prompt)
    body: dict[str, Any] = {
        "model": model,
        "messages": [*system, *said, {"role": "user", "content": _content(model, prompt, _CHAT_PARTS)}],
        "max_completion_tokens": thinking.limit,
    }
    if prompt.schema:
        named = {"name": prompt.schema_name, "strict": True, "schema": openai_schema(prompt.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    if effort := thinking.words.get("effort"):
        body["reasoning_effort"] = effort
    if prompt.tools:
        body["tools"] = [{"type": "function", "function": _function(tool)} for tool in prompt.tools]
        if prompt.tool:
            named = {"type": "function", "function": {"name": prompt.tool}}
            body["tool_choice"] = "required" if prompt.tool == "required" else named
    return body | _common(model, prompt)


def _responses_body(model: str, prompt: Prompt) -> dict[str, Any]:
    """Return the body for the responses endpoint. ``store`` is on unless OpenAI is told otherwise; nothing here reads it."""
    thinking = of_openai(model, prompt)
    body: dict[str, Any] = {
        "model": model,
        "input": _responses_input(model, prompt),
        "max_output_tokens": thinking.limit,
        "store": False,
    }
    if prompt.system:
        body["instructions"] = prompt.system
    if prompt.schema:
        format_ = {
            "type": "json_schema",
            "name": prompt.schema_name,
            "strict": True,
            "schema": openai_schema(prompt.schema),
        }
        body["text"] = {"format": format_}
    if thinking.words:
        body["reasoning"] = thinking.words
    if prompt.tools:
        body["tools"] = [{"type": "function", **_function(tool)} for tool in prompt.tools]
        if prompt.tool:
            named = {"type": "function", "name": prompt.tool}
            body["tool_choice"] = "required" if prompt.tool == "required" else named
    return body | _common(model, prompt)


def _function(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parameters": openai_schema(strict(tool.parameters)), "strict": True}


def _common(model: str, prompt: Prompt) -> dict[str, Any]:
    """Return the members that are the same on both endpoints; the caches of models before GPT-5.6 cannot be controlled."""
    said: dict[str, Any] = {} if prompt.temperature is None else {"temperature": prompt.temperature}
    if prompt.cache == "off" and marks_caches(model):
        said["prompt_cache_options"] = {"mode": "explicit"}
    return said


# Images, PDFs and sounds as data URLs: https://platform.openai.com/docs/guides/images-vision, /pdf-files and /audio


def _responses_input(model: str, prompt: Prompt) -> str | list[dict[str, Any]]:
    content = _content(model, prompt, _RESPONSES_PARTS)
    said = [{"role": turn.role, "content": turn.text} for turn in prompt.turns]
    return content if isinstance(content, str) and not said else [*said, {"role": "user", "content": content}]


class _Parts(NamedTuple):
    """How an endpoint writes the parts of a message."""

    text: str
    image: Callable[[str], dict[str, Any]]
    file: Callable[[str], dict[str, Any]]
    sound: Callable[[str, str], dict[str, Any]]


_CHAT_PARTS = _Parts(
    text="text",
    image=lambda url: {"type": "image_url", "image_url": {"url": url}},
    file=lambda url: {"type": "file", "file": {"filename": "file.pdf", "file_data": url}},
    sound=lambda data, kind: {"type": "input_audio", "input_audio": {"data": data, "format": kind}},
)
_RESPONSES_PARTS = _Parts(
    text="input_text",
    image=lambda url: {"type": "input_image", "detail": "auto", "image_url": url},
    file=lambda url: {"type": "input_file", "filename": "file.pdf", "file_data": url},
    sound=lambda data, kind: {"type": "input_audio", "input_audio": {"data": data, "format": kind}},
)
_SOUNDS = {"audio/mpeg": "mp3", "audio/wav": "wav"}


def _content(model: str, prompt: Prompt, parts: _Parts) -> str | list[dict[str, Any]]:
    """Return the text alone, or the shared text, the media and then the text."""
    if not prompt.media and not prompt.shared:
        return prompt.user
    shared = [{"type": parts.text, "text": prompt.shared}] if prompt.shared else []
    if shared and prompt.cache != "off" and marks_caches(model):
        shared[0]["prompt_cache_breakpoint"] = {"mode": "explicit"}  # type: ignore[assignment]
    return [*shared, *(_part(media, parts) for media in prompt.media), {"type": parts.text, "text": prompt.user}]


def _part(media: Media, parts: _Parts) -> dict[str, Any]:
    kind = media.mime_type or ""
    if kind in _SOUNDS:
        return parts.sound(in_base64(media), _SOUNDS[kind])
    if kind == "application/pdf":
        return parts.file(f"data:{kind};base64,{in_base64(media)}")
    return parts.image("data:{};base64,{}".format(*image("OpenAI", media)))

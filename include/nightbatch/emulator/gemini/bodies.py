"""Request bodies in, response bodies out: generateContent and embedContent.

Protobuf's JSON takes field names in camel case and in snake case; so does this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nightbatch.emulator.answers import reply_to
from nightbatch.emulator.embeddings import embed
from nightbatch.emulator.errors import ApiError, malformed_is_400
from nightbatch.emulator.prompt import Answered, Prompt, Reply, Usage, digest_of, raise_for_marker, tokens_in

Body = Mapping[str, Any]

_DIMENSIONS = 3072
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY", "no-parts": "STOP"}


def field(body: Body, name: str) -> Any:
    """A field by its camel-case name, or by its snake-case one."""
    if name in body:
        return body[name]
    return body.get(re.sub("[A-Z]", lambda upper: f"_{upper[0].lower()}", name))


@malformed_is_400
def generate(model: str, body: Body, *, seed: int) -> Answered:
    """A `GenerateContentResponse`. Raises `ApiError`."""
    digest = digest_of(seed, model, body)
    reply = reply_to(_prompt(model, body, digest))
    candidate: dict[str, Any] = {"finishReason": _FINISH[reply.finish], "index": 0}
    if reply.finish == "no-parts":
        candidate["content"] = {"role": "model"}
    elif reply.finish != "refusal":
        candidate["content"] = {"parts": [{"text": reply.text}], "role": "model"}
    shown: dict[str, Any] = {"candidates": [candidate], "modelVersion": model, "responseId": digest}
    if reply.shows_usage:
        shown["usageMetadata"] = _usage(reply)
    return Answered(shown, model, reply.usage)


@malformed_is_400
def embed_content(model: str, body: Body, *, seed: int) -> Answered:
    """An embedding with its token count. Raises `ApiError`."""
    text, _ = _text_of(body.get("content"))
    if not text:
        raise ApiError(400, "* EmbedContentRequest.content: contents is not specified")
    markers = Prompt(model, "", text, digest_of(seed, model, body)).markers()
    raise_for_marker(markers)
    config = field(body, "embedContentConfig") or body
    vector = embed(text, field(config, "outputDimensionality") or _DIMENSIONS)
    tokens = max(1, tokens_in(text))
    shown: dict[str, Any] = {"embedding": {"values": vector}}
    if "nousage" not in markers:
        shown |= {"tokenCount": tokens, "usageMetadata": {"promptTokenCount": tokens}}
    return Answered(shown, model, Usage(tokens))


def _prompt(model: str, body: Body, digest: str) -> Prompt:
    contents = body.get("contents")
    if not contents:
        raise ApiError(400, "* GenerateContentRequest.contents: contents is not specified")
    system, _ = _text_of(field(body, "systemInstruction"))
    said = [_text_of(content) for content in (contents if isinstance(contents, list) else [contents])]
    text, images = "\n".join(text for text, _ in said), sum(images for _, images in said)
    if not text and not images:
        raise ApiError(400, "* GenerateContentRequest.contents: contents.parts must not be empty")
    config = field(body, "generationConfig") or {}
    schema = field(config, "responseSchema") or field(config, "responseJsonSchema")
    return Prompt(model, system, text, digest, schema, max_tokens=field(config, "maxOutputTokens"), images=images)


def _text_of(content: Any) -> tuple[str, int]:
    if not content:
        return "", 0
    parts = content if isinstance(content, list) else content.get("parts") or []
    texts = [str(part["text"]) for part in parts if "text" in part]
    return "\n".join(texts), len(parts) - len(texts)


def _usage(reply: Reply) -> dict[str, Any]:
    """`promptTokenCount` includes what came from the cache."""
    usage = reply.usage
    shown = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    return shown | ({"cachedContentTokenCount": usage.cached_tokens} if usage.cached_tokens else {})

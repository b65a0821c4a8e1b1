"""Turn request bodies of generateContent and embedContent into response bodies.

Protobuf's JSON takes field names in camel case and in snake case; so does this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nightbatch_local.emulator.answers import reply_to
from nightbatch_local.emulator.embeddings import embed
from nightbatch_local.emulator.errors import ApiError, malformed_is_400
from nightbatch_local.emulator.gemini.schemas import require_taken
from nightbatch_local.emulator.media import decoded, image_type, picture, video_seconds
from nightbatch_local.emulator.prompt import Answered, Prompt, Reply, Usage, digest_of, raise_for_marker, tokens_in
from nightbatch_local.emulator.state import File
from nightbatch_local.emulator.thoughts import gemini_thoughts
from nightbatch_local.emulator.words import names

Body = Mapping[str, Any]
Find = Callable[[str], File | None]
"""The file that a URI names, None for a video elsewhere. Raises `ApiError` for one that cannot be used."""

_DIMENSIONS = 3072
# https://ai.google.dev/api/generate-content#request-body
_FIELDS = names(
    """model contents tools toolConfig safetySettings systemInstruction generationConfig cachedContent serviceTier store
    labels"""
)
# https://ai.google.dev/api/generate-content#generationconfig
_CONFIG_FIELDS = names(
    """stopSequences responseMimeType responseSchema responseJsonSchema responseModalities candidateCount maxOutputTokens
    temperature topP topK seed presencePenalty frequencyPenalty responseLogprobs logprobs enableEnhancedCivicAnswers
    speechConfig thinkingConfig imageConfig mediaResolution responseFormat"""
)
# https://ai.google.dev/gemini-api/docs/tokens: for an image, and for a second of video with one frame
_MEDIA_TOKENS = 258
_ELSEWHERE_SECONDS = 60.0
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY", "no-parts": "STOP"}


def field(body: Body, name: str) -> Any:
    """Return a field by its camel-case name, or by its snake-case one."""
    if name in body:
        return body[name]
    return body.get(re.sub("[A-Z]", lambda upper: f"_{upper[0].lower()}", name))


@malformed_is_400
def generate(model: str, body: Body, *, seed: int, find: Find) -> Answered:
    """Return a `GenerateContentResponse`. Raises `ApiError`."""
    _refuse_schemas(body)
    digest = digest_of(seed, model, body)
    tool = _forced_tool(body)
    reply = reply_to(_prompt(model, body, digest, find, tool))
    candidate: dict[str, Any] = {"finishReason": _FINISH[reply.finish], "index": 0}
    if reply.finish == "no-parts":
        candidate["content"] = {"role": "model"}
    elif reply.finish != "refusal":
        candidate["content"] = {"parts": _answer_parts(reply, tool, digest), "role": "model"}
    if reply.usage.searches:
        queries = [f"query {number}" for number in range(reply.usage.searches)]
        candidate["groundingMetadata"] = {"webSearchQueries": queries}
    if reply.usage.tool:
        page = {"retrievedUrl": "https://example.com/", "urlRetrievalStatus": "URL_RETRIEVAL_STATUS_SUCCESS"}
        candidate["urlContextMetadata"] = {"urlMetadata": [page]}
    shown: dict[str, Any] = {"candidates": [candidate], "modelVersion": model, "responseId": digest}
    if reply.shows_usage:
        shown["usageMetadata"] = _usage(reply)
    return Answered(shown, model, reply.usage)


@malformed_is_400
def embed_content(model: str, body: Body, *, seed: int) -> Answered:
    """Return an embedding with its token count. Raises `ApiError`."""
    text = _text_of(body.get("content"))
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


def _refuse_schemas(body: Body) -> None:
    """Raise `ApiError` for a schema of the answer or of a function that is not taken; JSON schemas are not looked at."""
    schema = field(field(body, "generationConfig") or {}, "responseSchema")
    if schema is not None:
        require_taken(schema, place="GenerateContentRequest.generation_config.response_schema")
    for number, tool in enumerate(body.get("tools") or ()):
        for which, function in enumerate(field(tool, "functionDeclarations") or ()):
            place = f"GenerateContentRequest.tools[{number}].function_declarations[{which}].parameters"
            if (field(function, "parameters") or {}).get("properties"):  # one without parameters is taken
                require_taken(function["parameters"], place=place)


def _forced_tool(body: Body) -> Body | None:
    """Return the function that the answer must call, the first of those allowed."""
    config = field(field(body, "toolConfig") or {}, "functionCallingConfig") or {}
    functions = [one for tool in body.get("tools") or () for one in field(tool, "functionDeclarations") or ()]
    allowed = field(config, "allowedFunctionNames")
    named = [one for one in functions if not allowed or one.get("name") in allowed]
    return named[0] if config.get("mode") == "ANY" and named else None


def _answer_parts(reply: Reply, tool: Body | None, digest: str) -> list[dict[str, Any]]:
    """Return the parts of the answer.

    A model that thinks signs its answer, so that a later turn can give it back. A picture follows its text.
    """
    part: dict[str, Any] = {"text": reply.text}
    if tool and reply.finish == "stop":
        part = {"functionCall": {"name": tool["name"], "args": reply.value or {}, "id": digest}}
    parts = [part | ({"thoughtSignature": digest} if reply.usage.thoughts else {})]
    if reply.usage.picture:
        parts.append({"inlineData": {"mimeType": "image/png", "data": picture(digest)}})
    return parts


def _prompt(model: str, body: Body, digest: str, find: Find, tool: Body | None) -> Prompt:
    contents = body.get("contents")
    if not contents:
        raise ApiError(400, "* GenerateContentRequest.contents: contents is not specified")
    system = _text_of(field(body, "systemInstruction"))
    turns = contents if isinstance(contents, list) else [contents]
    text = "\n".join(_text_of(turn) for turn in turns)
    others = [part for turn in turns for part in _parts(turn) if "text" not in part]
    sizes = [(_media_tokens(part, find), _is_audio(part)) for part in others]
    media, audio = (sum(size for size, is_audio in sizes if is_audio == wanted) for wanted in (False, True))
    if not text and not media and not audio:
        raise ApiError(400, "* GenerateContentRequest.contents: contents.parts must not be empty")
    config = field(body, "generationConfig") or {}
    _refuse_unknown(body, _FIELDS, "request")
    _refuse_unknown(config, _CONFIG_FIELDS, "request.generation_config")
    schema = field(config, "responseSchema") or field(config, "responseJsonSchema")
    if tool:
        schema = field(tool, "parameters") or field(tool, "parametersJsonSchema")
    thinking = field(config, "thinkingConfig") or {}
    return Prompt(
        model,
        system,
        text,
        digest,
        schema,
        max_tokens=field(config, "maxOutputTokens"),
        media_tokens=media,
        audio_tokens=audio,
        thoughts=gemini_thoughts(model, field(thinking, "thinkingLevel"), field(thinking, "thinkingBudget")),
        searches=any(field(given, "googleSearch") is not None for given in body.get("tools") or ()),
        opens_pages=any(field(given, "urlContext") is not None for given in body.get("tools") or ()),
        picture="IMAGE" in (field(config, "responseModalities") or ()),
    )


def _refuse_unknown(given: Body, known: frozenset[str], place: str) -> None:
    """Raise `ApiError` 400 for a name that the message lacks: Protobuf's JSON takes none."""
    for name in given:
        if re.sub("_([a-z])", lambda found: found[1].upper(), name) not in known:
            text = f"Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."
            raise ApiError(400, text)


def _is_audio(part: Body) -> bool:
    return str(field(field(part, "inlineData") or {}, "mimeType") or "").startswith("audio/")


def _text_of(content: Any) -> str:
    return "\n".join(str(part["text"]) for part in _parts(content) if "text" in part)


def _parts(content: Any) -> list[Body]:
    parts: list[Body] = content if isinstance(content, list) else (content or {}).get("parts") or []
    return parts


def _media_tokens(part: Body, find: Find) -> int:
    inline, named = field(part, "inlineData"), field(part, "fileData")
    if inline is not None:
        _check_inline(inline)
    if named is None:
        return _MEDIA_TOKENS
    file = find(str(field(named, "fileUri") or ""))
    if file is not None and not file.mime.startswith("video/"):
        return _MEDIA_TOKENS
    seconds = _ELSEWHERE_SECONDS if file is None else video_seconds(Path(file.path))
    fps = float(field(field(part, "videoMetadata") or {}, "fps") or 1)
    if not 0 < fps <= 24:
        raise ApiError(400, "* GenerateContentRequest.contents.parts.video_metadata.fps: must be in (0.0, 24.0]")
    return max(1, round(seconds * fps * _MEDIA_TOKENS))


def _check_inline(inline: Body) -> None:
    body = decoded(inline["data"], "Invalid value at 'contents.parts.inline_data.data' (TYPE_BYTES)")
    kind = str(field(inline, "mimeType") or "")
    if not kind:
        raise ApiError(400, "* GenerateContentRequest.contents.parts.inline_data.mime_type: must not be empty")
    if kind.startswith("image/") and image_type(body) is None:
        raise ApiError(400, "Unable to process input image.")


def _usage(reply: Reply) -> dict[str, Any]:
    """Return the usage: `promptTokenCount` includes what came from the cache, and not what the model's own tools read."""
    usage = reply.usage
    asked = usage.input_tokens - usage.tool
    shown: dict[str, Any] = {
        "promptTokenCount": asked,
        "candidatesTokenCount": usage.output_tokens - usage.thoughts,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": asked - usage.audio}],
    }
    if usage.tool:
        shown["toolUsePromptTokenCount"] = usage.tool
        shown["toolUsePromptTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.tool}]
    if usage.picture:
        shown["candidatesTokensDetails"] = [{"modality": "IMAGE", "tokenCount": usage.picture}]
    if usage.audio:
        shown["promptTokensDetails"] += [{"modality": "AUDIO", "tokenCount": usage.audio}]
    if usage.cached_tokens:
        shown["cachedContentTokenCount"] = usage.cached_tokens
        shown["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.cached_tokens}]
        if usage.audio:
            shown["cacheTokensDetails"] += [{"modality": "AUDIO", "tokenCount": 0}]
    return shown | ({"thoughtsTokenCount": usage.thoughts} if usage.thoughts else {})

"""The quick way to read the most common result line, a success with text, into typed values: in half the time, or less.

Each reader gives None for any line of another shape, or with anything unexpected in the places that are read; the adapter
reads that one in full, and says what it is. Both ways come to the same (tests/providers/conformance/test_lines.py).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from nightbatch.core.models import Answer, ResultLine, Usage

_Tokens = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]  # as in `wire.usage`
# What msgspec raises for a line that is not as declared, or no JSON at all; the second for text that is no UTF-8.
_OTHER = (msgspec.DecodeError, UnicodeDecodeError)


class _Shape(msgspec.Struct, gc=False):
    """The base of all shapes: keys that are not declared are passed over. A tag alone would also take an object without one."""


_Nothing = Annotated[list[object], msgspec.Meta(max_length=0)]
_No = Annotated[int, msgspec.Meta(ge=0, le=0)]


class _TokensTaken(_Shape):
    cached_tokens: _Tokens | None = None
    cache_write_tokens: _Tokens | None = None


class _TokensGiven(_Shape):
    reasoning_tokens: _Tokens | None = None


class _ResponseUsage(_Shape):
    input_tokens: _Tokens
    output_tokens: _Tokens
    input_tokens_details: _TokensTaken | None = None
    output_tokens_details: _TokensGiven | None = None


class _OutputText(_Shape):
    type: Literal["output_text"]
    text: str
    annotations: _Nothing | None = None
    logprobs: _Nothing | None = None


class _Message(_Shape, tag_field="type", tag="message"):
    content: list[_OutputText]
    phase: Literal["final_answer"] | None = None


class _Reasoning(_Shape, tag_field="type", tag="reasoning", forbid_unknown_fields=True):
    """A reasoning item, which comes before the message; a line with one that shows its thoughts is read in full."""

    id: object = None
    status: object = None
    summary: _Nothing | None = None
    content: _Nothing | None = None
    encrypted_content: None = None


class _Searches(_Shape):
    num_requests: _No | None = None


class _Pictures(_Shape):
    total_tokens: _No | None = None


class _ToolUsage(_Shape):
    web_search: _Searches | None = None
    image_gen: _Pictures | None = None


class _Response(_Shape):
    object: Literal["response"]
    status: Literal["completed"]
    output: list[_Message | _Reasoning]
    usage: _ResponseUsage
    incomplete_details: None = None
    model: str | None = None
    service_tier: Literal["default", "standard", "auto", "batch"] | None = None
    tool_usage: _ToolUsage | None = None


class _OpenAIResponse(_Shape):
    status_code: Literal[200]
    body: _Response


class _OpenAILine(_Shape):
    custom_id: str
    response: _OpenAIResponse


_read_openai = msgspec.json.Decoder(_OpenAILine).decode


def openai_line(line: bytes) -> ResultLine | None:
    """Return the result in a plain line of OpenAI's responses endpoint, None for any other line."""
    try:
        found = _read_openai(line)
    except _OTHER:
        return None
    body = found.response.body
    messages = [item for item in body.output if isinstance(item, _Message)]
    if len(messages) != 1:
        return None  # which of them is the answer?
    tokens = body.usage
    taken, given = tokens.input_tokens_details, tokens.output_tokens_details
    cached, written = (taken.cached_tokens, taken.cache_write_tokens) if taken else (0, None)
    thoughts = given.reasoning_tokens if given else None
    units = (("cache_write_tokens", written), ("output_reasoning_tokens", thoughts)) if written or thoughts else ()
    texts = [part.text for part in messages[0].content]
    return _success(
        line, found.custom_id, texts, body.status, body.model, tokens.input_tokens, tokens.output_tokens, cached, units
    )


class _Text(_Shape):
    type: Literal["text"]
    text: str
    citations: _Nothing | None = None


class _Lifetimes(_Shape, forbid_unknown_fields=True):
    ephemeral_5m_input_tokens: _Tokens | None = None
    ephemeral_1h_input_tokens: _Tokens | None = None


class _ServerTools(_Shape, forbid_unknown_fields=True):
    web_search_requests: _No | None = None
    web_fetch_requests: object = None


class _Thinking(_Shape):
    thinking_tokens: _No | None = None


class _MessageUsage(_Shape):
    input_tokens: _Tokens
    output_tokens: _Tokens
    cache_read_input_tokens: _Tokens | None = None
    cache_creation_input_tokens: _Tokens | None = None
    cache_creation: _Lifetimes | None = None
    server_tool_use: _ServerTools | None = None
    output_tokens_details: _Thinking | None = None
    inference_geo: Literal["", "not_available", "global"] | None = None
    speed: Literal["", "standard"] | None = None
    service_tier: Literal["standard", "batch"] | None = None
    iterations: _Nothing | None = None


class _AnthropicMessage(_Shape):
    content: list[_Text]
    stop_reason: Literal["end_turn"]
    usage: _MessageUsage
    model: str | None = None
    stop_sequence: None = None
    stop_details: None = None
    container: None = None


class _AnthropicResult(_Shape):
    type: Literal["succeeded"]
    message: _AnthropicMessage


class _AnthropicLine(_Shape):
    custom_id: str
    result: _AnthropicResult


_read_anthropic = msgspec.json.Decoder(_AnthropicLine).decode


def anthropic_line(line: bytes) -> ResultLine | None:
    """Return the result in a plain line of Anthropic's messages endpoint, without thoughts or tools; None for any other line."""
    try:
        found = _read_anthropic(line)
    except _OTHER:
        return None
    message = found.result.message
    tokens = message.usage
    cached, written = tokens.cache_read_input_tokens or 0, tokens.cache_creation_input_tokens
    lifetimes = tokens.cache_creation
    if not written and lifetimes and (lifetimes.ephemeral_5m_input_tokens or lifetimes.ephemeral_1h_input_tokens):
        return None
    return _success(
        line,
        found.custom_id,
        [block.text for block in message.content],
        message.stop_reason,
        message.model,
        tokens.input_tokens + cached + (written or 0),
        tokens.output_tokens,
        cached,
        _written(written, lifetimes) if written else (),
    )


def _written(written: int, lifetimes: _Lifetimes | None) -> tuple[tuple[str, int | None], ...]:
    """Return the units of what went into a cache, and of how long it stays there."""
    total = (("cache_write_tokens", written),)
    if lifetimes is None:
        return total
    short, long = lifetimes.ephemeral_5m_input_tokens, lifetimes.ephemeral_1h_input_tokens
    return (*total, ("cache_write_5m_tokens", short), ("cache_write_1h_tokens", long))


class _Part(_Shape, forbid_unknown_fields=True):
    text: str


class _Content(_Shape):
    parts: list[_Part]


class _Candidate(_Shape, forbid_unknown_fields=True):
    content: _Content
    finishReason: Literal["STOP"]
    index: object = None
    avgLogprobs: object = None
    tokenCount: object = None
    safetyRatings: object = None


class _TextTokens(_Shape):
    """A count of text tokens: where all is text, the totals say as much."""

    modality: Literal["TEXT"]
    tokenCount: _Tokens | None = None


class _UsageMetadata(_Shape):
    promptTokenCount: _Tokens
    candidatesTokenCount: _Tokens
    thoughtsTokenCount: _Tokens | None = None
    cachedContentTokenCount: _Tokens | None = None
    toolUsePromptTokenCount: _No | None = None
    serviceTier: Literal["standard"] | None = None
    promptTokensDetails: list[_TextTokens] | None = None
    candidatesTokensDetails: list[_TextTokens] | None = None
    cacheTokensDetails: list[_TextTokens] | None = None
    toolUsePromptTokensDetails: list[_TextTokens] | None = None


class _GeminiResponse(_Shape):
    candidates: list[_Candidate]
    usageMetadata: _UsageMetadata
    promptFeedback: None = None
    embedding: None = None
    modelVersion: str | None = None


class _GeminiLine(_Shape):
    key: str
    response: _GeminiResponse
    error: None = None


_read_gemini = msgspec.json.Decoder(_GeminiLine).decode


def gemini_line(line: bytes) -> ResultLine | None:
    """Return the result in a plain line of a Gemini chat with one candidate, None for any other line."""
    try:
        found = _read_gemini(line)
    except _OTHER:
        return None
    response = found.response
    if len(response.candidates) != 1:
        return None
    candidate, tokens = response.candidates[0], response.usageMetadata
    texts = [part.text for part in candidate.content.parts]
    thoughts = tokens.thoughtsTokenCount
    output = tokens.candidatesTokenCount + (thoughts or 0)
    cached, model, reason = tokens.cachedContentTokenCount, response.modelVersion, candidate.finishReason
    units = (("output_reasoning_tokens", thoughts),) if thoughts else ()
    return _success(line, found.key, texts, reason, model, tokens.promptTokenCount, output, cached, units)


def _success(
    line: bytes,
    custom_id: str,
    texts: list[str],
    reason: str,
    model: str | None,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int | None,
    units: tuple[tuple[str, int | None], ...],
) -> ResultLine | None:
    text, cached = "".join(texts), cached_tokens or 0
    if not text or cached > input_tokens or max(input_tokens, output_tokens) >= 2**31:
        return None
    answer = Answer("succeeded", text, None, reason, model)
    told = tuple((name, count) for name, count in units if count) if units else ()
    return ResultLine(custom_id, "succeeded", line, True, answer, Usage(input_tokens, output_tokens, cached, told))

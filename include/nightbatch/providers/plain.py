"""The lines that nearly all lines are, a success with text, read straight into typed values: in half the time, or less.

Each of these gives None for any line of another shape, or with anything unexpected in the places that are read; the adapter
reads that one in full, and says what it is. Both ways come to the same (tests/providers/conformance/test_lines.py).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from nightbatch.models import Answer, ResultLine, Usage

_Tokens = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]  # as in `wire.usage`
# What msgspec raises for a line that is not as declared, or no JSON at all; the second for text that is no UTF-8.
_OTHER = (msgspec.DecodeError, UnicodeDecodeError)


class _Shape(msgspec.Struct, gc=False):
    """Keys that are not declared are passed over. A tag alone would also take an object without one."""


class _CachedTokens(_Shape):
    cached_tokens: _Tokens | None = None


class _ResponseUsage(_Shape):
    input_tokens: _Tokens
    output_tokens: _Tokens
    input_tokens_details: _CachedTokens | None = None


class _OutputText(_Shape):
    type: Literal["output_text"]
    text: str


class _Message(_Shape, tag_field="type", tag="message"):
    content: list[_OutputText]


class _Reasoning(_Shape, tag_field="type", tag="reasoning"):
    """Comes before the message; what it holds is not read."""


class _Response(_Shape):
    object: Literal["response"]
    status: Literal["completed"]
    output: list[_Message | _Reasoning]
    usage: _ResponseUsage
    incomplete_details: None = None
    model: str | None = None


class _OpenAIResponse(_Shape):
    status_code: Literal[200]
    body: _Response


class _OpenAILine(_Shape):
    custom_id: str
    response: _OpenAIResponse


_read_openai = msgspec.json.Decoder(_OpenAILine).decode


def openai_line(line: bytes) -> ResultLine | None:
    """Of the responses endpoint."""
    try:
        found = _read_openai(line)
    except _OTHER:
        return None
    body = found.response.body
    details = body.usage.input_tokens_details
    texts = [part.text for item in body.output if isinstance(item, _Message) for part in item.content]
    cached = details.cached_tokens if details else 0
    return _success(
        line, found.custom_id, texts, body.status, body.model, body.usage.input_tokens, body.usage.output_tokens, cached
    )


class _Text(_Shape):
    type: Literal["text"]
    text: str


class _MessageUsage(_Shape):
    input_tokens: _Tokens
    output_tokens: _Tokens
    cache_read_input_tokens: _Tokens | None = None
    cache_creation_input_tokens: _Tokens | None = None


class _AnthropicMessage(_Shape):
    content: list[_Text]
    stop_reason: Literal["end_turn", "stop_sequence"]
    usage: _MessageUsage
    model: str | None = None


class _AnthropicResult(_Shape):
    type: Literal["succeeded"]
    message: _AnthropicMessage


class _AnthropicLine(_Shape):
    custom_id: str
    result: _AnthropicResult


_read_anthropic = msgspec.json.Decoder(_AnthropicLine).decode


def anthropic_line(line: bytes) -> ResultLine | None:
    """Of the messages endpoint, without thoughts or tools."""
    try:
        found = _read_anthropic(line)
    except _OTHER:
        return None
    message = found.result.message
    tokens = message.usage
    cached = tokens.cache_read_input_tokens or 0
    total = tokens.input_tokens + cached + (tokens.cache_creation_input_tokens or 0)
    texts = [block.text for block in message.content]
    return _success(
        line, found.custom_id, texts, message.stop_reason, message.model, total, tokens.output_tokens, cached
    )


class _Part(_Shape, forbid_unknown_fields=True):
    text: str
    thoughtSignature: str | None = None


class _Content(_Shape):
    parts: list[_Part]


class _Candidate(_Shape):
    content: _Content
    finishReason: Literal["STOP"]


class _UsageMetadata(_Shape):
    promptTokenCount: _Tokens
    candidatesTokenCount: _Tokens
    thoughtsTokenCount: _Tokens | None = None
    cachedContentTokenCount: _Tokens | None = None


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
    """Of a chat with one candidate."""
    try:
        found = _read_gemini(line)
    except _OTHER:
        return None
    response = found.response
    if len(response.candidates) != 1:
        return None
    candidate, tokens = response.candidates[0], response.usageMetadata
    texts = [part.text for part in candidate.content.parts]
    output = tokens.candidatesTokenCount + (tokens.thoughtsTokenCount or 0)
    cached, model, reason = tokens.cachedContentTokenCount, response.modelVersion, candidate.finishReason
    return _success(line, found.key, texts, reason, model, tokens.promptTokenCount, output, cached)


def _success(
    line: bytes,
    custom_id: str,
    texts: list[str],
    reason: str,
    model: str | None,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int | None,
) -> ResultLine | None:
    text, cached = "".join(texts), cached_tokens or 0
    if not text or cached > input_tokens or max(input_tokens, output_tokens) >= 2**31:
        return None
    answer = Answer("succeeded", text, None, reason, model)
    return ResultLine(custom_id, "succeeded", line, True, answer, Usage(input_tokens, output_tokens, cached))

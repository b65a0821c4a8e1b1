"""The functions that an answer calls, in one shape for all providers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from nightbatch.core.models import Answer


class ToolCall(NamedTuple):
    """One call of a function; ``arguments`` is JSON, as the model wrote it."""

    name: str
    arguments: str


def tool_calls(answer: Answer) -> list[ToolCall]:
    """Return the calls of the first choice, in their order; empty where the answer calls nothing."""
    return list(_calls(_decode(answer.message))) if answer.message else []


_decode = msgspec.json.Decoder(float_hook=msgspec.Raw).decode  # numbers keep their digits


def _calls(message: Any) -> Iterator[ToolCall]:
    """Yield the calls of functions in a message, whichever provider's words it is in.

    https://platform.openai.com/docs/guides/function-calling, https://platform.claude.com/docs/en/build-with-claude/tool-use,
    https://ai.google.dev/gemini-api/docs/function-calling
    """
    for item in message.get("output") or ():  # Responses
        if item.get("type") == "function_call":
            yield ToolCall(item["name"], item["arguments"])
    for choice in (message.get("choices") or ())[:1]:  # chat completions
        for call in choice["message"].get("tool_calls") or ():
            if function := call.get("function"):
                yield ToolCall(function["name"], function["arguments"])
    for block in message.get("content") or ():  # Anthropic
        if block.get("type") == "tool_use":
            yield ToolCall(block["name"], _as_json(block["input"]))
    for candidate in (message.get("candidates") or ())[:1]:  # Gemini
        for part in (candidate.get("content") or {}).get("parts") or ():
            if call := part.get("functionCall"):
                yield ToolCall(call["name"], _as_json(call.get("args") or {}))


def _as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()

"""Say which models think, how much, and what they refuse to be told about it: from the providers' documents, on its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nightbatch_local.emulator.errors import ApiError

Body = Mapping[str, Any]

# Tokens of a usual thought. Where a document names no number, these are the emulator's own.
_USUAL = {"none": 0, "minimal": 60, "low": 300, "medium": 500, "high": 4_000, "xhigh": 12_000, "max": 12_000}
_EFFORTS = tuple(_USUAL)
# https://platform.openai.com/docs/guides/reasoning
_OPENAI_THINKS = re.compile(r"o\d|gpt-(?:[5-9]|\d\d)")
_OPENAI_VERSION = re.compile(r"gpt-(\d+)(?:\.(\d+))?")
# https://platform.claude.com/docs/en/build-with-claude/thinking
_CLAUDE_VERSION = re.compile(r"claude-[a-z]+-(\d+)(?:-(\d{1,2})(?!\d))?")
_MIN_BUDGET = 1024
# https://ai.google.dev/gemini-api/docs/thinking
_GEMINI_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_GEMINI_LEVELS = ("MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH")


def openai_thoughts(model: str, effort: Any, param: str) -> int:
    """Return how many tokens a model usually thinks. Raises `ApiError` for an effort that it does not take."""
    thinks = _OPENAI_THINKS.match(model) is not None and "chat" not in model
    if effort is None:
        return _USUAL[_openai_default(model)] if thinks else 0
    if not thinks and not model.startswith("emulator-"):
        raise ApiError(
            400,
            f"Unsupported parameter: '{param}' is not supported with this model.",
            param=param,
            code="unsupported_parameter",
        )
    version = _version(_OPENAI_VERSION, model)
    refused = {
        "none": version < (5, 1),
        "minimal": version != (5, 0),
        "xhigh": version < (5, 2),
        "max": version < (6, 1),
    }
    if effort not in _EFFORTS or (thinks and refused.get(effort, False)):
        raise ApiError(
            400,
            f"Unsupported value: '{param}' does not support '{effort}' with the '{model}' model.",
            param=param,
            code="unsupported_value",
        )
    return _USUAL[effort]


def _openai_default(model: str) -> str:
    """Return a model's effort if it is told none: GPT-5.1 to 5.5 do not think then; all others do so by themselves."""
    return "none" if (5, 1) <= _version(_OPENAI_VERSION, model) < (5, 6) else "medium"


def refuse_openai_temperature(body: Body, thoughts: int) -> None:
    """Raise `ApiError` where a model that thinks is given a temperature."""
    if thoughts and body.get("temperature") not in (None, 1):
        raise ApiError(
            400,
            "Unsupported parameter: 'temperature' is not supported with this model.",
            param="temperature",
            code="unsupported_parameter",
        )


def anthropic_thoughts(params: Body) -> int:
    """Return how many tokens a model usually thinks. Raises `ApiError` for what it does not take."""
    thinking, output = params.get("thinking") or {}, params.get("output_config") or {}
    version, kind = _version(_CLAUDE_VERSION, params["model"]), thinking.get("type")
    if "effort" in output and (output["effort"] not in _EFFORTS[2:] or version < (4, 5)):
        raise ApiError(400, "output_config.effort: This model does not support the effort parameter.")
    if kind is None or kind == "disabled":
        return 0
    if (kind == "adaptive" and version < (4, 6)) or (kind == "enabled" and version >= (4, 7)):
        raise ApiError(400, f"thinking.type: {kind} is not supported on this model")
    budget = thinking.get("budget_tokens", 0)
    if kind == "enabled":
        if not isinstance(budget, int) or budget < _MIN_BUDGET:
            raise ApiError(400, "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= params["max_tokens"]:
            raise ApiError(400, "`max_tokens` must be greater than `thinking.budget_tokens`")
    if (params.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise ApiError(400, "Thinking may not be enabled when tool_choice forces tool use.")
    return int(budget) // 2 if kind == "enabled" else _USUAL[output.get("effort", "high")]


def gemini_thoughts(model: str, level: Any, budget: Any) -> int:
    """Return how many tokens a model usually thinks. Raises `ApiError` for what it does not take."""
    version = _version(_GEMINI_VERSION, model)
    if level is not None and budget is not None:
        raise ApiError(400, "You can only set only one of thinking budget and thinking level.")
    if level is not None:
        if version < (3, 0) or str(level).upper() not in _GEMINI_LEVELS:
            raise ApiError(400, "Thinking level is not supported for this model.")
        return _USUAL[str(level).lower()]
    if budget is not None:
        if version < (2, 5):
            raise ApiError(400, "Thinking is not enabled for this model.")
        if budget == 0 and ("pro" in model or version >= (3, 0)):
            raise ApiError(400, "Budget 0 is invalid. This model only works in thinking mode.")
        return _USUAL["medium"] if budget < 0 else int(budget) // 2
    if version < (2, 5) or (version < (3, 0) and "lite" in model) or "image" in model:
        return 0
    return _USUAL["medium"]


def _version(pattern: re.Pattern[str], model: str) -> tuple[int, int]:
    found = pattern.match(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)

"""How much a model thinks, in each provider's words, and the room that its thoughts need beside the answer.

Which model takes what is told by its name. Of a name that is not known nothing is assumed: what a job asks for is sent as it
stands, and what it does not ask for is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from nightbatch.core.errors import Rejected
from nightbatch.core.models import Effort, Prompt

# Tokens that thoughts of an effort rarely pass. What is not used costs nothing: a limit is no order.
_ROOM: Mapping[Effort | None, int] = MappingProxyType(
    {
        None: 16_384, "none": 0, "minimal": 4_096, "light": 8_192, "low": 8_192, "medium": 16_384, "high": 32_768,
        "max": 49_152,
    }
)  # fmt: skip
# No model that thinks takes less as its limit: https://platform.claude.com/docs/en/about-claude/models/overview
_LONGEST = 64_000

# https://platform.openai.com/docs/guides/reasoning: all o-models and GPT-5 and later think, but for these forms of them
_OPENAI = re.compile(r"(?:ft:)?(?:o(?P<o>\d+)|gpt-(?P<major>\d+)(?:\.(?P<minor>\d+))?)(?![\d.])(?P<form>[-a-z0-9]*)")
_OPENAI_QUIET = ("chat", "image", "audio", "realtime", "transcribe", "tts", "search", "live", "instruct")
# https://platform.claude.com/docs/en/build-with-claude/thinking: a budget up to 4.5, adaptive from 4.6 on
_CLAUDE = re.compile(r"claude-(?:(?P<old>3-7)|(?P<name>[a-z]+)-(?P<major>\d+)(?:-(?P<minor>\d{1,2})(?!\d))?)")
_ALWAYS_THINK = ("fable", "mythos")
# Budgets have at least 1,024 tokens, and are part of max_tokens
_CLAUDE_BUDGET = {"light": 0, "none": 0, "minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "max": 24_576}
# https://ai.google.dev/gemini-api/docs/thinking: a budget for 2.5, a level from 3 on
_GEMINI = re.compile(r"gemini-(?P<major>\d+)(?:\.(?P<minor>\d+))?-(?P<form>[-a-z0-9]*)|gemini-(?P<bare>\d+)")
_GEMINI_QUIET = ("image", "tts", "live", "audio", "embedding", "robotics", "banana")
_GEMINI_BUDGET = {"light": 1_024, "minimal": 512, "low": 2_048, "medium": 8_192, "high": 16_384, "max": 24_576}


class Thinking(NamedTuple):
    """``words`` are merged into the body (Gemini: its ``thinkingConfig``); ``limit`` is the tokens of thoughts and answer."""

    words: dict[str, Any]
    limit: int


def of_openai(model: str, prompt: Prompt) -> Thinking:
    """Return the word for ``reasoning.effort`` as ``effort``, and the limit. Raises `Rejected` for what the model cannot do."""
    found = _OPENAI.match(model)
    if found is None:
        return _unknown(prompt, {"effort": prompt.effort})
    version = (0, 0) if found["o"] else (int(found["major"]), int(found["minor"] or 0))
    if any(form in found["form"] for form in _OPENAI_QUIET) or (0, 0) < version < (5, 0):
        return _silent(model, prompt)
    if prompt.effort is None:
        return Thinking({}, longest(prompt))
    return Thinking({"effort": _openai_word(model, version, found["form"], prompt.effort)}, longest(prompt))


def _openai_word(model: str, version: tuple[int, int], form: str, effort: Effort) -> str:
    """Return OpenAI's word for an effort. Raises `Rejected` for what the model cannot do.

    https://platform.openai.com/docs/api-reference/responses/create#responses-create-reasoning
    """
    if form.startswith("-pro") and version > (0, 0):  # of these the least is high, or medium
        least = "medium" if version > (5, 1) else "high"
        if effort == "none":
            raise Rejected(f"{model} always thinks: the least effort is minimal")
        return least if effort in ("light", "minimal", "low") or least == "high" else _most(version, effort)
    if effort == "none" and version < (5, 1):
        raise Rejected(f"{model} always thinks: the least effort is minimal")
    if effort == "minimal":
        return "minimal" if version == (5, 0) else "low"
    return "low" if effort == "light" else _most(version, effort)


def _most(version: tuple[int, int], effort: Effort) -> str:
    if effort != "max":
        return effort
    return "xhigh" if version >= (5, 2) else "high"


def of_anthropic(model: str, prompt: Prompt) -> Thinking:
    """Return ``thinking`` and ``effort`` (of ``output_config``). Raises `Rejected` for what the model cannot do."""
    found = _CLAUDE.match(model)
    if found is None:
        adaptive = {"thinking": {"type": "adaptive"}, "effort": prompt.effort}
        return _silent(model, prompt) if model.startswith("claude-") else _unknown(prompt, adaptive)
    version = (3, 7) if found["old"] else (int(found["major"]), int(found["minor"] or 0))
    if version < (4, 6):
        return _with_budget(prompt)
    if prompt.effort in (None, "light"):
        return Thinking({}, longest(prompt))
    if prompt.effort == "none":
        if found["name"] in _ALWAYS_THINK:
            raise Rejected(f"{model} always thinks: the least effort is minimal")
        return Thinking({"thinking": {"type": "disabled"}}, longest(prompt))
    effort = "low" if prompt.effort == "minimal" else prompt.effort
    return Thinking({"thinking": {"type": "adaptive"}, "effort": effort}, longest(prompt))


def _with_budget(prompt: Prompt) -> Thinking:
    """Return the budget for one of the models that think only when they are given one."""
    budget = prompt.thinking_tokens or _CLAUDE_BUDGET[prompt.effort or "none"]
    if not budget:
        return Thinking({}, prompt.max_tokens)
    budget = max(budget, 1_024)
    return Thinking({"thinking": {"type": "enabled", "budget_tokens": budget}}, prompt.max_tokens + budget)


def of_gemini(model: str, prompt: Prompt) -> Thinking:
    """Return the members of ``thinkingConfig``. Raises `Rejected` for what the model cannot do."""
    name = model.removeprefix("models/")
    found = _GEMINI.match(name)
    if found is None:
        level = {"thinkingLevel": str(prompt.effort).upper()}
        return _silent(model, prompt) if name.startswith(("gemma", "gemini-embedding")) else _unknown(prompt, level)
    version, form = (int(found["major"] or found["bare"]), int(found["minor"] or 0)), found["form"] or ""
    if version < (2, 5) or any(quiet in form for quiet in _GEMINI_QUIET):
        return _silent(model, prompt)
    if version < (3, 0):
        return _gemini_budget(model, form, prompt)
    if prompt.effort == "none":
        raise Rejected(f"{model} always thinks: the least effort is minimal")
    if prompt.effort is None:
        return Thinking({}, longest(prompt))
    # Pro has no level below low, and 3 Pro none between low and high
    words = {"light": "LOW", "max": "HIGH", "minimal": "LOW" if "pro" in form else "MINIMAL"}
    return Thinking({"thinkingLevel": words.get(prompt.effort, prompt.effort.upper())}, longest(prompt))


def _gemini_budget(model: str, form: str, prompt: Prompt) -> Thinking:
    if prompt.effort == "none":
        if "pro" in form:
            raise Rejected(f"{model} always thinks: the least effort is minimal")
        return Thinking({"thinkingBudget": 0}, prompt.max_tokens)
    if prompt.thinking_tokens is None and (prompt.effort is None or (prompt.effort == "light" and "lite" in form)):
        return Thinking({}, longest(prompt))
    budget = prompt.thinking_tokens or _GEMINI_BUDGET[prompt.effort or "low"]
    return Thinking({"thinkingBudget": budget}, prompt.max_tokens + budget)


def _silent(model: str, prompt: Prompt) -> Thinking:
    """Return a limit without words, for a model that does not think. Raises `Rejected` for an effort that asks for thoughts."""
    if prompt.effort not in (None, "light", "none"):
        raise Rejected(f"{model[:60]} does not think: leave effort out")
    return Thinking({}, prompt.max_tokens)


def _unknown(prompt: Prompt, words: dict[str, Any]) -> Thinking:
    if prompt.effort in (None, "light"):
        return Thinking({}, prompt.max_tokens + (prompt.thinking_tokens or 0))
    return Thinking(words, longest(prompt))


def longest(prompt: Prompt) -> int:
    """Return the most tokens that thoughts and answer may have, on a model that thinks.

    Thoughts count as output: without room of their own they cut the answer off, which is paid all the same.
    """
    if prompt.thinking_tokens is not None:
        return prompt.max_tokens + prompt.thinking_tokens
    return max(prompt.max_tokens, min(prompt.max_tokens + _ROOM[prompt.effort], _LONGEST))

"""Anthropic's result lines.

https://docs.anthropic.com/en/api/retrieving-message-batch-results
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from nightbatch.core.models import Answer, ResultLine, UnreadableLine, Usage
from nightbatch.providers import plain
from nightbatch.providers.wire import (
    as_json,
    brief,
    digits_kept,
    read_object,
    said,
    something,
    sum_tokens,
    tier,
    usage,
    well_formed,
    why_unusable,
)

# https://docs.anthropic.com/en/api/handling-stop-reasons
_WHOLE = ("end_turn", "stop_sequence", "tool_use")
# What the provider did itself on the way to its answer; a block of any other type is an answer.
_WORKINGS = ("thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use", "compaction")
_KEPT = ("content", "stop_reason", "stop_sequence", "stop_details", "container")
# Faults of a request: any other kind of error, also one that is new or not named, is tried again within the type's attempts.
# The key was good for the batch: what a line says of rights is about what that request asks for, unless a code says otherwise.
_OF_THE_REQUEST = (
    "invalid_request_error", "not_found_error", "request_too_large", "authentication_error", "permission_error",
)  # fmt: skip
# Codes of trouble with the account, a limit that it set included: anthropic/types/shared/error_details.py of the SDK
_ACCOUNT = re.compile("spend_limit|billing|billable|organization|cmek_|user_profile|credit|sandbox_egress|claude_code")
# The same in words, as an invalid request or a rate limit without a code: https://docs.claude.com/en/api/errors
_SPENT = (
    "credit balance", "spend limit", "spending limit", "usage limits", "billing", "api usage limit",
    "organization has been disabled", "organization is disabled", "on hold",
)  # fmt: skip
_LIFETIMES = {
    "ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "ephemeral_1h_input_tokens": "cache_write_1h_tokens",
}
_FREE = ("web_fetch_requests",)  # https://docs.claude.com/en/docs/about-claude/pricing
_TOOLS = {"web_search_requests": "web_searches", "code_execution_requests": "code_executions"}
_USUAL_PLACES = (None, "", "not_available", "global")


def read(line: bytes) -> ResultLine | UnreadableLine:
    """Return what a line of the results says."""
    return plain.anthropic_line(line) or read_in_full(line)


def read_in_full(line: bytes) -> ResultLine | UnreadableLine:
    """Return what a line of any shape says."""
    found = read_object(line)
    if isinstance(found, UnreadableLine):
        return found
    try:
        return well_formed(_result(line, found["custom_id"], found["result"]))
    except (KeyError, TypeError, AttributeError):
        return UnreadableLine(line, "the line does not have the shape of an Anthropic result")


def _result(line: bytes, custom_id: str, result: dict[str, Any]) -> ResultLine | UnreadableLine:
    match result["type"]:
        case "succeeded":
            return _succeeded(line, custom_id, result["message"])
        case "errored":
            return _errored(line, custom_id, result.get("error"))
        case "canceled":
            return ResultLine(
                custom_id, "cancelled", line, billed=False, error="the batch was cancelled", retryable=True
            )
        case "expired":
            return ResultLine(custom_id, "expired", line, billed=False, error="the batch expired", retryable=True)
        case unknown:
            return UnreadableLine(line, f"Anthropic sent a result of the unknown type {str(unknown)[:50]}")


def _errored(line: bytes, custom_id: str, error: Any) -> ResultLine:
    """Return the result of an error, which stands in an envelope or by itself."""
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    kind = error.get("type") if isinstance(error, dict) else None
    text = brief(f"{kind}: {said(error)}" if kind else said(error) or "without an explanation")
    account = is_of_the_account(error if isinstance(error, dict) else {"message": text})
    again = account or kind not in _OF_THE_REQUEST
    return ResultLine(custom_id, "errored", line, billed=False, error=text, retryable=again, account=account)


def is_of_the_account(error: Mapping[str, Any]) -> bool:
    """Return whether an error speaks of credit, a limit of money, or the organization.

    Its message is read only where there is no code, as the SDK itself advises.
    """
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    if error.get("type") == "billing_error":
        return True
    if code:
        return bool(_ACCOUNT.search(str(code)))
    return any(word in said(error).lower() for word in _SPENT)


def _succeeded(line: bytes, custom_id: str, message: dict[str, Any]) -> ResultLine:
    answer = _answer(line, message)
    counted, error = _usage(message.get("usage") or {}), why_unusable(answer)
    return ResultLine(custom_id, answer.outcome, line, billed=True, answer=answer, usage=counted, error=error)


def _answer(line: bytes, message: dict[str, Any]) -> Answer:
    content, reason = message["content"], message.get("stop_reason")
    text = "".join(block["text"] for block in content if block["type"] == "text") or None
    answers = any(block["type"] != "text" and not _is_working(block["type"]) for block in content)
    outcome: Literal["succeeded", "refused", "truncated"] = "truncated"
    if reason == "refusal":
        outcome = "refused"
    elif reason in _WHOLE:
        outcome = "succeeded" if text or answers else "refused"
    more = [number for number, block in enumerate(content) if _holds_more(block)]
    if not more and not any(something(message.get(key)) for key in _KEPT[2:]):
        return Answer(outcome, text, None, reason, message.get("model"))
    own = digits_kept(line, message, "result", "message")
    kept = {key: own[key] for key in _KEPT if something(own.get(key))}
    rest = {"content": [own["content"][number] for number in more]} if more else {}
    rest |= {key: kept[key] for key in _KEPT[2:] if key in kept}
    return Answer(outcome, text, None, reason, message.get("model"), as_json(kept) if answers else None, as_json(rest))


def _is_working(kind: str) -> bool:
    return kind in _WORKINGS or kind.endswith("_tool_result")


def _holds_more(block: Mapping[str, Any]) -> bool:
    """Return whether a block holds anything that the text of the answer does not."""
    return block["type"] != "text" or something(block.get("citations"))


def _usage(tokens: dict[str, Any]) -> Usage | None:
    """Return what is billed; ``input_tokens`` are those that neither came from a cache nor went into one."""
    fresh, cached, written = (
        tokens.get(name) for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    )
    total = sum_tokens(fresh, cached, written)
    return usage(
        total if fresh is not None else None,
        tokens.get("output_tokens"),
        cached,
        terms=_terms(tokens),
        cache_write_tokens=written,
        output_reasoning_tokens=(tokens.get("output_tokens_details") or {}).get("thinking_tokens"),
        **_renamed(tokens.get("cache_creation"), _LIFETIMES),
        **_renamed(tokens.get("server_tool_use"), _TOOLS),
    )


def _renamed(counts: Mapping[str, Any] | None, names: Mapping[str, str]) -> dict[str, Any]:
    """Return units by the library's names. A name that is new is kept: it has no price, and so the line has none."""
    return {names.get(name, name): count for name, count in (counts or {}).items() if name not in _FREE}


def _terms(tokens: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what changes the price of all tokens.

    Tokens of iterations other than the message's own, such as a compaction's, are billed but not in the totals.
    https://docs.claude.com/en/docs/about-claude/pricing
    """
    place, speed = tokens.get("inference_geo"), tokens.get("speed")
    terms = [] if place in _USUAL_PLACES else [f"inference_geo={place}"]
    terms += [] if speed in (None, "", "standard") else [f"speed={speed}"]
    others = {turn["type"] for turn in tokens.get("iterations") or ()} - {"message"}
    terms += tier(tokens.get("service_tier"))
    return (*terms, *(f"iteration={kind}" for kind in sorted(others)))

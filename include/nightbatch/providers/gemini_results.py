"""Gemini's result lines.

https://ai.google.dev/api/generate-content#GenerateContentResponse
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from nightbatch.core.models import Answer, ResultLine, UnreadableLine, Usage
from nightbatch.providers import plain
from nightbatch.providers.wire import (
    as_json,
    brief,
    digits_kept,
    parse_vector,
    read_object,
    said,
    something,
    sum_tokens,
    tier,
    usage,
    well_formed,
    why_unusable,
)

# https://ai.google.dev/api/generate-content#FinishReason; an answer without anything in it is refused whatever its reason
_REFUSING = {
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "OTHER", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER", "NO_IMAGE",
}  # fmt: skip
# google.rpc.Code: an error inside an operation or a line has the number only
_CODES = {
    1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND", 7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION", 10: "ABORTED", 13: "INTERNAL", 14: "UNAVAILABLE",
}  # fmt: skip
_NUMBERS = {name: number for number, name in _CODES.items()}
# Faults of a request: any other code, also one that is new or not named, is tried again within the type's attempts.
_OF_THE_REQUEST = {3, 5, 6, 9, 11, 12}
# google.rpc.ErrorInfo: https://cloud.google.com/apis/design/errors#error_info
_ACCOUNT_REASONS = {
    "API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "API_KEY_IP_ADDRESS_BLOCKED", "BILLING_DISABLED", "SERVICE_DISABLED",
    "CONSUMER_SUSPENDED", "CONSUMER_INVALID", "ACCOUNT_STATE_INVALID", "LOCATION_POLICY_VIOLATED",
}  # fmt: skip
# Of a candidate: neither answer nor anything that was paid for.
_LABELS = ("index", "finishReason", "avgLogprobs", "tokenCount", "content")
_WORKINGS = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
_MODALITIES = {"TEXT": "text", "AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}


def read(line: bytes) -> ResultLine | UnreadableLine:
    """Return what a line of the results says."""
    return plain.gemini_line(line) or read_in_full(line)


def read_in_full(line: bytes) -> ResultLine | UnreadableLine:
    """Return what a line of any shape says."""
    found = read_object(line)
    if isinstance(found, UnreadableLine):
        return found
    try:
        return well_formed(_result(line, found))
    except (KeyError, TypeError, IndexError, AttributeError):
        return UnreadableLine(line, "the line does not have the shape of a Gemini result")


def rpc_error(error: Mapping[str, Any]) -> str:
    """Return an error of an operation or a result as one line of text, with the name of its code."""
    code = error.get("code")
    return brief(f"{_CODES.get(code, code) if isinstance(code, int) else code}: {error.get('message')}")


def _result(line: bytes, found: dict[str, Any]) -> ResultLine:
    key = found["key"]
    if error := found.get("error") or (found.get("status") if not found.get("response") else None):
        return _errored(line, key, error)
    response = found["response"]
    if "embedding" in response:
        answer = Answer("succeeded", embeddings=(parse_vector(response["embedding"]["values"]),))
    else:
        answer = _answer(line, response)
    counted, why = _usage(response), why_unusable(answer)
    return ResultLine(key, answer.outcome, line, billed=True, answer=answer, usage=counted, error=why)


def _errored(line: bytes, key: str, error: Any) -> ResultLine:
    """Return the result of an error: a ``google.rpc.Status``, whose code may stand there by its name; or a text."""
    if not isinstance(error, dict):
        text = brief(said(error) or "without an explanation")
        account = is_of_the_account(None, text)
        return ResultLine(key, "errored", line, billed=False, error=text, retryable=True, account=account)
    code, name = error.get("code"), error.get("status")
    if not isinstance(code, int) and isinstance(name or code, str):
        code = _NUMBERS.get(name or code or "", code)
    text = rpc_error(error | {"code": code if code is not None else name})
    if code == 1:
        return ResultLine(key, "cancelled", line, billed=False, error=text, retryable=True)
    # A file that expired or was deleted before its turn is uploaded again for the next attempt.
    lost = code in (7, 403) and "may not exist" in text
    account = not lost and (is_of_the_account(code, text) or names_the_account(error.get("details")))
    retryable = lost or account or not _is_of_the_request(code)
    return ResultLine(key, "errored", line, billed=False, error=text, retryable=retryable, account=account)


def _is_of_the_request(code: object) -> bool:
    """Return whether a code says that the request is at fault, by its number or by an HTTP status in its place."""
    http = isinstance(code, int) and 400 <= code < 500 and code not in (408, 409, 429)
    return http or code in _OF_THE_REQUEST


def names_the_account(details: object) -> bool:
    """Return whether a reason in an error's details is one of the account."""
    reasons = (
        {detail.get("reason") for detail in details if isinstance(detail, dict)} if isinstance(details, list) else set()
    )
    return any(reason in _ACCOUNT_REASONS for reason in reasons)


def is_of_the_account(code: object, message: str) -> bool:
    """Return whether billing, the key, or the place where the machine stands is refused; not a file that is not there."""
    words = (
        "billing", "api key", "credit", "spend", "prepay", "limit: 0", "not available in your country",
        "user location", "location is not supported", "region is not supported", "country is not supported",
    )  # fmt: skip
    return any(word in message.lower() for word in words) or (
        code in (7, 16, 401, 402, 403) and "may not exist" not in message
    )


def _answer(line: bytes, response: dict[str, Any]) -> Answer:
    """Return the answer in a response; a candidate may come without parts, and a blocked prompt without candidates."""
    feedback, candidates = response.get("promptFeedback") or {}, response.get("candidates") or []
    blocked, candidate = feedback.get("blockReason"), (candidates or [{}])[0]
    parts = _parts(candidate)
    text = "".join(part.get("text", "") for part in parts if not part.get("thought")) or None
    answers = len(candidates) > 1 or any(map(_is_answer, parts))
    reason = blocked or candidate.get("finishReason")
    outcome: Literal["succeeded", "refused", "truncated"] = "truncated"
    if blocked or reason in _REFUSING or (reason != "MAX_TOKENS" and not (text or answers)):
        outcome = "refused"
    elif reason == "STOP":
        outcome = "succeeded"
    shown, model = reason or "no candidate", response.get("modelVersion")
    if not answers and not something(feedback) and not _holds_more(candidate, outcome):
        return Answer(outcome, text, None, shown, model)
    own = digits_kept(line, response, "response")
    rest: dict[str, Any] = {"promptFeedback": own["promptFeedback"]} if something(feedback) else {}
    if candidates:
        rest["candidates"] = [_beside(own["candidates"][0], outcome), *own["candidates"][1:]]
    message = as_json({"candidates": own["candidates"]}) if answers else None
    return Answer(outcome, text, None, shown, model, message, as_json(rest))


def _parts(candidate: Mapping[str, Any]) -> list[dict[str, Any]]:
    return (candidate.get("content") or {}).get("parts") or []


def _is_answer(part: Mapping[str, Any]) -> bool:
    """Return whether a part is a call of a function, an image or the like: not text, nor what was done on the way to it."""
    return bool(
        not part.get("thought")
        and part.keys() - {"text", "thought", "thoughtSignature", "partMetadata", "videoMetadata"} - {*_WORKINGS}
    )


def _holds_more(candidate: Mapping[str, Any], outcome: str) -> bool:
    """Return whether a candidate holds anything that the text of the answer does not."""
    return any(part.keys() != {"text"} for part in _parts(candidate)) or any(_labelled(candidate, outcome))


def _labelled(candidate: Mapping[str, Any], outcome: str) -> Iterator[str]:
    """Yield the keys of sources, reasons and the like. Ratings of an answer that nobody blocked say nothing."""
    told = (*_LABELS, "safetyRatings") if outcome == "succeeded" else _LABELS
    return (key for key, value in candidate.items() if key not in told and something(value))


def _beside(candidate: dict[str, Any], outcome: str) -> dict[str, Any]:
    """Return a candidate without its text."""
    kept = {key: candidate[key] for key in _labelled(candidate, outcome)}
    parts = [_beside_text(part) for part in _parts(candidate)]
    parts = [part for part in parts if part]
    return ({"content": {"parts": parts}} if parts else {}) | kept


def _beside_text(part: dict[str, Any]) -> dict[str, Any]:
    return part if part.get("thought") else {key: value for key, value in part.items() if key != "text"}


def _usage(response: dict[str, Any]) -> Usage | None:
    """Return what is billed: thoughts count as output, and a line of embeddings has a ``tokenCount`` instead, maybe as text."""
    tokens = response.get("usageMetadata") or {}
    taken, written = tokens.get("promptTokenCount"), tokens.get("candidatesTokenCount")
    if "embedding" in response:
        count = response.get("tokenCount", taken)
        taken, written = int(count) if isinstance(count, str) and count.isdecimal() else count, 0
    thoughts, tools = tokens.get("thoughtsTokenCount"), tokens.get("toolUsePromptTokenCount")
    return usage(
        sum_tokens(taken, tools) if taken is not None else None,
        sum_tokens(written, thoughts),
        tokens.get("cachedContentTokenCount"),
        terms=tier(tokens.get("serviceTier")),
        output_reasoning_tokens=thoughts,
        input_tool_tokens=tools,
        web_searches=_searches(response),
        parts=_by_modality(tokens),
    )


def _by_modality(tokens: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the parts of the totals by what they are; none where all is text, since the totals say as much."""
    lists = {
        "input_{}_tokens": _first(tokens.get("promptTokensDetails")),
        "output_{}_tokens": _first(tokens.get("candidatesTokensDetails")),
        "cache_{}_read_tokens": _first(tokens.get("cacheTokensDetails")),
        "input_{}_tool_tokens": _first(tokens.get("toolUsePromptTokensDetails")),
    }
    if not {kind for found in lists.values() for kind in found} - {"TEXT"}:
        return {}
    counts: dict[str, int | None] = {}
    for name, found in lists.items():
        for kind, count in found.items():
            unit = name.format(_MODALITIES.get(kind, kind.lower()))
            counts[unit] = sum_tokens(counts.get(unit), count)
            if name == "input_{}_tool_tokens":  # the totals of the prompt do not hold them
                whole = f"input_{_MODALITIES.get(kind, kind.lower())}_tokens"
                counts[whole] = sum_tokens(counts.get(whole), count)
    return counts


def _first(details: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Return the counts by modality; of two with the same modality, the first."""
    found: dict[str, Any] = {}
    for item in details or ():
        found.setdefault(item["modality"], item.get("tokenCount") or 0)
    return found


def _searches(response: Mapping[str, Any]) -> int:
    """Return how many searches are billed: each one since Gemini 3, one for a prompt before.

    https://ai.google.dev/gemini-api/docs/pricing
    """
    grounded = [candidate.get("groundingMetadata") or {} for candidate in response.get("candidates") or ()]
    count = sum(len(metadata.get("webSearchQueries") or ()) for metadata in grounded)
    by_prompt = str(response.get("modelVersion") or "").startswith(("gemini-1", "gemini-2"))
    return min(count, 1) if by_prompt else count

"""OpenAI's result lines.

https://platform.openai.com/docs/guides/batch#5-retrieve-the-results
"""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Mapping
from struct import error as BadSize
from struct import unpack
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
    tier,
    usage,
    well_formed,
    why_unusable,
)

_Outcome = Literal["succeeded", "refused", "truncated"]
# https://platform.openai.com/docs/api-reference/chat/object#chat-object-choices-finish_reason
_WHOLE = ("stop", "tool_calls", "function_call")
_CHAT_ANSWERS = ("tool_calls", "function_call", "audio", "images")
_CHAT_PLAIN = ("role", "content", "refusal")
# https://platform.openai.com/docs/api-reference/responses/object: what the provider did itself on the way to its answer;
# an item of any other type, a call of a function above all, is an answer
_WORKINGS = {
    "reasoning", "web_search_call", "file_search_call", "code_interpreter_call", "mcp_call", "mcp_list_tools",
    "tool_search_call", "tool_search_output", "compaction",
}  # fmt: skip
# What a reasoning item has beside its thoughts.
_LABELS = ("id", "type", "status")
_COUNTED = {"file_search_call": "storage_searches", "code_interpreter_call": "code_executions"}
# How codes and types of trouble with the account begin: https://platform.openai.com/docs/guides/error-codes
_ACCOUNT = (
    "insufficient_", "billing", "spend_limit", "account_", "organization_", "project_", "quota_", "access_terminated",
    "unsupported_country", "invalid_api_key", "incorrect_api_key", "invalid_organization", "ip_not_authorized",
)  # fmt: skip
# The same in words, where there is no code.
_SPENT = ("billing hard limit", "exceeded your current quota", "spend limit", "account is not active", "deactivated")
# 403 is the account's, but for a request that asks for what nobody may have.
_OF_THE_REQUEST = ("model_not_found", "content_policy_violation", "moderation_blocked")
# Of a response that failed: https://platform.openai.com/docs/api-reference/responses/object#responses/object-error
_WORTH_ANOTHER_TRY = ("server_error", "rate_limit_exceeded", "vector_store_timeout")


def read(line: bytes) -> ResultLine | UnreadableLine:
    """Return what a line of the output file or the error file says."""
    return plain.openai_line(line) or read_in_full(line)


def read_in_full(line: bytes) -> ResultLine | UnreadableLine:
    """Return what a line of any shape says."""
    found = read_object(line)
    if isinstance(found, UnreadableLine):
        return found
    try:
        return well_formed(_result(line, found))
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, BadSize):
        return UnreadableLine(line, "the line does not have the shape of an OpenAI result")


def _result(line: bytes, found: dict[str, Any]) -> ResultLine:
    custom_id, response = found["custom_id"], found.get("response")
    if response is None:
        return _late(line, custom_id, found["error"])
    status, body = response["status_code"], response["body"]
    if status != 200:
        return _errored(line, custom_id, status, body, found.get("error"))
    if body.get("object") == "response" and body.get("status") in ("failed", "cancelled", "queued", "in_progress"):
        return _without_answer(line, custom_id, body)
    answer, tokens = _answer(body, line)
    return ResultLine(
        custom_id, answer.outcome, line, billed=True, answer=answer, usage=tokens, error=why_unusable(answer)
    )


def _errored(line: bytes, custom_id: str, status: int, body: Any, error: Any) -> ResultLine:
    """Return the result of an error. The body may lack all that is promised, down to status 0 and nothing in it (ellmer #830)."""
    if type(status) is not int:
        raise TypeError
    text = brief(f"{status}: {said(body) or said(error) or 'without an explanation'}")
    found = body.get("error") if isinstance(body, dict) else None
    codes = (found.get("code"), found.get("type")) if isinstance(found, dict) else ()
    account = status in (401, 402) or any(map(is_of_the_account, codes)) or (not any(codes[:1]) and _is_spent(text))
    account = account or (status == 403 and not any(code in _OF_THE_REQUEST for code in codes))
    retryable = account or status == 0 or status >= 500 or status in (408, 409, 429)
    return ResultLine(custom_id, "errored", line, billed=False, error=text, retryable=retryable, account=account)


def is_of_the_account(code: object) -> bool:
    """Return whether a code speaks of credit, a limit of money, the key, the organization or the place of the machine."""
    return isinstance(code, str) and code.startswith(_ACCOUNT)


def _is_spent(text: str) -> bool:
    return any(words in text.lower() for words in _SPENT)


def _late(line: bytes, custom_id: str, error: Any) -> ResultLine:
    outcomes: dict[object, Literal["expired", "cancelled"]] = {
        "batch_expired": "expired",
        "batch_cancelled": "cancelled",
    }
    if not error:
        raise KeyError("error")
    code = error.get("code") if isinstance(error, dict) else None
    text = brief(f"{code}: {said(error)}" if code else said(error) or "without an explanation")
    outcome = outcomes.get(code) if isinstance(code, str) else None
    account = is_of_the_account(code) or (not code and _is_spent(text))
    return ResultLine(custom_id, outcome or "errored", line, billed=False, error=text, retryable=True, account=account)


def _without_answer(line: bytes, custom_id: str, body: dict[str, Any]) -> ResultLine:
    """Return the result of a response with status 200 that broke off, or was not at its end.

    One that broke off is billed if it names what it used, or if it is not worth another try; one not at its end always.
    """
    status, error = body["status"], body.get("error")
    answer, tokens = _answer(body, line)
    text = brief(f"{error['code']}: {error['message']}" if error else f"the response ended as {status}")
    if status in ("failed", "cancelled"):
        account = bool(error and is_of_the_account(error["code"]))
        again = account or status == "cancelled" or bool(error and error["code"] in _WORTH_ANOTHER_TRY)
        billed = tokens is not None or not again
        outcome: Literal["errored", "cancelled"] = "cancelled" if status == "cancelled" else "errored"
        return ResultLine(
            custom_id, outcome, line, billed, answer, tokens, text, retryable=again, counted=True, account=account
        )
    return ResultLine(custom_id, "errored", line, billed=True, answer=answer, usage=tokens, error=text)


def _answer(body: dict[str, Any], line: bytes) -> tuple[Answer, Usage | None]:
    tokens = body.get("usage") or {}
    match body.get("object"):
        case "chat.completion":
            return _chat_answer(body, line), _chat_usage(body, tokens)
        case "response":
            return _responses_answer(body, line), _responses_usage(body, tokens)
        case "list":
            vectors = _vectors(body["data"])
            rest = None if vectors is not None else as_json({"data": body["data"]})
            answer = Answer("succeeded", embeddings=vectors, model=body.get("model"), rest=rest)
            return answer, usage(tokens.get("prompt_tokens"), 0)
        case "text_completion":
            return _completion(body, line), _chat_usage(body, tokens)
        case _:
            return _other(body, line), _other_usage(body)


def _completion(body: dict[str, Any], line: bytes) -> Answer:
    choice = body["choices"][0]
    outcome: _Outcome = "succeeded" if choice.get("finish_reason") in (None, "stop") else "truncated"
    if choice.get("finish_reason") == "content_filter":
        outcome = "refused"
    own = digits_kept(line, body, "response", "body")
    more = len(body["choices"]) > 1 or something(choice.get("logprobs"))
    message = as_json({"choices": own["choices"]}) if more else None
    return Answer(outcome, choice["text"], None, choice.get("finish_reason"), body.get("model"), message)


def _other(body: dict[str, Any], line: bytes) -> Answer:
    """Return a moderation, images or a video: all of it is the answer. Raises `KeyError` for what is none of them."""
    if not (
        isinstance(body.get("results"), list) or isinstance(body.get("data"), list) or body.get("object") == "video"
    ):
        raise KeyError("object")
    message = as_json(digits_kept(line, body, "response", "body"))
    return Answer("succeeded", None, None, None, body.get("model"), message)


def _other_usage(body: Mapping[str, Any]) -> Usage | None:
    """Return the usage, which only images name.

    https://platform.openai.com/docs/api-reference/images/object
    """
    tokens = body.get("usage") or {}
    taken = tokens.get("input_tokens_details") or {}
    return usage(
        tokens.get("input_tokens"),
        tokens.get("output_tokens"),
        taken.get("cached_tokens"),
        input_image_tokens=taken.get("image_tokens"),
        output_image_tokens=tokens.get("output_tokens") if body.get("data") else None,
    )


def _vectors(data: list[dict[str, Any]]) -> tuple[tuple[float, ...], ...] | None:
    """Return the vectors in the order of the texts; None where they are not numbered from 0 on, once each."""
    ordered = sorted(data, key=lambda item: item["index"])
    vectors = tuple(_numbers(item["embedding"]) for item in ordered)
    return vectors if [item["index"] for item in ordered] == list(range(len(ordered))) else None


def _numbers(embedding: Any) -> tuple[float, ...]:
    """Return a vector from a list of numbers, or from base64 of 32-bit floats: a ready body may ask for that."""
    if not isinstance(embedding, str):
        return parse_vector(embedding)
    packed = b64decode(embedding, validate=True)
    return unpack(f"<{len(packed) // 4}f", packed)


def _chat_usage(body: Mapping[str, Any], tokens: Mapping[str, Any]) -> Usage | None:
    taken, given = tokens.get("prompt_tokens_details") or {}, tokens.get("completion_tokens_details") or {}
    return usage(
        tokens.get("prompt_tokens"),
        tokens.get("completion_tokens"),
        taken.get("cached_tokens"),
        terms=tier(body.get("service_tier")),
        cache_write_tokens=taken.get("cache_write_tokens"),
        input_audio_tokens=taken.get("audio_tokens"),
        output_audio_tokens=given.get("audio_tokens"),
        output_reasoning_tokens=given.get("reasoning_tokens"),
    )


def _responses_usage(body: Mapping[str, Any], tokens: Mapping[str, Any]) -> Usage | None:
    taken, given = tokens.get("input_tokens_details") or {}, tokens.get("output_tokens_details") or {}
    return usage(
        tokens.get("input_tokens"),
        tokens.get("output_tokens"),
        taken.get("cached_tokens"),
        terms=tier(body.get("service_tier")),
        cache_write_tokens=taken.get("cache_write_tokens"),
        output_reasoning_tokens=given.get("reasoning_tokens"),
        **_tools_used(body),
    )


def _tools_used(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is billed of the provider's own tools beside the tokens.

    Pictures are billed as tokens of another model: they have no price here.
    https://platform.openai.com/docs/pricing#built-in-tools
    """
    told = body.get("tool_usage") or {}
    items = Counter(item["type"] for item in body["output"])
    used: dict[str, Any] = {unit: items[kind] for kind, unit in _COUNTED.items()}
    used["web_searches"] = (told.get("web_search") or {}).get("num_requests")
    if used["web_searches"] is None:
        used["web_searches"] = sum(map(_is_search, body["output"]))
    pictures = items["image_generation_call"] or bool((told.get("image_gen") or {}).get("total_tokens"))
    return used | {"image_generations": int(pictures)}


def _is_search(item: Mapping[str, Any]) -> bool:
    """Return whether an item is billed as a search: opening a page that was found is not."""
    action = (item.get("action") or {}).get("type", "search")
    return bool(item["type"] == "web_search_call" and action == "search")


def _chat_answer(body: dict[str, Any], line: bytes) -> Answer:
    choices = body["choices"]
    choice, message = choices[0], choices[0]["message"]
    content, refusal = message.get("content"), message.get("refusal")
    answers = len(choices) > 1 or any(message.get(key) for key in _CHAT_ANSWERS)
    reason = "refusal" if refusal else choice.get("finish_reason")
    outcome: _Outcome = "truncated"
    if refusal or reason == "content_filter":
        outcome = "refused"
    elif reason in _WHOLE:
        outcome = "succeeded" if content or answers else "refused"
    beside = [key for key in message if key not in _CHAT_PLAIN or (key == "refusal" and content)]
    if not answers and not something(choice.get("logprobs")) and not any(something(message[key]) for key in beside):
        return Answer(outcome, content or refusal, None, reason, body.get("model"))
    own = digits_kept(line, body, "response", "body")["choices"]
    first = {"message": {key: own[0]["message"][key] for key in beside if something(own[0]["message"][key])}}
    if something(own[0].get("logprobs")):
        first["logprobs"] = own[0]["logprobs"]
    return Answer(
        outcome,
        content or refusal,
        None,
        reason,
        body.get("model"),
        as_json({"choices": own}) if answers else None,
        as_json({"choices": [first, *own[1:]]}),
    )


def _responses_answer(body: dict[str, Any], line: bytes) -> Answer:
    output = body["output"]
    final = _final_messages(output)
    parts = [part for item in final for part in item["content"]]
    texts = [part["text"] for part in parts if part["type"] == "output_text"]
    refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
    text = "".join(texts) or "".join(refusals) or None
    answers = any(item["type"] not in _WORKINGS and item["type"] != "message" for item in output) or any(
        part["type"] not in ("output_text", "refusal") for part in parts
    )
    reason = (body.get("incomplete_details") or {}).get("reason") or body.get("status")
    outcome: _Outcome = "truncated"
    if refusals or reason == "content_filter":
        outcome = "refused"
    elif body.get("status") == "completed":
        outcome = "succeeded" if text or answers else "refused"
    places = [number for number, item in enumerate(output) if _holds_more(item, final)]
    reason = "refusal" if refusals else reason
    if not places:
        return Answer(outcome, text, None, reason, body.get("model"))
    own = digits_kept(line, body, "response", "body")["output"]
    message = as_json({"output": own}) if answers else None
    rest = as_json({"output": [own[number] for number in places]})
    return Answer(outcome, text, None, reason, body.get("model"), message, rest)


def _final_messages(output: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages that are the answer, and not what the model said while it worked."""
    messages = [item for item in output if item["type"] == "message"]
    final = [item for item in messages if item.get("phase") == "final_answer"]
    return final or [item for item in messages if item.get("phase") != "commentary"]


def _holds_more(item: dict[str, Any], final: list[dict[str, Any]]) -> bool:
    """Return whether an item holds anything that the text of the answer does not."""
    if item["type"] == "reasoning":
        return any(something(value) for key, value in item.items() if key not in _LABELS)
    if not any(item is message for message in final):
        return True
    return any(
        part["type"] not in ("output_text", "refusal")
        or something(part.get("annotations"))
        or something(part.get("logprobs"))
        for part in item["content"]
    )

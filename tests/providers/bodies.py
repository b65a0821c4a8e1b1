"""Batches, result lines and errors in the providers' own shapes (provider-batch-apis.md)."""

from __future__ import annotations

from typing import Any

from nightbatch.core.models import ProviderName, Usage

Json = dict[str, Any]

MODELS: dict[ProviderName, str] = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
}
EMBEDDING_MODELS: dict[str, str] = {"openai": "text-embedding-3-small", "gemini": "gemini-embedding-001"}
DOWNLOADS: dict[ProviderName, str] = {"openai": "file_download", "anthropic": "results", "gemini": "file_download"}
SCHEMA: Json = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "enum": ["run", "drop"]}, "score": {"$ref": "#/$defs/Score"}},
    "required": ["verdict", "score"],
    "additionalProperties": False,
    "$defs": {"Score": {"type": "integer", "minimum": 1, "maximum": 10}},
}


def ended(name: ProviderName, url: str) -> Json:
    """An ended batch with results, as the provider shows it."""
    if name == "openai":
        files = {"output_file_id": "file-out", "error_file_id": "file-err", "input_file_id": "file-in"}
        batch = {"id": "batches/1", "object": "batch", "status": "completed", "created_at": 1_795_000_000, **files}
        return batch | {"endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": None}
    if name == "anthropic":
        counts = {"processing": 0, "succeeded": 2, "errored": 0, "canceled": 0, "expired": 0}
        times = {"created_at": "2026-11-20T00:00:00Z", "ended_at": "2026-11-20T01:00:00Z", "archived_at": None}
        shown = {"id": "batches/1", "type": "message_batch", "processing_status": "ended", "request_counts": counts}
        return shown | times | {"results_url": f"{url}/v1/messages/batches/1/results"}
    output = {"responsesFile": "files/batch-out"}
    metadata = {"state": "BATCH_STATE_SUCCEEDED", "output": output, "batchStats": {"requestCount": "2"}}
    return {"name": "batches/1", "done": True, "metadata": metadata, "response": output}


def full(name: ProviderName) -> Json:
    """An ended batch of `Wire.submission` that says all that it can say."""
    shown = ended(name, "http://127.0.0.1")
    if name == "openai":
        counts = {"total": 2, "completed": 1, "failed": 1}
        error = {"code": "server_error", "line": 1, "message": "no", "param": None}
        times = {"completed_at": 1_795_000_100, "expires_at": 1_795_086_400, "errors": {"data": [error]}}
        return shown | times | {"request_counts": counts, "metadata": {"nightbatch_tag": "nb-1-a"}}
    if name == "gemini":
        times = {"createTime": "2026-11-20T00:00:00.123456789Z", "endTime": "2026-11-20T01:00:00Z"}
        shown["metadata"] |= times | {"displayName": "nb-1-a"}
        return shown | {"error": {"code": 13, "message": "no"}}
    return shown


def list_of(name: ProviderName, *batches: Json) -> Json:
    """The last page of a list of batches."""
    if name == "gemini":
        return {"operations": list(batches)}
    return {"object": "list", "data": list(batches), "has_more": False, "first_id": "b", "last_id": "b"}


def error_body(name: ProviderName, status: int, message: str = "no", kind: str | None = None) -> Json:
    """A provider's own error, in its own shape."""
    if name == "openai":
        return {"error": {"message": message, "type": kind or "invalid_request_error", "param": None, "code": kind}}
    if name == "anthropic":
        return {"type": "error", "error": {"type": kind or "api_error", "message": message}, "request_id": "req_1"}
    return {"error": {"code": status, "message": message, "status": kind or "UNKNOWN"}}


def result_line(name: ProviderName, custom_id: str, text: str, usage: Usage) -> Json:
    """A line of a request that succeeded, in the shape of provider-batch-apis.md."""
    fresh = usage.input_tokens - usage.cached_tokens
    if name == "anthropic":
        counted = {"input_tokens": fresh, "cache_read_input_tokens": usage.cached_tokens}
        counted |= {"cache_creation_input_tokens": 0, "output_tokens": usage.output_tokens}
        message: Json = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODELS[name]}
        message |= {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": counted}
        return {"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}
    if name == "gemini":
        counted = {"promptTokenCount": usage.input_tokens, "candidatesTokenCount": usage.output_tokens}
        counted |= {"cachedContentTokenCount": usage.cached_tokens}
        candidate: Json = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
        response: Json = {"candidates": [candidate], "modelVersion": MODELS[name], "usageMetadata": counted}
        return {"key": custom_id, "response": response}
    details = {"prompt_tokens_details": {"cached_tokens": usage.cached_tokens}}
    tokens: Json = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens, **details}
    choice: Json = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "finish_reason": "stop",
    }
    body: Json = {"id": "c", "object": "chat.completion", "model": MODELS[name], "choices": [choice], "usage": tokens}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}


def expired_line(custom_id: str) -> Json:
    """A line of OpenAI's error file."""
    error = {"code": "batch_expired", "message": "This request was not executed before the window ended."}
    return {"id": "batch_req_2", "custom_id": custom_id, "response": None, "error": error}

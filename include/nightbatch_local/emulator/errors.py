"""Write one error in the three providers' own JSON shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

Provider = Literal["openai", "anthropic", "gemini"]
P = ParamSpec("P")
T = TypeVar("T")

# https://docs.claude.com/en/api/errors
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# google.rpc.Code by HTTP status: (number, name)
_GOOGLE_CODES = {
    400: (3, "INVALID_ARGUMENT"),
    401: (16, "UNAUTHENTICATED"),
    403: (7, "PERMISSION_DENIED"),
    404: (5, "NOT_FOUND"),
    409: (6, "ALREADY_EXISTS"),
    413: (3, "INVALID_ARGUMENT"),
    429: (8, "RESOURCE_EXHAUSTED"),
    500: (13, "INTERNAL"),
    503: (14, "UNAVAILABLE"),
    504: (4, "DEADLINE_EXCEEDED"),
}
_OPENAI_TYPES = {429: "rate_limit_exceeded", 401: "invalid_request_error"}


@dataclass
class ApiError(Exception):
    """A refusal, by HTTP status. `code` and `param` show in OpenAI's shape only, `status_name` in Gemini's."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    status_name: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def malformed_is_400(function: Callable[P, T]) -> Callable[P, T]:
    """Turn errors of a body of the wrong shape into `ApiError` 400: it is the caller's fault and not the emulator's."""

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
            message = f"The request is malformed ({type(error).__name__}: {error})."
            raise ApiError(400, message, code="invalid_value") from error

    return checked


def error_body(provider: Provider, error: ApiError, request_id: str = "") -> dict[str, Any]:
    """Return the JSON body with which this provider tells of the error."""
    if provider == "openai":
        return {"error": openai_error(error)}
    if provider == "anthropic":
        shown = {"type": _anthropic_type(error.status), "message": error.message}
        return {"type": "error", "error": shown, "request_id": request_id or None}
    return {"error": {"code": error.status, "message": error.message, "status": _google_name(error)}}


def openai_error(error: ApiError) -> dict[str, Any]:
    """Return the object under `error`, on the wire and in a batch's result line."""
    fallback = "server_error" if error.status >= 500 else "invalid_request_error"
    kind = _OPENAI_TYPES.get(error.status, fallback)
    code = error.code or ("rate_limit_exceeded" if error.status == 429 else None)
    return {"message": error.message, "type": kind, "param": error.param, "code": code}


def google_rpc_code(status: int) -> int:
    """Return the google.rpc code in a batch's `error` and its error lines."""
    return _GOOGLE_CODES.get(status, (2, "UNKNOWN"))[0]


def _anthropic_type(status: int) -> str:
    return _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def _google_name(error: ApiError) -> str:
    return error.status_name or _GOOGLE_CODES.get(error.status, (2, "UNKNOWN"))[1]

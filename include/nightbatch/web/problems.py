"""Answer errors as `application/problem+json` (RFC 9457): what happened, and what to do. No input is ever repeated in one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from nightbatch.core.errors import ConfigurationError, NightbatchError, NotFound, Refused, Transient
from nightbatch.jobs.intake import JobsRefused
from nightbatch.postgres.db_errors import DatabaseError, translate

log = logging.getLogger("nightbatch")

_SHOWN = 100
_TEXT = {"type": "string"}
_WHERE = {"type": "object", "properties": {"where": _TEXT, "what": _TEXT}, "required": ["where", "what"]}
_PROBLEM = {
    "type": "object",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "errors": {"type": "array", "items": _WHERE},
    },
    "required": ["type", "title", "status", "detail"],
}
ANY_PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What happened, and what to do: 401 no login, 403 no right, 404 not there, 409 not as things stand,"
        " 413 too large, 415 another content type, 422 does not fit, 503 no database.",
        "content": {"application/problem+json": {"schema": _PROBLEM}},
    }
}
"""For the OpenAPI document, of every route."""
_LOG_IN = "Log in to Airflow, or send a token of POST /auth/token as: Authorization: Bearer <token>."


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return one error as an answer."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, headers, "application/problem+json")


def tell_problems(app: FastAPI) -> None:
    """Register a handler for everything that can go wrong."""
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(NightbatchError, _ours)
    app.add_exception_handler(DatabaseError, _database)
    app.add_exception_handler(Exception, _unknown)


def _http(_: Request, error: Any) -> JSONResponse:
    if error.status_code == 401:
        return problem(401, f"{error.detail}. {_LOG_IN}", headers={"WWW-Authenticate": "Bearer"})
    return problem(error.status_code, str(error.detail), headers=error.headers)


def _invalid(_: Request, error: Any) -> JSONResponse:
    errors = [
        {"where": _legible(".".join(map(str, one["loc"]))), "what": _legible(one["msg"])}
        for one in error.errors()[:_SHOWN]
    ]
    return problem(422, "The request does not fit this route; `errors` says where.", errors=errors)


def _legible(text: str) -> str:
    """Replace half a character, which no answer can hold: the name of a member may have one."""
    return text.encode(errors="replace").decode()


def _ours(_: Request, error: Any) -> JSONResponse:
    match error:
        case Transient():
            return problem(503, str(error), headers={"Retry-After": "10"})
        case JobsRefused():
            where = "jobs" if error.what == "row" else "lines"
            errors = [{"where": f"{where}.{row.number}", "what": row.reason} for row in error.bad[:_SHOWN]]
            return problem(422, f"Nothing was queued, since {len(error.bad):,} of the {where} are none.", errors=errors)
        case NotFound():
            return problem(404, str(error))
        case ConfigurationError() | Refused():
            return problem(422, str(error))
        case _:
            return problem(409, str(error))


def _database(request: Request, error: Exception) -> JSONResponse:
    try:
        with translate():
            raise error
    except ConfigurationError as told:
        return problem(503, str(told), headers={"Retry-After": "10"})
    except DatabaseError:
        return _unknown(request, error)


def _unknown(_: Request, error: Exception) -> JSONResponse:
    """Answer that something failed, and log only its kind: an error's words, or its traceback, may hold a prompt."""
    log.error("A request failed: %s", type(error).__name__)
    return problem(500, "Something failed that should not. The api-server's log says what kind of error it was.")

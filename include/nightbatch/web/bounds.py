"""Bound every request and answer: how large a body may be, and what a browser may do with what we send."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nightbatch.web.problems import problem

BODY = 1_000_000
BULK_BODY = 1_000_000_000
"""Bytes. A bulk body goes to disk, and line by line to the database; it is never held in memory."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class BoundedBodies:
    """Answers 413 before a body is parsed: by its length where it is told, else as soon as too much has come in."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless its body is too large."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = BULK_BODY if scope["path"].endswith("/queue/bulk") else BODY
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or int(told) > limit:
            await problem(413, _too_large(limit))(scope, receive, send)
        else:
            await self.app(scope, _counting(receive, limit), send)


def _too_large(limit: int) -> str:
    return f"The body is larger than {limit:,} bytes. For many jobs use POST queue/bulk."


def _counting(receive: Receive, limit: int) -> Receive:
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise HTTPException(413, _too_large(limit))  # the one kind of error that FastAPI lets through here
        return message

    return counted


class SafeAnswers:
    """Adds headers to each answer: a page may load nothing from elsewhere and run only its own script; no proxy keeps it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add the headers to its answer."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)

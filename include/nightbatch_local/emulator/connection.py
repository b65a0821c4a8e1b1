"""Handle whole requests and responses, and the end of a connection, below what ASGI offers."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from starlette.types import Message, Receive, Send


class Answer:
    """A whole response that is kept back."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []

    @property
    def body(self) -> bytes:
        """Return all of the body."""
        return b"".join(self.parts)

    async def collect(self, message: Message) -> None:
        """Take a message in the place of `send`."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            self.parts.append(message.get("body", b""))

    async def give(self, send: Send) -> None:
        """Send the response, with the length that the body has now."""
        body = self.body
        await self._start(send, len(body))
        await send({"type": "http.response.body", "body": body})

    async def give_half(self, send: Recorder) -> None:
        """Announce the whole body, send half and drop the connection."""
        body = self.body
        await self._start(send, len(body))
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        drop(send, reset=False)

    async def _start(self, send: Send, length: int) -> None:
        headers = [(name, value) for name, value in self.headers if name.lower() != b"content-length"]
        headers.append((b"content-length", str(length).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})


class Recorder:
    """A `send` that remembers the status."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self.send(message)


async def read_all(receive: Receive) -> bytes:
    """Read the whole body of a request."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def replay(body: bytes) -> Receive:
    """Return a `receive` that gives this body, and then nothing any more."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def drop(send: Recorder, *, reset: bool) -> None:
    """End the connection. ASGI has no word for it: uvicorn's `send` is a method of the object with the transport."""
    connection: Any = send.send.__self__  # type: ignore[attr-defined]
    transport = connection.transport
    if reset:
        no_linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        transport.abort()
    else:
        transport.close()
    connection.disconnected = True

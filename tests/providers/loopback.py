"""A loopback server that answers as it is told, and an adapter that talks to it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nightbatch.errors import ProviderError
from nightbatch.models import FoundBatch, ProviderName, ProviderState, ResultLine, Submission, UnreadableLine
from nightbatch.provider import BatchProvider
from tests.providers.bodies import MODELS, Json, ended

KEY = "key-of-the-loopback-server"


@dataclass
class Reply:
    """One answer; ``body`` is JSON unless it is bytes, or chunks to be streamed."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Route = Callable[[str, str], Reply]


@dataclass
class Server:
    """Answers every request with ``route(method, path)`` and keeps what came."""

    url: str
    route: Route
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)

    def say(self, route: Route | Reply) -> None:
        """What it answers from now on."""
        self.route = (lambda method, path: route) if isinstance(route, Reply) else route
        self.seen.clear()

    def posts(self) -> int:
        return sum(method == "POST" for method, _, _ in self.seen)


@contextmanager
def serve() -> Iterator[Server]:
    """A server on a free port of the loopback address."""
    server = Server("", lambda method, path: Reply())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            server.seen.append((self.command, self.path, body))
            reply = server.route(self.command, self.path)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if isinstance(reply.body, Iterator):
                self._stream(reply.body)
                return
            raw = reply.raw()
            if "content-type" not in reply.headers:
                self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def _stream(self, chunks: Iterator[bytes]) -> None:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on standard error."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client may hang up before it has read all."""

    http = Quiet(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def a_submission(name: ProviderName, folder: Path) -> tuple[Submission, Path]:
    """A submission whose input is uploaded, as far as the adapter can tell."""
    path = folder / "input.jsonl"
    path.write_bytes(b'{"custom_id":"j1_a1"}\n')
    uploaded = {"openai": "file-1", "gemini": "files/nb-1-a", "anthropic": None}[name]
    return Submission(1, "nb-1-a", MODELS[name], "chat", 1, uploaded, datetime.now(UTC)), path


@dataclass
class Wire:
    """An adapter at the loopback server."""

    name: ProviderName
    server: Server
    provider: BatchProvider
    folder: Path

    def submit(self, reply: Reply) -> ProviderError:
        """What one `submit` raises for an answer; proves that it was one POST."""
        submission, path = a_submission(self.name, self.folder)
        self.server.say(reply)
        with pytest.raises(ProviderError) as caught:
            self.provider.submit(submission, path)
        assert self.server.posts() == len(self.server.seen) == 1
        return caught.value

    def find(self, route: Route | Reply) -> list[FoundBatch]:
        self.server.say(route)
        return self.provider.find_submission(a_submission(self.name, self.folder)[0])

    def state(self, operation: Json) -> ProviderState:
        """What the adapter makes of a batch as the provider tells it."""
        self.server.say(Reply(operation))
        return asyncio.run(self.provider.get_state("batches/1"))

    def results(self, *downloads: bytes | Iterator[bytes]) -> list[ResultLine | UnreadableLine]:
        """The lines of an ended batch; OpenAI may have two downloads."""
        return list(self.iter_results(*downloads))

    def iter_results(self, *downloads: bytes | Iterator[bytes]) -> Iterator[ResultLine | UnreadableLine]:
        waiting = list(downloads)
        batch = ended(self.name, self.server.url)

        def route(method: str, path: str) -> Reply:
            if any(word in path for word in ("content", "results", "download")):
                return Reply(waiting.pop(0) if waiting else b"", headers={"content-type": "application/jsonl"})
            return Reply(batch)

        self.server.say(route)
        return self.provider.iter_results("batches/1")

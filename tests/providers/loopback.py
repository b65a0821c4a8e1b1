"""A loopback server that answers as it is told, and an adapter that talks to it."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nightbatch.core.errors import ProviderError
from nightbatch.core.models import FoundBatch, ProviderName, ProviderState, ResultLine, Submission, UnreadableLine
from nightbatch.core.provider import BatchProvider
from tests.providers.bodies import MODELS, Json, ended

KEY = "sk-canary-key"
HTML = {"content-type": "text/html"}


@dataclass
class Reply:
    """One answer; ``body`` is JSON unless it is bytes, or chunks to be streamed. ``short`` bytes less than announced are sent."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    short: int = 0

    def raw(self) -> bytes:
        """As it goes over the wire."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    method: str
    path: str
    body: bytes
    headers: str


Route = Callable[[str, str], Reply]


@dataclass
class Server:
    """Answers every request with ``route(method, path)`` and keeps what came."""

    url: str
    route: Route
    seen: list[Asked] = field(default_factory=list)

    def say(self, answer: Route | Reply, *then: Reply) -> None:
        """What it answers from now on: by route, or each reply in turn and the last one for ever."""
        if isinstance(answer, Reply):
            turns = [answer, *then]
            self.route = lambda method, path: turns.pop(0) if len(turns) > 1 else turns[0]
        else:
            self.route = answer
        self.seen.clear()

    def posts(self) -> int:
        """How many POST requests came."""
        return sum(asked.method == "POST" for asked in self.seen)


@contextmanager
def serve(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server on a free port of the loopback address."""
    server = Server("", lambda method, path: Reply())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet: in two, the second waits 40 ms for the first's acknowledgement

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            server.seen.append(Asked(self.command, self.path, body, str(self.headers)))
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
            self.wfile.write(raw[: len(raw) - reply.short])
            self.close_connection = self.close_connection or bool(reply.short)

        def _stream(self, chunks: Iterator[bytes]) -> None:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_DELETE = do_CONNECT = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on standard error."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client may hang up before it has read all."""

    http = Quiet(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    if tls:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


@dataclass
class Wire:
    """An adapter at the loopback server."""

    name: ProviderName
    server: Server
    provider: BatchProvider
    folder: Path

    def submission(self) -> tuple[Submission, Path]:
        """One whose input is uploaded, as far as the adapter can tell."""
        path = self.folder / "input.jsonl"
        path.write_bytes(b'{"custom_id":"j1_a7"}\n')
        uploaded = {"openai": "file-1", "gemini": "files/nb-1-a", "anthropic": None}[self.name]
        now = datetime.now(UTC)
        return Submission(7, "nb-1-a", MODELS[self.name], "chat", 1, uploaded, intent_at=now, asked_at=now), path

    def submit(self, reply: Reply) -> ProviderError:
        """What one `submit` raises for an answer; proves that it was one POST."""
        submission, path = self.submission()
        self.server.say(reply)
        with pytest.raises(ProviderError) as caught:
            self.provider.submit(submission, path)
        assert self.server.posts() == len(self.server.seen) == 1
        return caught.value

    def find(self, answer: Route | Reply, *then: Reply) -> list[FoundBatch]:
        """What the adapter finds in lists of batches."""
        submission, _ = self.submission()
        self.server.say(answer, *then)
        return self.provider.find_submission(submission)

    def state(self, shown: Json) -> ProviderState:
        """What the adapter makes of a batch as the provider shows it."""
        self.server.say(Reply(shown))
        return asyncio.run(self.provider.get_state("batches/1"))

    def read(self, *lines: Json) -> list[ResultLine | UnreadableLine]:
        """What the adapter makes of result lines."""
        return self.results(b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def results(
        self, *downloads: bytes | Iterator[bytes] | Reply, known: Container[int] = ()
    ) -> list[ResultLine | UnreadableLine]:
        """The lines of an ended batch; OpenAI may have two downloads."""
        return list(self.iter_results(*downloads, known=known))

    def iter_results(
        self, *downloads: bytes | Iterator[bytes] | Reply, known: Container[int] = ()
    ) -> Iterator[ResultLine | UnreadableLine]:
        """The same, one after the other."""
        waiting = list(downloads)
        batch = ended(self.name, self.server.url)

        def route(method: str, path: str) -> Reply:
            if not any(word in path for word in ("content", "results", "download")):
                return Reply(batch)
            download = waiting.pop(0) if waiting else b""
            return download if isinstance(download, Reply) else Reply(download, headers={"content-type": "text/plain"})

        self.server.say(route)
        return self.provider.iter_results("batches/1", known)

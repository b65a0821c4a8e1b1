"""A way to a provider on which its answers can be told otherwise, as real ones tell them and the emulator does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

Change = Callable[[str, str, int, bytes], tuple[int, bytes] | None]
"""Of method, path, status and body: what is answered instead; None leaves the answer as it is."""

Instead = Callable[[str, str], tuple[int, bytes] | None]
"""Of method and path: what is answered without asking the provider; None passes the request on."""

_OF_THE_WAY = {
    "content-length",
    "transfer-encoding",
    "connection",
    "content-encoding",
    "host",
    "accept-encoding",
    "etag",
}


@contextmanager
def retold(url: str, change: Change, *, instead: Instead = lambda method, path: None) -> Iterator[str]:
    """An address that answers as ``url`` does, but for what ``change`` makes of it, and what ``instead`` answers alone."""
    there = urlsplit(url)
    home = f"{there.scheme}://{there.netloc}"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            given = {key: value for key, value in self.headers.items() if key.lower() not in _OF_THE_WAY}
            own = instead(self.command, self.path)
            if own is not None:
                self._answer(own[0], own[1], {"content-type": "application/json"})
                return
            answer = client.request(self.command, home + self.path, content=body, headers=given)
            status, said = change(self.command, self.path, answer.status_code, answer.content) or (
                answer.status_code,
                answer.content,
            )
            self._answer(status, said, answer.headers)

        def _answer(self, status: int, said: bytes, headers: Mapping[str, str]) -> None:
            said = said.replace(home.encode(), f"http://127.0.0.1:{server.server_address[1]}".encode())
            self.send_response(status)
            for key, value in headers.items():
                if key.lower() not in _OF_THE_WAY:
                    self.send_header(key, value)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_DELETE = _pass_on

        def log_message(self, *_: Any) -> None:
            pass

    with httpx.Client(trust_env=False, verify=False, timeout=30) as client:  # no TLS: no certificates to read
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}{there.path}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def batch_object(edit: Callable[[dict[str, Any]], None]) -> Change:
    """Change the batch as its provider shows it, wherever a single one is shown."""

    def change(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes] | None:
        one = method == "GET" and "batches/" in path and not path.partition("?")[0].endswith("/results")
        if status != 200 or not one:
            return None
        shown = orjson.loads(body)
        edit(shown)
        return 200, orjson.dumps(shown)

    return change


def lines(edit: Callable[[list[bytes]], list[bytes]]) -> Change:
    """Change the lines of results."""

    def change(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes] | None:
        results = path.partition("?")[0].endswith(("/content", "/results", ":download"))
        if status != 200 or method != "GET" or not results:
            return None
        return 200, b"".join(line + b"\n" for line in edit(body.splitlines()))

    return change


def both(*changes: Change) -> Change:
    """One after the other."""

    def change(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes] | None:
        told: tuple[int, bytes] | None = None
        for one in changes:
            made = one(method, path, *(told or (status, body)))
            told = made or told
        return told

    return change

"""Proxies on loopback, of both kinds: they lead every name to this machine, and keep what went through them."""

from __future__ import annotations

import base64
import re
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

_HEAD = re.compile(rb"(?:GET|POST|DELETE) \S+ HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n")


@dataclass
class Proxy:
    """``asked`` are the hosts and ports that it was asked for, ``logins`` who asked, ``sent`` what each connection sent on."""

    host: str
    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    sent: list[bytearray] = field(default_factory=list)
    answer: bytes = b""
    """If given, what it answers instead of going anywhere."""

    def heads(self) -> list[str]:
        """The heads of all requests, as far as they can be read on the way."""
        return [head.decode().lower() for sent in self.sent for head in _HEAD.findall(bytes(sent))]


@contextmanager
def proxying(kind: str) -> Iterator[Proxy]:
    """A proxy on a free port; ``kind`` is ``http`` or ``socks5``."""
    handler: type[_Handler] = {"http": _Http, "socks5": _Socks}[kind]

    class Server(ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Either side may hang up."""

    with Server(("127.0.0.1", 0), handler) as server:
        proxy = Proxy(f"127.0.0.1:{server.server_address[1]}")
        server.proxy = proxy  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()


class _Handler(BaseRequestHandler):
    request: socket.socket

    def handle(self) -> None:
        self.proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        self.serve()

    def serve(self) -> None:
        raise NotImplementedError

    def relay(self, port: int, first: bytes = b"") -> None:
        sent = bytearray(first)
        self.proxy.sent.append(sent)
        with socket.create_connection(("127.0.0.1", port)) as there:
            there.sendall(first)
            while True:
                ready, _, _ = select.select([self.request, there], [], [])
                for source in ready:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    if source is self.request:
                        sent += data
                    (there if source is self.request else self.request).sendall(data)


class _Http(_Handler):
    def serve(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.request.recv(1 << 16)
            if not data:
                return
            head += data
        verb, target = head.split(b" ", 2)[:2]
        place = target.decode().removeprefix("http://").split("/")[0]
        self.proxy.asked.append(place)
        if found := re.search(rb"proxy-authorization: Basic (\S+)", head, re.IGNORECASE):
            self.proxy.logins.append(base64.b64decode(found[1]).decode())
        if self.proxy.answer:
            self.request.sendall(self.proxy.answer)
            return
        port = int(place.rpartition(":")[2])
        if verb == b"CONNECT":
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            self.relay(port)
        else:
            self.relay(port, head)


class _Socks(_Handler):
    """RFC 1928, and the user and password of RFC 1929."""

    def serve(self) -> None:
        if self.proxy.answer:
            self.request.sendall(self.proxy.answer)
            return
        _, count = self._read(2)
        methods = self._read(count)
        self.request.sendall(bytes([5, methods[0]]))
        if methods[0] == 2:
            user = self._read(self._read(2)[1])
            self.proxy.logins.append(f"{user.decode()}:{self._read(self._read(1)[0]).decode()}")
            self.request.sendall(b"\x01\x00")
        kind = self._read(4)[3]
        host = {
            1: lambda: socket.inet_ntop(socket.AF_INET, self._read(4)),
            3: lambda: self._read(self._read(1)[0]).decode(),
            4: lambda: f"[{socket.inet_ntop(socket.AF_INET6, self._read(16))}]",
        }[kind]()
        (port,) = struct.unpack("!H", self._read(2))
        self.proxy.asked.append(f"{host}:{port}")
        self.request.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        self.relay(port)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.request.recv(size - len(data))
            if not more:
                raise ConnectionError
            data += more
        return data

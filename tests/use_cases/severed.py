"""A way to Postgres that can be cut at a statement, before it arrives or before its answer comes back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from psycopg.conninfo import conninfo_to_dict, make_conninfo


@dataclass
class Wire:
    """``dsn`` leads through it. ``cut_at`` names bytes of a statement; with ``arrives`` the server still gets it.

    The connection is then closed without an answer, as when a network breaks: the client cannot know what was done.
    """

    dsn: str
    cut_at: bytes = b""
    arrives: bool = True
    cuts: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what the client says, until the cut; the answers go the other way in a thread of their own."""
        self._sockets += [client, server]
        deaf = threading.Event()
        threading.Thread(target=self._answer, args=(client, server, deaf), daemon=True).start()
        with suppress(OSError):
            while said := client.recv(65536):
                if self.cut_at and self.cut_at in said:
                    self.cuts += 1
                    self.cut_at = b""
                    deaf.set()
                    if not self.arrives:
                        break
                server.sendall(said)
        hang_up(client, server)

    def _answer(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError):
            while (said := server.recv(65536)) and not deaf.is_set():
                client.sendall(said)
        hang_up(client, server)

    def close(self) -> None:
        hang_up(*self._sockets)


def hang_up(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@contextmanager
def wire_to(dsn: str) -> Iterator[Wire]:
    """A wire to the server of this DSN, on a free port of this machine."""
    parts = conninfo_to_dict(dsn)
    server_at = (str(parts["host"]), int(str(parts["port"])))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire = Wire(make_conninfo(dsn, host="127.0.0.1", port=listener.getsockname()[1]))

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    server = socket.create_connection(server_at)
                    threading.Thread(target=wire.carry, args=(client, server), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield wire
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            wire.close()

"""Servers that are not ours: another version of Postgres, and PgBouncer before it. Which ones, an environment variable says.

``NIGHTBATCH_SURROUNDING`` is empty, ``pgbouncer`` (in transaction mode, before the embedded server) or ``postgres-15``, Debian's.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from nightbatch_local.postgres.account import account_for
from nightbatch_local.postgres.embedded import HOST, EmbeddedPostgres, free_port

SURROUNDING = os.environ.get("NIGHTBATCH_SURROUNDING", "")
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")


def has_pgbouncer() -> str | None:
    """The program, if it is here."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


def pgbouncer() -> str:
    """The program. Skips the test where it is missing, or fails it where CI says that it must be there."""
    return has_pgbouncer() or missing("PgBouncer", "make pgbouncer")


def postgres_15() -> Path:
    """The folder of Debian's programs; as `pgbouncer`."""
    return POSTGRES_15 if (POSTGRES_15 / "postgres").exists() else missing("Debian's PostgreSQL 15", "make postgres-15")


def missing(what: str, how: str) -> NoReturn:
    """Skip the test and say why, or fail it where CI requires what is missing."""
    if os.environ.get("NIGHTBATCH_OTHER_SERVERS") == "required":
        pytest.fail(f"{what} is not here: {how}")
    pytest.skip(f"{what} is not here: {how}")


def require_pgvector(dsn: str) -> None:
    """Skip the test on a server that has no pgvector, where vectors are arrays, as tests of their own say."""
    with psycopg.connect(dsn) as connection:
        if connection.execute("SELECT FROM pg_extension WHERE extname = 'vector'").fetchone() is None:
            pytest.skip(f"{SURROUNDING} has no pgvector")


def server(folder: Path) -> EmbeddedPostgres:
    """The server of the surrounding; it is not started yet."""
    bin_dir = postgres_15() if SURROUNDING == "postgres-15" else None
    return EmbeddedPostgres(folder, fsync=False, die_with_parent=True, bin_dir=bin_dir)


_pooler: list[tuple[int, int]] = []  # its port, and that of the server behind it


@contextmanager
def around(behind: EmbeddedPostgres) -> Iterator[None]:
    """What the surrounding has before its server; `through` leads through it."""
    if SURROUNDING != "pgbouncer":
        yield
        return
    with pooled(behind) as port:
        _pooler.append((port, behind.port))
        yield


def through(dsn: str) -> str:
    """The DSN that the store connects with: of the server, or of the pooler before it."""
    return make_conninfo(dsn, port=_pooler[-1][0]) if _pooler else dsn


def past(dsn: str) -> str:
    """The DSN of the server itself, for a test that needs a session of its own there."""
    return make_conninfo(dsn, port=_pooler[-1][1]) if _pooler else dsn


@contextmanager
def pooled(behind: EmbeddedPostgres, *, mode: str = "transaction", size: int = 20) -> Iterator[int]:
    """PgBouncer before a server, for all of its databases and roles; its port."""
    pooler = Pooler(behind, mode=mode, size=size)
    pooler.start()
    try:
        pooler.wait_until_it_answers(behind.dsn())
        yield pooler.port
    finally:
        pooler.kill()


class Pooler:
    """PgBouncer before a server that runs, to be killed and started again; the server may be down then."""

    def __init__(self, behind: EmbeddedPostgres, *, mode: str = "transaction", size: int = 20) -> None:
        self._program, self.port = pgbouncer(), free_port()
        self._account, self._log = account_for(behind.data_dir), behind.log_file
        folder = behind.data_dir.with_name(f"{behind.data_dir.name}.pgbouncer-{self.port}")
        self._account.make_dir(folder)
        password = conninfo_to_dict(behind.dsn())["password"]
        self._account.write_secret(folder / "users.txt", f'"postgres" "{password}"\n')
        self._settings = folder / "pgbouncer.ini"
        self._account.write_secret(self._settings, _ini(behind.port, self.port, folder, mode, size))

    def start(self) -> None:
        """Start it; it answers a little later."""
        with self._log.open("ab") as log:
            self._running = self._account.popen([self._program, self._settings], stdout=log, preexec_fn=None)

    def kill(self) -> None:
        """SIGKILL."""
        self._running.kill()
        self._running.wait()

    def wait_until_it_answers(self, server_dsn: str) -> None:
        """Raise psycopg's error when it has ended, or gives no connection within 20 s."""
        deadline = time.monotonic() + 20
        while True:
            try:
                psycopg.connect(make_conninfo(server_dsn, port=self.port)).close()
                return
            except psycopg.OperationalError:
                if self._running.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def _ini(server_port: int, port: int, folder: Path, mode: str, size: int) -> str:
    """Roles are looked up at the server, so that those which a test makes can log in."""
    lines = [
        "[databases]",
        f"* = host={HOST} port={server_port} auth_user=postgres",
        "[pgbouncer]",
        f"listen_addr = {HOST}",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {folder}/users.txt",
        "auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename = $1",
        f"pool_mode = {mode}",
        f"default_pool_size = {size}",
        "max_client_conn = 500",
        "log_connections = 0",
        "log_disconnections = 0",
    ]
    return "\n".join(lines) + "\n"

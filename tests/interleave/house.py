"""What stays from seed to seed: a server's template database, and an emulator."""

from __future__ import annotations

import sqlite3
import ssl
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.util import Finalize
from types import TracebackType
from typing import Self

import httpx
import psycopg
from psycopg.conninfo import make_conninfo

from nightbatch.postgres.migrate import migrate
from nightbatch_local.emulator.process import EmulatorProcess
from tests import tags
from tests.crash.mutations import MUTATIONS
from tests.crash.surroundings import CALM, PLAIN, backup, make_hostile, make_installation
from tests.interleave.night import Night, watch_everything
from tests.interleave.story import Story, Verdict
from tests.scratch import scratch

_NEVER = 1e9
_watched: list[bool] = []


class House:
    """Plays seeds one after another, in the process that it is opened in, and in one of `tests.crash.surroundings`.

    ``pooled_dsn`` leads to the same server through PgBouncer.
    """

    def __init__(self, server_dsn: str, surrounding: str = PLAIN, pooled_dsn: str | None = None) -> None:
        self._server, self._surrounding, self._pooled = server_dsn, surrounding, pooled_dsn
        self._template = f"interleave_{uuid.uuid4().hex[:10]}"
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if not _watched:
            _watched.append(True)
            # Nothing here speaks TLS, and each client would read the certificates of the whole world.
            ssl.SSLContext.load_verify_locations = lambda *_, **__: None  # type: ignore[method-assign]
            watch_everything()
        folder = self._open.enter_context(scratch())
        self._emulator = self._open.enter_context(EmulatorProcess(folder, turnaround=_NEVER))
        self._http = self._open.enter_context(httpx.Client(trust_env=False, timeout=600))
        path = f"file:{folder}/state.sqlite?mode=ro"
        self._state = sqlite3.connect(path, uri=True, timeout=600, check_same_thread=False, isolation_level=None)
        self._open.callback(self._state.close)
        self._admin = self._open.enter_context(psycopg.connect(self._server, autocommit=True))
        self._admin.execute(f"CREATE DATABASE {self._template}")
        migrate(self._dsn(self._template))
        with psycopg.connect(self._dsn(self._template), autocommit=True) as connection:
            tags.nowhere(connection)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def _dsn(self, name: str) -> str:
        return f"{self._server.rpartition('/')[0]}/{name}"

    def play(self, seed: int) -> Verdict:
        """A seed, in a database and an account of its own."""
        account = uuid.uuid4().hex[:10]
        try:
            with self._night(account) as night:
                if self._surrounding != "second installation":
                    return Story(seed, night, self._surrounding, lambda: backup(self._admin, night.dsn)).play()
                with self._night(account) as theirs:
                    theirs.clients, theirs.paid = night.clients, night.paid
                    return Story(seed, night, self._surrounding, neighbour=theirs).play()
        finally:
            self._http.delete(f"{self._emulator.url}/control/faults")

    @contextmanager
    def _night(self, account: str) -> Iterator[Night]:
        name = f"seed_{uuid.uuid4().hex[:10]}"
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY FILE_COPY")
        try:
            self._admin.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '100ms'")
            if self._surrounding == "hostile settings":
                make_hostile(self._admin, name)
            night = Night(self._dsn(name), self._emulator, self._http, self._state, self._admin, account)
            if self._pooled:
                night.through = make_conninfo(self._pooled, dbname=name)
            with psycopg.connect(night.dsn, autocommit=True, options=CALM) as night.alone:
                if self._surrounding == "second installation":
                    make_installation(night.dsn)
                    (night.installation,) = night.rows("SELECT id FROM nightbatch.installation")
                yield night
        finally:
            self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


_here: list[House] = []


def play(
    server_dsn: str,
    seeds: Sequence[int],
    mutation: str | None = None,
    surrounding: str = PLAIN,
    pooled_dsn: str | None = None,
) -> list[Verdict]:
    """In a process of a pool, which keeps its house; a ``mutation`` of `tests.crash.mutations` stays in force there."""
    if not _here:
        if mutation:
            MUTATIONS[mutation]()
        _here.append(House(server_dsn, surrounding, pooled_dsn).__enter__())
        Finalize(None, _here[0].__exit__, args=(None, None, None), exitpriority=1)
    return [_here[0].play(seed) for seed in seeds]

"""Fixtures for all tests: a real Postgres, one per test worker, that dies with the worker however that ends."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from nightbatch.postgres.embedded import EmbeddedPostgres

_TEMPLATE = "nightbatch_migrated"


def pytest_configure(config: pytest.Config) -> None:
    """Numbers as in docs/reliability.md, which `python -m tests.reliability` makes of these markers."""
    config.addinivalue_line("markers", "fault(*numbers): this test holds the faults of these numbers")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """A server of this worker's own, on a free port; nothing of it outlasts the session."""
    folder = Path(tempfile.mkdtemp(prefix="nb-pg-"))  # short: a socket's path has little room
    try:
        with EmbeddedPostgres(folder / "data", fsync=False, die_with_parent=True) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _migrated(postgres_server: EmbeddedPostgres) -> str:
    """The name of a migrated database that nobody is connected to, to copy from."""
    from nightbatch.postgres.migrate import migrate

    migrate(postgres_server.create_database(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def dsn(postgres_server: EmbeddedPostgres, _migrated: str) -> Iterator[str]:
    """A fresh database with the nightbatch schema, dropped after the test."""
    with _database(postgres_server, _migrated) as fresh:
        yield fresh


@pytest.fixture
def empty_dsn(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """A fresh database with nothing in it, dropped after the test."""
    with _database(postgres_server, "template1") as fresh:
        yield fresh


@contextmanager
def _database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        yield server.dsn(name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

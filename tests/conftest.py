"""Fixtures for all tests: a real Postgres, one per test worker, that dies with the worker however that ends."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests import surroundings, tags
from tests.scratch import scratch

settings.register_profile("any machine", deadline=None)  # how long one example takes says how busy it is
settings.load_profile("any machine")

_TEMPLATE = "nightbatch_migrated"
_NIGHTS = "tests/acceptance/nights"
_LONGEST = (
    _NIGHTS,
    "tests/acceptance/test_crash.py",
    "tests/acceptance/test_stack.py",
    "tests/interleave/test_interleavings.py",
    "tests/acceptance/test_doctor_live.py",
    "tests/acceptance/test_cli_nights.py",
    "tests/web/test_contract.py",
    "tests/acceptance/test_crash_peers.py",
    "tests/acceptance/test_examples.py",
    "tests/use_cases/test_any_order.py",
)
"""They begin first: one that began last would leave the other worker with nothing to do."""


def pytest_configure(config: pytest.Config) -> None:
    """Numbers as in docs/reliability.md, which `python -m tests.reliability` makes of these markers."""
    config.addinivalue_line("markers", "fault(*numbers): this test holds the faults of these numbers")


def scope_of(nodeid: str) -> str:
    """What stays with one worker: a module; and the modules that share a stack."""
    module = nodeid.partition("::")[0]
    return _NIGHTS if module.startswith(f"{_NIGHTS}/") else module


@pytest.hookimpl(optionalhook=True)  # with -p no:xdist nobody asks
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In the order of the collection, which is ours."""
    config.option.loadscopereorder = False
    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = scope_of
    return scheduling


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, then whatever has the most tests."""
    places = {scope: place for place, scope in enumerate(_LONGEST)}
    tests = Counter(scope_of(item.nodeid) for item in items)
    items.sort(key=lambda item: (places.get(scope := scope_of(item.nodeid), len(places)), -tests[scope]))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """A server of this worker's own, on a free port; nothing of it outlasts the session."""
    with scratch() as folder, surroundings.server(folder / "data") as server, surroundings.around(server):
        yield server


@pytest.fixture(scope="session")
def _migrated(postgres_server: EmbeddedPostgres) -> str:
    """The name of a migrated database that nobody is connected to, to copy from."""
    from nightbatch.postgres.migrate import migrate

    template = postgres_server.create_database(_TEMPLATE)
    migrate(template)
    tags.known(template)
    return _TEMPLATE


@pytest.fixture
def dsn(postgres_server: EmbeddedPostgres, _migrated: str) -> Iterator[str]:
    """A fresh database with the nightbatch schema, dropped after the test."""
    with _database(postgres_server, _migrated) as fresh:
        yield surroundings.through(fresh)


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

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import Any

import psycopg

from nightbatch.postgres.migrate import make_table, migrate, migrations
from tests.postgres.schema import SCHEMA, dump


def test_the_schema_in_the_docs_is_the_one_of_a_new_database(empty_dsn: str) -> None:
    migrate(empty_dsn)
    assert dump(empty_dsn) == SCHEMA.read_text(encoding="utf-8"), "run `make schema` and look at what changed"


def test_migrating_twice_changes_nothing(empty_dsn: str) -> None:
    assert migrate(empty_dsn) == [entry.name for entry in migrations()]
    before = dump(empty_dsn)
    assert migrate(empty_dsn) == []
    assert dump(empty_dsn) == before


def test_of_two_at_once_one_migrates_and_the_other_waits(empty_dsn: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        applied = list(pool.map(migrate, [empty_dsn, empty_dsn]))
    assert sorted(applied) == [[], [entry.name for entry in migrations()]]


def test_two_make_the_table_of_migrations_in_the_same_moment(empty_dsn: str) -> None:
    both = Barrier(2)

    def make(connection: psycopg.Connection[Any]) -> None:
        both.wait()
        make_table(connection)

    with ExitStack() as open_, ThreadPoolExecutor(2) as pool:
        connections = [open_.enter_context(psycopg.connect(empty_dsn, autocommit=True)) for _ in range(2)]
        for _ in range(200):  # of 3,000 pairs 2,996 met a UniqueViolation, and 2 a DuplicateObject
            list(pool.map(make, connections))
            connections[0].execute("DROP TABLE public.nightbatch_migration")


def test_a_failing_migration_leaves_nothing_behind(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA nightbatch")  # in the way of the first one
        try:
            migrate(empty_dsn)
        except psycopg.errors.DuplicateSchema:
            pass
        else:
            raise AssertionError("it should have failed")
        assert connection.execute("SELECT count(*) FROM public.nightbatch_migration").fetchone() == (0,)

"""A new database begins at the baseline; one of before comes to the same schema, with all that stood in it."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from nightbatch.postgres.migrate import BASELINE, before_baseline, make_table, migrate, migrations
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests.conftest import _database
from tests.postgres.schema import SCHEMAS, dump
from tests.scratch import scratch
from tests.surroundings import postgres_15
from tests.unguarded import unguarded

ROOT = Path(__file__).parents[2]
FOLDER = "include/nightbatch/postgres/migrations/"
OLD_ROWS = (Path(__file__).parent / "old_rows.sql").read_text(encoding="utf-8")
# The last commits of the first release, and of each step of work after it that had migrations.
COMMITS = {"530d236": 16, "0879a5b": 23, "587b7a9": 25, "7d266f7": 27}
LATER = [entry.name for entry in migrations() if entry.name != BASELINE]

Rows = dict[str, Counter[str]]


@contextmanager
def connected(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def old_database(dsn: str, last: int) -> None:
    """Bring an empty database to a migration of before the baseline, as the releases of then did."""
    with connected(dsn) as connection:
        make_table(connection)
        for entry in before_baseline()[:last]:
            connection.execute(entry.read_bytes())
            connection.execute("INSERT INTO public.nightbatch_migration (name) VALUES (%s)", (entry.name,))


def fill(dsn: str, last: int) -> None:
    """Insert rows in every state that the schema of that migration knows."""
    parts = re.split(r"^-- (\d{4}) -+\n", OLD_ROWS, flags=re.MULTILINE)[1:]
    with connected(dsn) as connection, unguarded(connection):
        for number, statements in zip(parts[::2], parts[1::2], strict=True):
            if int(number) <= last:
                connection.execute(statements.encode())


def rows(dsn: str, columns: dict[str, list[str]]) -> Rows:
    """Return the rows of tables and views in these columns, as text."""
    with connected(dsn) as connection:
        return {
            name: Counter(
                row
                for (row,) in connection.execute(
                    sql.SQL("SELECT to_json(r)::text FROM (SELECT {} FROM {}) AS r").format(
                        sql.SQL(", ").join(map(sql.Identifier, wanted)), sql.Identifier(*name.split("."))
                    )
                )
            )
            for name, wanted in columns.items()
        }


def columns_of(dsn: str) -> dict[str, list[str]]:
    """Return the columns of each table and view of ours, in their order."""
    with connected(dsn) as connection:
        return dict(
            connection.execute(
                "SELECT table_schema || '.' || table_name, array_agg(column_name::text ORDER BY ordinal_position)"
                " FROM information_schema.columns WHERE table_schema = ANY (%s) GROUP BY 1 ORDER BY 1",
                (list(SCHEMAS),),
            ).fetchall()
        )


def recorded(dsn: str) -> list[str]:
    with connected(dsn) as connection:
        return [
            name
            for (name,) in connection.execute('SELECT name FROM public.nightbatch_migration ORDER BY name COLLATE "C"')
        ]


@pytest.fixture(scope="module")
def new_database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    with _database(postgres_server, "template1") as dsn:
        assert migrate(dsn) == [BASELINE, *LATER]
        yield dsn


def test_the_old_files_never_change() -> None:
    digest = sha256(b"".join(entry.name.encode() + entry.read_bytes() for entry in before_baseline()))
    assert digest.hexdigest() == "c5e2811f6172782eb9175e1e43a0acbffb7972b9d057cb213ebc60bc8fbca86b"


@pytest.mark.parametrize(("commit", "last"), COMMITS.items())
def test_the_old_files_are_those_that_a_commit_had(commit: str, last: int) -> None:
    had = subprocess.run(["git", "ls-tree", commit, FOLDER], cwd=ROOT, capture_output=True, text=True, check=False)
    if had.returncode:
        pytest.skip(f"this clone has no commit {commit}: {had.stderr.strip()}")
    blobs = {line.rpartition("/")[2]: line.split()[2] for line in had.stdout.splitlines()}
    assert blobs == {entry.name: blob(entry.read_bytes()) for entry in before_baseline()[:last]}


def blob(content: bytes) -> str:
    """Return git's name for a file of this content."""
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def test_a_new_database_has_the_schema_and_rows_that_the_old_files_make(empty_dsn: str, new_database: str) -> None:
    both_ways_end_alike(new_database, empty_dsn)


def test_both_ways_end_alike_on_a_server_with_lz4_and_without_pgvector() -> None:
    """Debian's; the embedded server is the other way round."""
    with (
        scratch() as folder,
        EmbeddedPostgres(folder / "data", fsync=False, die_with_parent=True, bin_dir=postgres_15()) as server,
    ):
        new, old = server.create_database("new"), server.create_database("old")
        migrate(new)
        both_ways_end_alike(new, old)
        assert "SET COMPRESSION lz4" in dump(new)
        assert "embedding real[] NOT NULL" in dump(new)


def both_ways_end_alike(new: str, empty: str) -> None:
    """Migrate an empty database by the old files, and compare the new one with it: schemas, rows, sequences."""
    old_database(empty, 27)
    migrate(empty)
    assert dump(new, schemas=()) == dump(empty, schemas=())
    columns = columns_of(empty)
    assert columns_of(new) == columns
    own = {"id", "database_oid", "known_at"}
    columns["nightbatch.installation"] = [name for name in columns["nightbatch.installation"] if name not in own]
    assert rows(new, columns) == rows(empty, columns)
    for asked in (
        "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2",
        "SELECT d.oid = i.database_oid, i.known_at <= now(), i.id IS NOT NULL"
        " FROM nightbatch.installation AS i, pg_database AS d WHERE d.datname = current_database()",
    ):
        with connected(new) as ours, connected(empty) as theirs:
            assert ours.execute(asked).fetchall() == theirs.execute(asked).fetchall()


def test_the_rows_of_before_are_in_every_state(empty_dsn: str) -> None:
    old_database(empty_dsn, 16)
    fill(empty_dsn, 16)
    asked = "SELECT array_agg(DISTINCT state ORDER BY state) FROM nightbatch."
    outcomes = "SELECT array_agg(DISTINCT outcome ORDER BY outcome) FROM nightbatch.result"
    with connected(empty_dsn) as connection:
        assert [
            row for what in (asked + "job_status", asked + "batch", outcomes) for (row,) in connection.execute(what)
        ] == [
            ["batched", "cancelled", "failed", "held", "queued", "rejected", "succeeded"],
            ["abandoned", "held", "loaded", "planned", "refused", "submitted", "submitting", "uploaded"],
            ["cancelled", "duplicate", "errored", "expired", "failed", "missing", "refused", "succeeded", "truncated"],
        ]


@pytest.mark.parametrize("last", COMMITS.values())
def test_a_database_of_before_comes_to_the_same_schema_and_keeps_its_rows(
    empty_dsn: str, new_database: str, last: int
) -> None:
    old_database(empty_dsn, last)
    fill(empty_dsn, last)
    columns = columns_of(empty_dsn)
    columns["nightbatch.gathered"] = ["only_row"]  # up_to goes
    if 17 <= last < 24:  # what the server tells of itself comes
        columns["nightbatch.installation"] = ["only_row", "id"]
    before = rows(empty_dsn, columns)
    assert all(before.values()), [name for name, found in before.items() if not found]

    old = [entry.name for entry in before_baseline()]
    assert migrate(empty_dsn) == [*old[last:], *LATER]

    assert dump(empty_dsn, schemas=()) == dump(new_database, schemas=())
    assert recorded(empty_dsn) == sorted([*old, BASELINE, *LATER])
    after = rows(empty_dsn, columns)
    if last < 18:  # jobs that no plan had seen are known from then on
        assert sorted(after["nightbatch.open_job"] - before["nightbatch.open_job"]) == [
            f'{{"job_id":{number},"batch_id":null,"attempts":0}}' for number in (80, 81, 88, 89, 90)
        ]
        before["nightbatch.open_job"] = after["nightbatch.open_job"]
    assert after == before
    assert migrate(empty_dsn) == []


def test_a_database_at_the_last_old_migration_runs_nothing_and_is_marked(empty_dsn: str) -> None:
    old_database(empty_dsn, 27)
    assert migrate(empty_dsn) == LATER
    assert BASELINE in recorded(empty_dsn)
    assert migrate(empty_dsn) == []


@pytest.mark.parametrize("last", COMMITS.values())
def test_of_two_at_an_old_database_one_migrates_and_the_other_waits(empty_dsn: str, last: int) -> None:
    old_database(empty_dsn, last)
    with ThreadPoolExecutor(2) as pool:
        applied = list(pool.map(migrate, [empty_dsn, empty_dsn]))
    old = [entry.name for entry in before_baseline()]
    assert sorted(applied) == [[], [*old[last:], *LATER]]
    assert recorded(empty_dsn) == sorted([*old, BASELINE, *LATER])


def test_an_old_database_that_cannot_be_brought_up_to_date_stays_as_it_was(empty_dsn: str) -> None:
    old_database(empty_dsn, 16)
    with connected(empty_dsn) as connection:
        connection.execute("CREATE TABLE nightbatch.named_lock ()")  # in the way of 0020
    before = dump(empty_dsn), recorded(empty_dsn)
    with pytest.raises(psycopg.errors.DuplicateTable):
        migrate(empty_dsn)
    assert (dump(empty_dsn), recorded(empty_dsn)) == before


def test_no_file_has_the_name_of_an_old_one() -> None:
    assert not {entry.name for entry in migrations()} & {entry.name for entry in before_baseline()}

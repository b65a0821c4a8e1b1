"""Migrations in numbered files of plain SQL, applied in order, each once."""

from __future__ import annotations

from contextlib import suppress
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from psycopg import Connection, errors

from nightbatch.postgres import registered, session

# The schema of 0001 to 0027 in one file. A database that was made before there was one has the 27 files instead.
BASELINE = "0027_baseline.sql"


def migrations() -> list[Traversable]:
    """Return the migration files of a new database, oldest first: the baseline, and what came after."""
    return _sql_files(files("nightbatch.postgres") / "migrations")


def before_baseline() -> list[Traversable]:
    """Return the files that bring a database of before to the baseline, oldest first."""
    return _sql_files(files("nightbatch.postgres") / "migrations" / "before_baseline")


def migrate(dsn: str) -> list[str]:
    """Bring the database up to date; return the names of the migrations that this call applied.

    The installed providers are registered with it. Safe to repeat and to run from several processes: all that is pending is one
    transaction, which holds the table's lock, so that a database is brought up to date whole or not at all. A database of
    before the baseline gets the rest of the old files, and is marked as being at the baseline. Raises `ConfigurationError` for a
    server that cannot keep the ledger.
    """
    with session.connect(dsn) as connection:
        make_table(connection)
        with session.transaction(connection):
            connection.execute("LOCK TABLE public.nightbatch_migration IN SHARE ROW EXCLUSIVE MODE")
            applied = {name for (name,) in connection.execute("SELECT name FROM public.nightbatch_migration")}
            done: list[str] = []
            if applied and BASELINE not in applied:
                done = _apply(connection, before_baseline(), applied)
                _record(connection, BASELINE)
                applied.add(BASELINE)
            done += _apply(connection, migrations(), applied)
            registered.register(connection)
            return done


def make_table(connection: Connection[Any]) -> None:
    """Make the table of what was applied; not in schema nightbatch, which the first migration makes."""
    # Another process makes it in this moment: which of the three Postgres says, depends on how far that one is.
    with suppress(errors.DuplicateTable, errors.DuplicateObject, errors.UniqueViolation):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS public.nightbatch_migration"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )


def _sql_files(folder: Traversable) -> list[Traversable]:
    return sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)


def _apply(connection: Connection[Any], entries: list[Traversable], applied: set[str]) -> list[str]:
    pending = [entry for entry in entries if entry.name not in applied]
    for entry in pending:
        connection.execute(entry.read_bytes())
        _record(connection, entry.name)
    return [entry.name for entry in pending]


def _record(connection: Connection[Any], name: str) -> None:
    connection.execute("INSERT INTO public.nightbatch_migration (name) VALUES (%s)", (name,))

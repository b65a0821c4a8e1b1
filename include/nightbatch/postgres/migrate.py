"""Numbered plain-SQL migrations, applied in order, each once."""

from __future__ import annotations

from contextlib import suppress
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from psycopg import Connection, errors

from nightbatch.postgres import session


def migrations() -> list[Traversable]:
    """The migration files, oldest first."""
    folder = files("nightbatch.postgres") / "migrations"
    return sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)


def migrate(dsn: str, *, only_next: bool = False) -> list[str]:
    """Bring the database up to date; the names of the migrations that this call applied.

    Safe to repeat and to run from several processes: all that is pending is one transaction, which holds the table's lock, so
    that a database is brought up to date whole or not at all. ``only_next`` applies a single file. Raises `ConfigurationError`
    for a server that cannot keep the ledger.
    """
    with session.connect(dsn) as connection:
        make_table(connection)
        with session.transaction(connection):
            connection.execute("LOCK TABLE public.nightbatch_migration IN SHARE ROW EXCLUSIVE MODE")
            applied = {name for (name,) in connection.execute("SELECT name FROM public.nightbatch_migration")}
            pending = [entry for entry in migrations() if entry.name not in applied]
            for entry in pending[: 1 if only_next else None]:
                connection.execute(entry.read_bytes())
                connection.execute("INSERT INTO public.nightbatch_migration (name) VALUES (%s)", (entry.name,))
            return [entry.name for entry in pending[: 1 if only_next else None]]


def make_table(connection: Connection[Any]) -> None:
    """Make the list of what was applied; not in schema nightbatch, which the first migration makes."""
    # Another process makes it in this moment: which of the three Postgres says, depends on how far that one is.
    with suppress(errors.DuplicateTable, errors.DuplicateObject, errors.UniqueViolation):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS public.nightbatch_migration"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )

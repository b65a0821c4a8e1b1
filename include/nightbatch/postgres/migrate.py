"""Numbered plain-SQL migrations, applied in order, each once."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

import psycopg

from nightbatch.errors import ConfigurationError

_LOCK = 0x6E69676874  # "night": any number will do that other programs in this database do not use


def migrations() -> list[Traversable]:
    """The migration files, oldest first."""
    folder = files("nightbatch.postgres") / "migrations"
    return sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)


def migrate(dsn: str, *, only_next: bool = False) -> list[str]:
    """Bring the database up to date; the names of the migrations that this call applied.

    Safe to repeat and to run from several processes: one at a time holds a lock, and each file is one transaction.
    ``only_next`` applies a single one. Raises `ConfigurationError` for a server older than Postgres 14.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        if connection.info.server_version < 140000:
            raise ConfigurationError(
                f"Postgres {connection.info.server_version // 10000} is too old: nightbatch needs 14 or newer."
            )
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        # Not in schema nightbatch, which the first migration makes.
        connection.execute(
            "CREATE TABLE IF NOT EXISTS public.nightbatch_migration"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {name for (name,) in connection.execute("SELECT name FROM public.nightbatch_migration")}
        pending = [entry for entry in migrations() if entry.name not in applied]
        for entry in pending[: 1 if only_next else None]:
            with connection.transaction():
                connection.execute(entry.read_bytes())
                connection.execute("INSERT INTO public.nightbatch_migration (name) VALUES (%s)", (entry.name,))
        return [entry.name for entry in pending[: 1 if only_next else None]]

"""A database to copy from: it knows the emulator to show tags, as after its first batch, and nothing of where it is at home."""

from __future__ import annotations

from typing import Any

import psycopg


def known(dsn: str) -> str:
    """Note it for every account, and forget where it is at home; the DSN again."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO nightbatch.connection_seen (provider, account_fingerprint, tags_shown_at)"
            " VALUES ('openai', '', now()), ('gemini', '', now())"
        )
        nowhere(connection)
    return dsn


def nowhere(connection: psycopg.Connection[Any]) -> None:
    """Let a database that others are copied from be at home wherever it is used first."""
    connection.execute("UPDATE nightbatch.installation SET known_at = NULL")

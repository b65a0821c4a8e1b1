"""A database to copy from: it knows the emulator to show tags, as after its first batch, and nothing of where it is at home."""

from __future__ import annotations

import psycopg


def known(dsn: str) -> str:
    """Note it for every account; the DSN again."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO nightbatch.connection_seen (provider, account_fingerprint, tags_shown_at)"
            " VALUES ('openai', '', now()), ('gemini', '', now())"
        )
        connection.execute("UPDATE nightbatch.installation SET known_at = NULL")
    return dsn

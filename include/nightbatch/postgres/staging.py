"""The way into the staging table for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from nightbatch.postgres.store import Store

Row = tuple[Any, ...]
"""job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline: as text, or None."""


class RowsRefused(Exception):
    """Postgres refused rows; its one-line message never holds a value of theirs."""


def insert_rows(store: Store, rows: Sequence[Row]) -> int:
    """Insert rows, all or none of them; how many are new jobs. Raises `RowsRefused`."""
    try:
        with store.transaction():
            plain = [row for row in rows if row[5] is None]
            keyed = [row for row in rows if row[5] is not None]
            return _copy(store, "copy_jobs", plain) + (_insert_keyed(store, keyed) if keyed else 0)
    except psycopg.DataError as error:
        raise RowsRefused(error.diag.message_primary or type(error).__name__) from None
    except (psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex) as error:
        raise RowsRefused(error.diag.message_primary or type(error).__name__) from None


def _insert_keyed(store: Store, rows: Sequence[Row]) -> int:
    store.run("make_incoming", file="intake")
    _copy(store, "copy_incoming", rows)
    inserted = store.run("insert_incoming", file="intake").rowcount
    store.run("clear_incoming", file="intake")
    return inserted


def _copy(store: Store, name: str, rows: Sequence[Row]) -> int:
    if rows:
        with store.copy(name, file="intake") as write:
            for row in rows:
                write(row)
    return len(rows)

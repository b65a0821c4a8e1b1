"""The way into the staging table for many rows at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import psycopg

from nightbatch.postgres.store import Store

Row = tuple[str, str, str | None, int, str, str | None, str, datetime | None, datetime | None, int | None, bool | None]
"""job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline, cache_days, fallback; JSON as text."""

_KEY: Final = 5


class RowsRefused(Exception):
    """Postgres refused rows; its one-line message never holds a value of theirs."""


def insert_rows(store: Store, rows: Sequence[Row]) -> int:
    """Insert rows, all or none of them; how many are new jobs. Raises `RowsRefused`."""
    with _all_or_none(store):
        plain = [row for row in rows if row[_KEY] is None]
        keyed = [row for row in rows if row[_KEY] is not None]
        return _copy(store, "copy_jobs", plain) + (_insert_keyed(store, keyed) if keyed else 0)


def insert_for_ids(store: Store, rows: Sequence[Row]) -> list[int]:
    """Insert rows, all or none of them; their ids in the same order. Raises `RowsRefused`.

    A row whose dedup key is known, or stands in an earlier one of these rows, has that job's id. Slower than `insert_rows`.
    """
    with _all_or_none(store):
        _set_down(store, rows)
        plain = iter(sorted(row[0] for row in store.run("insert_plain", file="intake")))
        store.run("insert_incoming", file="intake")
        known: dict[str | None, int] = dict(store.run("incoming_ids", file="intake").fetchall())
        store.run("clear_incoming", file="intake")
        return [next(plain) if row[_KEY] is None else known[row[_KEY]] for row in rows]


@contextmanager
def _all_or_none(store: Store) -> Iterator[None]:
    try:
        with store.transaction():
            yield
    except psycopg.DataError as error:
        raise RowsRefused(error.diag.message_primary or type(error).__name__) from None
    except (psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex) as error:
        raise RowsRefused(error.diag.message_primary or type(error).__name__) from None


def _insert_keyed(store: Store, rows: Sequence[Row]) -> int:
    _set_down(store, rows)
    inserted = store.run("insert_incoming", file="intake").rowcount
    store.run("clear_incoming", file="intake")
    return inserted


def _set_down(store: Store, rows: Sequence[Row]) -> None:
    store.run("make_incoming", file="intake")
    _copy(store, "copy_incoming", rows)


def _copy(store: Store, name: str, rows: Sequence[Row]) -> int:
    if rows:
        with store.copy(name, file="intake") as write:
            for row in rows:
                write(row)
    return len(rows)

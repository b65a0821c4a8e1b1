"""The way into the staging table for many rows at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import psycopg

from nightbatch.postgres.store import RowsRefused as RowsRefused
from nightbatch.postgres.store import Store

Row = tuple[
    str, str, str | None, int, bytes, str | None, bytes, datetime | None, datetime | None, int | None, bool | None
]
"""The columns of a row, JSON as bytes: job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline,
cache_days, fallback."""

_TYPES: Final = ("text", "text", "text", "int2", "json", "text", "jsonb", "timestamptz", "timestamptz", "int2", "bool")
_KEY: Final = 5


def insert_rows(store: Store, rows: Sequence[Row]) -> int:
    """Insert rows, all or none of them, and return how many are new jobs. Raises `RowsRefused`."""
    fresh = _without_known(store, rows)
    try:
        with _all_or_none(store):
            return _copy(store, "copy_jobs", fresh)
    except psycopg.errors.UniqueViolation:  # another producer was quicker with one of the keys
        with _all_or_none(store):
            _set_down(store, fresh)
            new = sum(store.run(name, file="staging").rowcount for name in ("insert_plain", "insert_incoming"))
            store.run("clear_incoming", file="staging")
            return new


def _without_known(store: Store, rows: Sequence[Row]) -> Sequence[Row]:
    """Return the first row of each key that no job has, and all without a key: a COPY cannot pass over the others."""
    keys = {row[_KEY] for row in rows if row[_KEY] is not None}
    if not keys:
        return rows
    known = {row[0] for row in store.run("known_keys", {"keys": list(keys)}, file="staging")}
    fresh = []
    for row in rows:
        key = row[_KEY]
        if key not in known:
            fresh.append(row)
        if key is not None:
            known.add(key)
    return fresh


def insert_for_ids(store: Store, rows: Sequence[Row]) -> list[int]:
    """Insert rows, all or none of them, and return their ids in the same order. Raises `RowsRefused`.

    A row whose dedup key is known, or stands in an earlier one of these rows, has that job's id. Slower than `insert_rows`.
    """
    with _all_or_none(store):
        _set_down(store, rows)
        plain = iter(sorted(row[0] for row in store.run("insert_plain", file="staging")))
        store.run("insert_incoming", file="staging")
        known: dict[str | None, int] = dict(store.run("incoming_ids", file="staging").fetchall())
        store.run("clear_incoming", file="staging")
        return [next(plain) if row[_KEY] is None else known[row[_KEY]] for row in rows]


@contextmanager
def _all_or_none(store: Store) -> Iterator[None]:
    try:
        with store.transaction():
            yield
    except psycopg.errors.UniqueViolation:
        raise  # no fault of the rows: a dedup key was taken in this moment
    except (
        psycopg.DataError,
        psycopg.IntegrityError,
        psycopg.errors.ProgramLimitExceeded,
        psycopg.errors.StatementTooComplex,
    ) as error:
        raise RowsRefused(str(error)) from None


def _set_down(store: Store, rows: Sequence[Row]) -> None:
    store.run("make_incoming", file="staging")
    _copy(store, "copy_incoming", rows)


def _copy(store: Store, name: str, rows: Sequence[Row]) -> int:
    if rows:
        with store.copy(name, _TYPES, file="staging") as write:
            for row in rows:
                write(row)
    return len(rows)


def rejected_of(store: Store, rows: Sequence[Row]) -> list[int]:
    """Return the jobs that have the dedup key of one of these rows and ended as rejected."""
    keys = list({row[_KEY] for row in rows if row[_KEY] is not None})
    return [row[0] for row in store.run("rejected_of_keys", {"keys": keys}, file="staging")] if keys else []

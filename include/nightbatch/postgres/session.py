"""The session that the ledger needs, made by us: no setting of a server, a database, a role or a pooler is relied on.

All of it is set anew in each transaction, in the message that begins it. A connection through PgBouncer in transaction mode has
another server session each time; so nothing is set for a session, held by one or prepared in one. A statement outside of a
transaction gets one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Self, TypeVar

import psycopg
from psycopg import Connection, Copy, Cursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from nightbatch.core.errors import ConfigurationError, DatabaseUnreachable
from nightbatch.postgres.db_errors import without_payload
from nightbatch.postgres.queries import queries

OLDEST, NEWEST = 14, 18
"""The versions of Postgres that the tests know."""

_SETTINGS = {
    # An answered commit is on disk: an intent that a crash takes away is sent a second time.
    "synchronous_commit": "on",
    # How values are written, and read by psycopg, whatever the server's own ways are.
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    # Queries name their schemas; nobody else's function or table is taken for one of Postgres.
    "search_path": "pg_catalog, pg_temp",
    # A plan of a million jobs, or a load that reads a slow download, takes its time; what only waits does not for ever.
    "statement_timeout": "0",
    "lock_timeout": "1h",
    "idle_in_transaction_session_timeout": "1h",
}
_SINCE_17 = {"transaction_timeout": "0"}

# The network may forget a connection that is idle during an upload: libpq's own first look comes after two hours.
_NETWORK = {"connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "6"}

_Row = TypeVar("_Row")


def _settings(version: int) -> dict[str, str]:
    return _SETTINGS | (_SINCE_17 if version >= 170000 else {})


@cache
def _begin(version: int) -> bytes:
    """Return one message that begins a transaction, so that the settings cost no way to the server and back.

    SET takes no snapshot, and a SELECT would.
    """
    settings = _settings(version)
    begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE"
    return "; ".join(
        [begin, *(f"SET LOCAL {name} = {_value(name, value)}" for name, value in settings.items())]
    ).encode()


def _value(name: str, value: str) -> str:
    """Return a setting's value as SQL: a list of names is no string."""
    return value if name in ("search_path", "DateStyle") else f"'{value}'"


@contextmanager
def transaction(connection: Connection[Any]) -> Iterator[None]:
    """Open a transaction, all or nothing, with the ledger's settings; within another one a savepoint."""
    if connection.info.transaction_status != TransactionStatus.IDLE:
        with without_payload(), connection.transaction():
            yield
        return
    with without_payload():
        Cursor(connection).execute(_begin(connection.info.server_version))
        try:
            yield
        except BaseException:
            with suppress(psycopg.Error):  # the way to the server is gone, and with it the transaction
                connection.rollback()
            raise
        connection.commit()


class SessionCursor(Cursor[_Row]):
    """A cursor that asks all within a transaction, and whose errors do not repeat the values that were sent or read."""

    def execute(self, *args: Any, **kwargs: Any) -> Self:
        """Run a statement as psycopg does, within a transaction."""
        with transaction(self.connection) if self._alone else without_payload():
            return super().execute(*args, **kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> None:
        """Run a statement with many values as psycopg does, within a transaction."""
        with transaction(self.connection) if self._alone else without_payload():
            super().executemany(*args, **kwargs)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[_Row]:
        """Yield rows as psycopg does; the transaction lasts until the last row was taken."""
        with transaction(self.connection) if self._alone else without_payload():
            yield from super().stream(*args, **kwargs)

    @contextmanager
    def copy(self, *args: Any, **kwargs: Any) -> Iterator[Copy]:
        """Open a COPY as psycopg does, within a transaction."""
        with transaction(self.connection) if self._alone else without_payload():
            try:
                with super().copy(*args, **kwargs) as copy:
                    yield copy
            except ValueError:
                if not self.connection.broken:
                    raise
                # psycopg expects one last message, and a pooler that ends a COPY says goodbye in two.
                raise psycopg.OperationalError("the connection was lost during a COPY") from None

    @property
    def _alone(self) -> bool:
        return self.connection.info.transaction_status == TransactionStatus.IDLE


@contextmanager
def connect(dsn: str) -> Iterator[Connection[Any]]:
    """Open a connection to a server that gives the ledger what it needs.

    Raises `DatabaseUnreachable`, and `ConfigurationError` for a server, or a pooler, that cannot be used.
    """
    try:
        connection: Connection[Any] = psycopg.connect(
            **(_NETWORK | conninfo_to_dict(dsn)),  # type: ignore[arg-type]
            autocommit=True,
            application_name="nightbatch",
            client_encoding="utf8",
            prepare_threshold=None,
            cursor_factory=SessionCursor,
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnreachable(f"The nightbatch database cannot be reached: {str(error).strip()}") from None
    with connection:
        check(connection)
        yield connection


def check(connection: Connection[Any]) -> None:
    """Raise `ConfigurationError` where the server cannot keep a ledger, before anything is sent to a provider."""
    version = connection.info.server_version
    if version < OLDEST * 10_000:
        raise ConfigurationError(f"Postgres {version // 10_000} is too old: nightbatch needs {OLDEST} or newer.")
    try:
        with transaction(connection):
            found = _in_force(connection, version)
    except psycopg.errors.FeatureNotSupported:  # "cannot set transaction read-write mode during recovery"
        raise _standby() from None
    except psycopg.Error as error:
        raise ConfigurationError(
            f"This database does not begin a transaction as the ledger needs it ({str(error).strip()}). Behind a pooler, it"
            " must pool by session or by transaction."
        ) from None
    wrong = [f"{name} is {found.get(name)}" for name, value in _wanted(version).items() if found.get(name) != value]
    if wrong:
        raise ConfigurationError(
            f"This database does not take the settings that the ledger needs ({', '.join(wrong)}). Look for what stands between:"
            " a pooler, or a server that is not Postgres."
        )


def not_kept(connection: Connection[Any]) -> list[str]:
    """Return a sentence for each setting of the server that no session can set, and that may lose what was committed."""
    return [
        f"This server has {name} off: a power cut may take away what it said was kept, and a job is then sent, and paid for, a"
        " second time. Set it to on."
        for (name,) in connection.execute(queries("session")["not_kept"])
    ]


def _in_force(connection: Connection[Any], version: int) -> dict[str, str]:
    values = {"names": list(_wanted(version))}
    return dict(connection.execute(queries("session")["in_force"], values).fetchall())


def _wanted(version: int) -> dict[str, str]:
    return {"transaction_isolation": "read committed", "transaction_read_only": "off", **_settings(version)}


def _standby() -> DatabaseUnreachable:
    return DatabaseUnreachable(
        "NIGHTBATCH_DSN leads to a standby, which can only be read: the ledger is kept at the primary."
    )

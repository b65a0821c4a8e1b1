"""Says what Postgres refuses in words for a person, without the values that it refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors
from psycopg.pq import DiagnosticField as Field

from nightbatch.core.errors import ConfigurationError

DatabaseError = psycopg.Error
"""The base of all errors of Postgres, or of the way to it, for the rooms that do not import psycopg."""

_BEHIND = (errors.InvalidSchemaName, errors.UndefinedColumn, errors.UndefinedFunction, errors.UndefinedTable)

# Classes of SQLSTATE whose first line names tables, columns, constraints and settings, and no value of a row:
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_NAMES_ONLY = {"08", "0A", "21", "23", "25", "26", "28", "3D", "3F", "40", "42", "53", "54", "55", "58"}
# Where a value begins in the first line of the others: "invalid input syntax for type integer: ...", in any language.
_VALUE = re.compile("""[:'"`«»„“”‚‘’]""")
_OURS = re.compile(r'\bnightbatch\.("?)\w+\1\(')
_NAMES = (Field.SQLSTATE, Field.SCHEMA_NAME, Field.TABLE_NAME, Field.COLUMN_NAME, Field.CONSTRAINT_NAME)

_DONE = "nightbatch"


@contextmanager
def without_payload() -> Iterator[None]:
    """Take the values of rows out of a database error: they stand in its DETAIL and CONTEXT, and in some first lines.

    The error stays what it is, with its SQLSTATE and the names of tables and constraints.
    """
    try:
        yield
    except psycopg.Error as error:
        _forget_values(error)
        raise
    except UnicodeEncodeError as error:  # half a character in a text, all of which the error holds
        error.object, error.args = "", (error.encoding, "", error.start, error.end, error.reason)
        raise


def _forget_values(error: psycopg.Error) -> None:
    """Take the values out of an error in place, since a new error would have this one as its context.

    It is done once, although each transaction around the error comes by here.
    """
    if error.diag.source_function == _DONE:
        return
    words = _words(error) or type(error).__name__
    info: dict[int, bytes | None] = dict.fromkeys(Field)
    for field in _NAMES:
        name = getattr(error.diag, field.name.lower())
        info[field] = name and name.encode()
    info[Field.MESSAGE_PRIMARY], info[Field.SOURCE_FUNCTION] = words.encode(), _DONE.encode()
    psycopg.Error.__init__(error, words, info=info if error.sqlstate else None)


def _words(error: psycopg.Error) -> str:
    """Return the first line of an error, as far as no value stands in it."""
    told, line = error.diag, _first_line(error)
    if told.source_function == "exec_stmt_raise":  # RAISE: the words of a trigger or function, ours or a team's
        ours = _OURS.search((told.context or "").partition("\n")[0])
        return f"{line}. {told.message_hint}" if ours and told.message_hint else line if ours else ""
    if error.sqlstate is None and not isinstance(error, psycopg.DataError):
        return line  # psycopg's and libpq's own: of the connection, or of the query's text
    if (error.sqlstate or "")[:2] in _NAMES_ONLY:
        return line
    return _VALUE.split(line)[0].strip()


@contextmanager
def translate() -> Iterator[None]:
    """Raise `ConfigurationError` for what the person at the command line can mend; other errors pass as they are."""
    try:
        yield
    except _BEHIND as error:
        raise ConfigurationError(
            f"This database is not up to date ({_first_line(error)}): run `nightbatch migrate`."
        ) from error
    except errors.InsufficientPrivilege as error:
        raise ConfigurationError(f"The user of NIGHTBATCH_DSN may not do this ({_first_line(error)}).") from error
    except psycopg.OperationalError as error:
        raise ConfigurationError(
            f"The database cannot be reached, or broke off ({_first_line(error)}). Look at what was done before you repeat it."
        ) from error
    except psycopg.ProgrammingError as error:
        if error.sqlstate is not None:
            raise
        # psycopg quotes what it could not read, and that may hold a password
        raise ConfigurationError(
            "NIGHTBATCH_DSN is no address of a database, like postgresql://user:password@host:5432/nightbatch."
        ) from None


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0].strip()

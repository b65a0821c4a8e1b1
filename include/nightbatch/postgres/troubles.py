"""What Postgres refuses, in words for a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from nightbatch.errors import ConfigurationError

DatabaseError = psycopg.Error
"""Whatever Postgres, or the way to it, refuses; for the rooms that do not import psycopg."""

_BEHIND = (errors.InvalidSchemaName, errors.UndefinedColumn, errors.UndefinedFunction, errors.UndefinedTable)


@contextmanager
def in_words() -> Iterator[None]:
    """Raises `ConfigurationError` for what the person at the command line can mend; other errors pass as they are."""
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

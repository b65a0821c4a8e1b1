"""Jobs from Python: rows as databases and frames give them, with their values as JSON knows them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec

from nightbatch.core.errors import ConfigurationError
from nightbatch.core.lines import JsonMembers, Line, Numbering, check_columns, with_input

if TYPE_CHECKING:
    from pandas import DataFrame

_EXACT = 2**53  # the last whole number that a float tells from its neighbours


def no_json_members(job_type: str) -> tuple[str, ...]:
    """Return no members, so that every text stays a text."""
    return ()


def read_rows(jobs: DataFrame | Iterable[Mapping[str, Any]], members: JsonMembers = no_json_members) -> Numbering:
    """Yield each job by its position, from 0, or the reason why it is none.

    A frame's columns are named as those of a CSV file; NaN, NaT, NA and None count as not given. Raises `ConfigurationError`
    for a frame whose columns are named otherwise, or for what is neither.
    """
    for position, row in enumerate(_mappings(jobs)):
        try:
            yield position, _line(row, members)
        except UnicodeEncodeError:
            yield position, "a string holds half a character (a lone surrogate)"
        except (TypeError, ValueError, RecursionError) as error:
            yield position, str(error)


def _mappings(jobs: DataFrame | Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    if isinstance(jobs, str | bytes | Mapping):
        raise ConfigurationError("nightbatch.enqueue takes a DataFrame, or several jobs as mappings.")
    pandas = sys.modules.get("pandas")  # a frame can only be given by who has imported it already
    if pandas is not None and isinstance(jobs, pandas.DataFrame):
        return _rows_of(cast("DataFrame", jobs))
    return iter(cast("Iterable[Mapping[str, Any]]", jobs))


def _rows_of(frame: DataFrame) -> Iterator[Mapping[str, Any]]:
    columns = list(frame.columns)
    check_columns("The frame", columns)
    for cells in frame.itertuples(index=False, name=None):
        yield dict(zip(columns, cells, strict=True))


def _line(row: Any, members: JsonMembers) -> Line:
    given = {str(name): value for name, value in _mapping(row).items() if not _is_missing(value)}
    for name in ("priority", "cache_days"):
        if name in given:
            given[name] = _whole(given[name])
    if "dedup_key" in given:
        given["dedup_key"] = _key(given["dedup_key"])
    if isinstance(given.get("labels"), Mapping):
        given["labels"] = {name: _label(value) for name, value in given["labels"].items()}
    given = with_input(given, members, to_json)
    return msgspec.json.decode(msgspec.json.encode({name: _plain(value) for name, value in given.items()}), type=Line)


def _mapping(row: Any) -> Mapping[str, Any]:
    """Return a row as a mapping: one of SQLAlchemy, sqlite3 or asyncpg, or a named tuple, nearly is one."""
    if isinstance(row, Mapping):
        return row
    if isinstance(getattr(row, "_mapping", None), Mapping):
        return cast("Mapping[str, Any]", row._mapping)
    if hasattr(row, "_asdict"):
        return cast("Mapping[str, Any]", row._asdict())
    if hasattr(row, "keys") and hasattr(row, "__getitem__"):
        return {name: row[name] for name in row.keys()}  # noqa: SIM118  it is no mapping
    raise TypeError(f"it is no mapping but of type {type(row).__name__}")


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NaTType", "NAType"):  # pandas' own, without importing it
        return True
    return isinstance(value, float | Decimal) and value != value


def _whole(value: Any) -> Any:
    """Return a whole number that is written as another kind: a column with gaps holds its numbers as floats."""
    return int(value) if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value) else value


def _key(value: Any) -> Any:
    """Return a number or UUID as the text of a key; a column of numbers with gaps holds floats."""
    if isinstance(value, float):
        if not value.is_integer() or abs(value) >= _EXACT:
            raise ValueError("dedup_key: as a float it is not exact, and others may be the same: give it as text")
        return str(int(value))
    return _label(value)


def _label(value: Any) -> Any:
    """Return whole numbers, dates, decimals and UUIDs as text; the rest as it is, to be judged later."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | UUID | Decimal) or _is_of_numpy(value, "iu"):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value


def to_json(value: Any) -> bytes:
    """Return a value of Python's as JSON, every digit of a number kept. Raises `TypeError` for what JSON has no word for."""
    return msgspec.json.encode(_plain(value))


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None or kind is msgspec.Raw:
        return value
    if kind is dict:
        return {_name(name): _plain(each) for name, each in value.items()}
    if kind is list or kind is tuple:
        return [_plain(each) for each in value]
    if isinstance(value, float | Decimal):
        return _number(value)
    return _of_others(value)


def _name(name: Any) -> str:
    if isinstance(name, str):
        return str(name)
    if isinstance(name, int) and not isinstance(name, bool):
        return str(int(name))
    raise TypeError(f"a member's name is of type {type(name).__name__}: JSON has texts only")


def _number(value: float | Decimal) -> Any:
    if not math.isfinite(value):
        raise ValueError(f"JSON has no {value}: leave the member out, or give None")
    return msgspec.Raw(str(value).encode()) if isinstance(value, Decimal) else float(value)


def _of_others(value: Any) -> Any:
    """Return what has no word of its own in JSON in the form that people expect."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, date | time) and not _is_missing(value):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_name(name): _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=str)
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"a value is of type {type(value).__name__}: decode it to text, or write it as base64")
    if hasattr(value, "dtype"):
        return _of_numpy(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON")


def _is_of_numpy(value: Any, kinds: str) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", " ") in kinds


def _of_numpy(value: Any) -> Any:
    """Return a scalar or an array of numpy or pandas; numpy itself would count a time in nanoseconds."""
    if _is_of_numpy(value, "mSV"):
        raise TypeError(f"a value of numpy's type {value.dtype} cannot be written as JSON")
    if _is_of_numpy(value, "M"):
        return _plain(value.astype("datetime64[us]").tolist())
    if _is_of_numpy(value, "f") and not getattr(value, "shape", ()):
        return _number(Decimal(str(value)))  # a float32 of 0.1 is 0.1, and not the nearest float64
    return _plain(value.tolist())

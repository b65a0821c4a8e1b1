"""What a job looks like on its way in: a line of a file, a row of a frame, a mapping. One set of checks for all of them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec

from nightbatch.errors import ConfigurationError

if TYPE_CHECKING:
    from pandas import DataFrame

_Aware = Annotated[datetime, msgspec.Meta(tz=True)]


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One job as a producer gives it; ``input`` keeps the bytes that stood in a file."""

    job_type: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    provider: Literal["openai", "anthropic", "gemini"]
    input: msgspec.Raw
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    priority: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    dedup_key: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] | None = None
    labels: dict[str, str] = {}
    not_before: _Aware | None = None
    deadline: _Aware | None = None
    cache_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] | None = None
    fallback: bool | None = None


Numbered = tuple[int, Line | str]
"""Where a job stands, with the job, or with the reason why it is none."""


def read_jsonl(path: Path, progress: Callable[[int], None]) -> Iterator[Numbered]:
    """By number of the line, from 1; ``progress`` gets the bytes read so far."""
    decoder = msgspec.json.Decoder(Line)
    done = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            done += len(raw)
            if number % 1000 == 0:
                progress(done)
            if not raw.strip():
                continue
            try:
                yield number, decoder.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield number, _why_undecodable(raw, error)
    progress(done)


def _why_undecodable(raw: bytes, error: Exception) -> str:
    if raw.strip() in (b"{", b"[", b"}", b"]") or not raw.lstrip().startswith(b"{"):
        return f"not a JSON object: every line must hold one whole job ({error})"
    if "truncated" in str(error) and b"\\ud" in raw.lower():
        return "a string holds half a character (a lone surrogate)"
    return str(error)


def read_csv(path: Path, progress: Callable[[int], None]) -> Iterator[Numbered]:
    """The first line names the columns; ``input`` holds JSON, or columns such as ``input.headline`` its members.

    By the line on which each row ends. Raises `ConfigurationError` for a first line that does not name the columns.
    """
    csv.field_size_limit(sys.maxsize)
    decoder = msgspec.json.Decoder(Line, strict=False)
    with path.open("rb") as raw, TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        _check_columns(f"{path.name}: the first line", reader.fieldnames or [])
        for count, row in enumerate(reader, start=1):
            if count % 1000 == 0:
                progress(raw.tell())
            try:
                yield reader.line_num, decoder.decode(msgspec.json.encode(_cells(row)))
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                yield reader.line_num, str(error)
        progress(raw.tell())


def _check_columns(what: str, names: Iterable[Any]) -> None:
    found = list(names)
    unknown = [name for name in found if name not in Line.__struct_fields__ and not str(name).startswith("input.")]
    twice = [name for name in dict.fromkeys(found) if found.count(name) > 1]
    if unknown or twice or not found:
        raise ConfigurationError(
            f"{what} must name the columns, of {', '.join(Line.__struct_fields__)} or input.<member>"
            + (f"; there is {', '.join(map(repr, unknown[:3]))}" if unknown else "")
            + (f"; {', '.join(map(repr, twice[:3]))} stands there twice" if twice else "")
            + "."
        )


def _cells(row: dict[str | Any, Any]) -> dict[str, Any]:
    if None in row:
        raise msgspec.ValidationError("the row has more cells than the first line has names")
    filled = {name: text for name, text in row.items() if text not in (None, "")}
    for text in filled.values():
        text.encode()  # half a character cannot be kept
    parts = _take_parts(filled)
    if parts:
        filled["input"] = msgspec.Raw(msgspec.json.encode(parts))
    return _with_json_read(filled)


def _take_parts(given: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("input."): given.pop(name) for name in list(given) if name.startswith("input.")}


def _with_json_read(given: dict[str, Any]) -> dict[str, Any]:
    """Input and labels may be JSON text."""
    if isinstance(given.get("input"), str):
        given["input"] = msgspec.json.decode(given["input"], type=msgspec.Raw)
    if isinstance(given.get("labels"), str):
        given["labels"] = msgspec.json.decode(given["labels"], type=dict[str, str])
    return given


def read_rows(jobs: DataFrame | Iterable[Mapping[str, Any]]) -> Iterator[Numbered]:
    """By position, from 0. A frame's columns are named as those of a CSV file; NaN, NaT, NA and None are not given.

    Raises `ConfigurationError` for a frame whose columns are named otherwise, or for what is neither.
    """
    for position, row in enumerate(_mappings(jobs)):
        try:
            yield position, _line(row)
        except UnicodeEncodeError:
            yield position, "a string holds half a character (a lone surrogate)"
        except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as error:
            yield position, str(error)


def _mappings(jobs: DataFrame | Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    if isinstance(jobs, str | bytes | Mapping):
        raise ConfigurationError("nightbatch.enqueue takes a DataFrame, or several jobs as mappings.")
    pandas = sys.modules.get("pandas")  # a frame can only be given by who has imported it already
    if pandas is not None and isinstance(jobs, pandas.DataFrame):
        return _rows_of(cast("DataFrame", jobs))
    return iter(cast("Iterable[Mapping[str, Any]]", jobs))


def _rows_of(frame: DataFrame) -> Iterator[Mapping[str, Any]]:
    columns = list(frame.columns)
    _check_columns("The frame", columns)
    for cells in frame.itertuples(index=False, name=None):
        yield dict(zip(columns, cells, strict=True))


def _line(row: Mapping[str, Any]) -> Line:
    if not isinstance(row, Mapping):
        raise TypeError(f"it is no mapping but of type {type(row).__name__}")
    given = {str(name): value for name, value in row.items() if not _is_missing(value)}
    parts = _take_parts(given)
    if parts and "input" in given:
        raise ValueError("it has an input, and members of one besides")
    if parts or isinstance(given.get("input"), Mapping):
        given["input"] = msgspec.Raw(_as_json(parts or given["input"]))
    for name in ("priority", "cache_days"):  # a column with gaps holds its numbers as floats
        if isinstance(given.get(name), float) and given[name].is_integer():
            given[name] = int(given[name])
    return msgspec.json.decode(msgspec.json.encode(_with_json_read(given), enc_hook=_plain), type=Line)


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NaTType", "NAType"):  # pandas' own, without importing it
        return True
    return isinstance(value, float) and value != value


def _as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy, dates, and mappings of any kind, as JSON knows them."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON")

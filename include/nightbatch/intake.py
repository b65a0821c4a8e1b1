"""Jobs from a file into the staging table: every line checked, a bad one named, and no other lost for it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from nightbatch.errors import ConfigurationError
from nightbatch.job_types.base import JobType
from nightbatch.postgres.staging import Row, RowsRefused, insert_rows
from nightbatch.postgres.store import Store

_CHUNK = 5_000
_Aware = Annotated[datetime, msgspec.Meta(tz=True)]


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One job as a file gives it; ``input`` keeps the bytes that the producer wrote."""

    job_type: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    provider: Literal["openai", "anthropic", "gemini"]
    input: msgspec.Raw
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    priority: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    dedup_key: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] | None = None
    labels: dict[str, str] = {}
    not_before: _Aware | None = None
    deadline: _Aware | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no job; ``number`` counts lines of the file from 1, for CSV the line on which its row ends."""

    number: int
    reason: str


@dataclass(slots=True)
class Enqueued:
    """What became of a file's lines: ``known`` had the dedup key of a job that was there before."""

    new: int = 0
    known: int = 0
    bad: list[BadLine] = field(default_factory=list)


def enqueue_file(
    store: Store, types: Mapping[str, JobType], path: Path, *, progress: Callable[[int], None] = lambda _: None
) -> Enqueued:
    """Insert the jobs of a JSONL or CSV file; bad lines are left out and reported.

    Streams the file; ``progress`` gets the bytes read so far. All good lines are inserted, or, if the database fails on
    the way, none. Raises `ConfigurationError` for a file that cannot be read as either.
    """
    read = {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".csv": _read_csv}.get(path.suffix.lower())
    if read is None:
        raise ConfigurationError(f"{path.name}: only .jsonl and .csv files can be enqueued.")
    done = Enqueued()
    good = _good_rows(read(path, progress), types, done)
    with store.transaction():
        while chunk := list(islice(good, _CHUNK)):
            _insert(store, chunk, done)
    done.bad.sort(key=lambda line: line.number)
    return done


_Numbered = tuple[int, Line | str]
"""A line's number with the job, or with the reason why it is none."""


def _good_rows(
    numbered: Iterator[_Numbered], types: Mapping[str, JobType], done: Enqueued
) -> Iterator[tuple[int, Row]]:
    for number, line in numbered:
        reason = line if isinstance(line, str) else _why_not(line, types)
        if reason or isinstance(line, str):
            done.bad.append(BadLine(number, str(reason)))
        else:
            yield number, _row(line)


def _why_not(line: Line, types: Mapping[str, JobType]) -> str | None:
    """What the types do not say: which job types there are, and what Postgres cannot keep as text."""
    kind = types.get(line.job_type)
    if kind is None:
        return f"there is no such job type; there are {', '.join(sorted(types))}"
    if line.provider not in kind.models:
        return f"{line.provider} cannot do {line.job_type} jobs"
    if not bytes(line.input).startswith(b"{"):
        return "input is no JSON object"
    texts = [line.job_type, line.model, line.dedup_key, *line.labels, *line.labels.values()]
    return "a text holds the character U+0000" if any("\0" in text for text in texts if text) else None


def _row(line: Line) -> Row:
    return (
        line.job_type,
        line.provider,
        line.model,
        line.priority,
        bytes(line.input).decode(),
        line.dedup_key,
        msgspec.json.encode(line.labels).decode(),
        line.not_before,
        line.deadline,
    )


def _insert(store: Store, rows: list[tuple[int, Row]], done: Enqueued) -> None:
    """Insert what Postgres takes; what it refuses all the same is found by halving."""
    try:
        new = insert_rows(store, [row for _, row in rows])
    except RowsRefused as refused:
        if len(rows) == 1:
            done.bad.append(BadLine(rows[0][0], str(refused)))
            return
        middle = len(rows) // 2
        _insert(store, rows[:middle], done)
        _insert(store, rows[middle:], done)
        return
    done.new += new
    done.known += len(rows) - new


def _read_jsonl(path: Path, progress: Callable[[int], None]) -> Iterator[_Numbered]:
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


def _read_csv(path: Path, progress: Callable[[int], None]) -> Iterator[_Numbered]:
    """The first line names the columns; ``input`` holds JSON, or columns such as ``input.headline`` its members."""
    csv.field_size_limit(sys.maxsize)
    decoder = msgspec.json.Decoder(Line, strict=False)
    with path.open("rb") as raw, TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        _check_header(path, reader.fieldnames or [])
        for count, row in enumerate(reader, start=1):
            if count % 1000 == 0:
                progress(raw.tell())
            try:
                yield reader.line_num, decoder.decode(msgspec.json.encode(_members(row)))
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                yield reader.line_num, str(error)
        progress(raw.tell())


def _check_header(path: Path, names: Any) -> None:
    unknown = [name for name in names if name not in Line.__struct_fields__ and not name.startswith("input.")]
    if unknown or not names:
        raise ConfigurationError(
            f"{path.name}: the first line must name the columns, of {', '.join(Line.__struct_fields__)} or input.<member>"
            + (f"; there is {', '.join(map(repr, unknown[:3]))}." if unknown else ".")
        )


def _members(row: dict[str | Any, Any]) -> dict[str, Any]:
    if None in row:
        raise msgspec.ValidationError("the row has more cells than the first line has names")
    filled = {name: text for name, text in row.items() if text not in (None, "")}
    for text in filled.values():
        text.encode()  # half a character cannot be kept
    parts = {name.removeprefix("input."): filled.pop(name) for name in list(filled) if name.startswith("input.")}
    if parts:
        filled["input"] = msgspec.Raw(msgspec.json.encode(parts))
    elif "input" in filled:
        filled["input"] = msgspec.json.decode(filled["input"], type=msgspec.Raw)
    if "labels" in filled:
        filled["labels"] = msgspec.json.decode(filled["labels"], type=dict[str, str])
    return filled

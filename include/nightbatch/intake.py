"""Jobs into the staging table, from a file or from Python: each one checked, a bad one named, and no other lost for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from nightbatch.errors import ConfigurationError, NightbatchError
from nightbatch.job_types.base import JobType
from nightbatch.lines import Line, Numbered, read_csv, read_jsonl, read_rows
from nightbatch.postgres.staging import Row, RowsRefused, insert_for_ids, insert_rows, rejected_of
from nightbatch.postgres.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame

_CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class BadLine:
    """What is no job. ``number`` counts a file's lines from 1 (for CSV the line on which its row ends), rows from 0."""

    number: int
    reason: str


@dataclass(slots=True)
class Enqueued:
    """What became of a file's lines: ``known`` had the dedup key of a job that was there before.

    ``rejected`` are those of these jobs that ended as rejected: `nightbatch retry --job` asks them again.
    """

    new: int = 0
    known: int = 0
    rejected: list[int] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)


class JobsRefused(NightbatchError):
    """Some rows are no jobs, so none was inserted; ``bad`` names every one of them by its position, from 0."""

    def __init__(self, bad: list[BadLine]) -> None:
        shown = "; ".join(f"row {row.number}: {row.reason}" for row in bad[:5])
        more = f"; and {len(bad) - 5:,} more" if len(bad) > 5 else ""
        super().__init__(f"Nothing was queued, since {len(bad):,} of the rows are no jobs: {shown}{more}.")
        self.bad = bad


def enqueue_file(
    store: Store, types: Mapping[str, JobType], path: Path, *, progress: Callable[[int], None] = lambda _: None
) -> Enqueued:
    """Insert the jobs of a JSONL or CSV file; bad lines are left out and reported.

    Streams the file; ``progress`` gets the bytes read so far. All good lines are inserted, or, if the database fails on
    the way, none. Raises `ConfigurationError` for a file that cannot be read as either.
    """
    read = {".jsonl": read_jsonl, ".ndjson": read_jsonl, ".csv": read_csv}.get(path.suffix.lower())
    if read is None:
        raise ConfigurationError(f"{path.name}: only .jsonl and .csv files can be enqueued.")
    done = Enqueued()
    good = _good_rows(read(path, progress), types, done.bad)
    with store.transaction():
        for chunk in _read_ahead(good):
            for accepted, new in _insert(store, insert_rows, chunk, done.bad):
                done.new += new
                done.known += len(accepted) - new
                if new < len(accepted):
                    done.rejected += rejected_of(store, [row for _, row in accepted])
    done.bad.sort(key=lambda line: line.number)
    return done


def enqueue_rows(
    store: Store, types: Mapping[str, JobType], jobs: DataFrame | Iterable[Mapping[str, Any]]
) -> list[int]:
    """Insert the jobs of a pandas DataFrame, or of mappings; their ids in the same order. All of them, or none.

    Raises `JobsRefused`, which names every row that is no job, and `ConfigurationError` for a frame whose columns are
    named otherwise than those of a CSV file.
    """
    bad: list[BadLine] = []
    ids: list[int] = []
    good = _good_rows(read_rows(jobs), types, bad)
    with store.transaction():
        while chunk := list(islice(good, _CHUNK)):
            if not bad:  # after a bad one the others are only looked at, to be named with it
                for _, found in _insert(store, insert_for_ids, chunk, bad):
                    ids += found
        if bad:
            raise JobsRefused(sorted(bad, key=lambda row: row.number))
    return ids


_Placed = list[tuple[int, Row]]
"""Rows with where they stand."""


def _read_ahead(rows: Iterator[tuple[int, Row]]) -> Iterator[_Placed]:
    """Chunks of rows; the next one is read and checked while Postgres takes this one."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(lambda: list(islice(rows, _CHUNK)))
        while chunk := coming.result():
            coming = reader.submit(lambda: list(islice(rows, _CHUNK)))
            yield chunk


def _good_rows(
    numbered: Iterator[Numbered], types: Mapping[str, JobType], bad: list[BadLine]
) -> Iterator[tuple[int, Row]]:
    for number, line in numbered:
        reason = line if isinstance(line, str) else _why_not(line, types)
        if reason or isinstance(line, str):
            bad.append(BadLine(number, str(reason)))
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
    texts = "".join((line.model or "", line.dedup_key or "", *line.labels, *line.labels.values()))
    return "a text holds the character U+0000" if "\0" in texts else None


def _row(line: Line) -> Row:
    return (
        line.job_type,
        line.provider,
        line.model,
        line.priority,
        bytes(line.input),
        line.dedup_key,
        msgspec.json.encode(line.labels) if line.labels else b"{}",
        line.not_before,
        line.deadline,
        line.cache_days,
        line.fallback,
    )


_Result = TypeVar("_Result")


def _insert(
    store: Store, insert: Callable[[Store, list[Row]], _Result], rows: _Placed, bad: list[BadLine]
) -> Iterator[tuple[_Placed, _Result]]:
    """Insert what Postgres takes; what it refuses all the same is found by halving."""
    try:
        yield rows, insert(store, [row for _, row in rows])
    except RowsRefused as refused:
        if len(rows) == 1:
            bad.append(BadLine(rows[0][0], str(refused)))
            return
        middle = len(rows) // 2
        yield from _insert(store, insert, rows[:middle], bad)
        yield from _insert(store, insert, rows[middle:], bad)

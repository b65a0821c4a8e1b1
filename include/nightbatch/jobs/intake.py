"""Brings jobs into the staging table, from a file or from Python: each one checked, a bad one named, and no other lost for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from nightbatch.core.errors import ConfigurationError, NightbatchError, Rejected
from nightbatch.core.lines import Line, Numbered, why_no_model
from nightbatch.core.models import Prompt, RawRequest, Request
from nightbatch.core.profiles import profile, profiles, why_unknown
from nightbatch.job_types.base import JobType, costs_the_job
from nightbatch.jobs.batch_files import LABEL
from nightbatch.jobs.input_formats import Source, read_file
from nightbatch.jobs.rows import read_rows
from nightbatch.postgres.staging import Row, RowsRefused, insert_for_ids, insert_rows, rejected_of
from nightbatch.postgres.store import Store
from nightbatch.providers import writer

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
    """What became of a file's lines: ``known`` had the dedup key of a job that was there before, or stood in a file before.

    ``rejected`` are those of these jobs that ended as rejected: `nightbatch retry --job` asks them again.
    """

    new: int = 0
    known: int = 0
    rejected: list[int] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)


class JobsRefused(NightbatchError):
    """Some rows are no jobs, so none was inserted; ``bad`` names every one of them by its position, from 0.

    For a file it names lines, by their numbers; ``what`` says which of the two.
    """

    def __init__(self, bad: list[BadLine], what: Literal["row", "line"] = "row") -> None:
        shown = "; ".join(f"{what} {row.number}: {row.reason}" for row in bad[:5])
        more = f"; and {len(bad) - 5:,} more" if len(bad) > 5 else ""
        super().__init__(f"Nothing was queued, since {len(bad):,} of the {what}s are no jobs: {shown}{more}.")
        self.bad, self.what = bad, what


def enqueue_file(
    store: Store,
    types: Mapping[str, JobType],
    path: Source,
    *,
    model: str | None = None,
    all_or_nothing: bool = False,
    again: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Enqueued:
    """Insert the jobs of a file (`nightbatch.jobs.input_formats`); bad lines are left out and reported.

    A line without a dedup key gets one of its content, so that a file queues nothing twice; ``again`` queues it anew.
    ``model`` is for lines of a provider's batch file that name none. Streams the file; ``progress`` gets the bytes read so
    far. All good lines are inserted, or, if the database fails on the way, none. Raises `ConfigurationError` for a file that
    cannot be read, and, with ``all_or_nothing``, `JobsRefused` for one with a bad line, of which nothing is inserted then.
    """
    done = Enqueued()
    numbered = read_file(path, _members_of(types), model=model, progress=progress)
    good = _good_rows(numbered, types, done.bad, None if again else _Keys())
    with store.transaction():
        for chunk in _read_ahead(good):
            if done.bad and all_or_nothing:
                continue  # the others are only looked at, to be named with it
            for accepted, new in _insert(store, insert_rows, chunk, done.bad):
                done.new += new
                done.known += len(accepted) - new
                if new < len(accepted):
                    done.rejected += rejected_of(store, [row for _, row in accepted])
        done.bad.sort(key=lambda line: line.number)
        if done.bad and all_or_nothing:
            raise JobsRefused(done.bad, "line")
    return done


def check_file(
    types: Mapping[str, JobType],
    path: Source,
    *,
    model: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Enqueued:
    """Read a file as `enqueue_file` does, and insert nothing: ``new`` counts its good lines. Needs no database."""
    done = Enqueued()
    numbered = read_file(path, _members_of(types), model=model, progress=progress)
    done.new = sum(1 for _ in _good_rows(numbered, types, done.bad, None))
    return done


def _members_of(types: Mapping[str, JobType]) -> Callable[[str], Collection[str]]:
    return lambda job_type: types[job_type].json_members if job_type in types else ()


def enqueue_rows(
    store: Store, types: Mapping[str, JobType], jobs: DataFrame | Iterable[Mapping[str, Any]]
) -> list[int]:
    """Insert the jobs of a pandas DataFrame, or of mappings, all of them or none; return their ids in the same order.

    Raises `JobsRefused`, which names every row that is no job, and `ConfigurationError` for a frame whose columns are
    named otherwise than those of a CSV file.
    """
    bad: list[BadLine] = []
    ids: list[int] = []
    good = _good_rows(read_rows(jobs, _members_of(types)), types, bad, None)
    with store.transaction():
        while chunk := list(islice(good, _CHUNK)):
            if not bad:  # after a bad one the others are only looked at, to be named with it
                for _, found in _insert(store, insert_for_ids, chunk, bad):
                    ids += found
        if bad:
            raise JobsRefused(sorted(bad, key=lambda row: row.number))
    return ids


_Placed = list[tuple[int, Row]]
"""Rows, each with its place."""


def _read_ahead(rows: Iterator[tuple[int, Row]]) -> Iterator[_Placed]:
    """Yield chunks of rows; the next one is read and checked while Postgres takes this one."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(lambda: list(islice(rows, _CHUNK)))
        while chunk := coming.result():
            coming = reader.submit(lambda: list(islice(rows, _CHUNK)))
            yield chunk


def _good_rows(
    numbered: Iterator[Numbered], types: Mapping[str, JobType], bad: list[BadLine], keys: _Keys | None
) -> Iterator[tuple[int, Row]]:
    for number, line in numbered:
        reason = line if isinstance(line, str) else _why_not(line, types)
        if reason or isinstance(line, str):
            bad.append(BadLine(number, str(reason)))
        else:
            yield number, _row(line, keys.of(line) if keys and line.dedup_key is None else line.dedup_key)


class _Keys:
    """Gives the lines of one file dedup keys of their content, so that the file again queues nothing twice.

    Equal lines are told apart by which of them each is: a file that says something twice means it. When and how a job is to
    be answered is no part of it, nor are its labels, but for the id that it has in a provider's batch file.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._times: dict[bytes, int] = {}

    def of(self, line: Line) -> str:
        """Return the key of the next line."""
        about = msgspec.json.encode((line.job_type, line.provider, line.model, line.labels.get(LABEL)))
        digest = blake2b(about + _same_if_equal(bytes(line.input)), digest_size=16).digest()
        times = 1
        if digest in self._seen:
            times = self._times[digest] = self._times.get(digest, 1) + 1
        self._seen.add(digest)
        return f"{_OUR_KEYS}{digest.hex()}:{times}"


_OUR_KEYS = "nightbatch:line:"
_as_written = msgspec.json.Decoder(float_hook=msgspec.Raw).decode
_in_order = msgspec.json.Encoder(order="sorted").encode


def _same_if_equal(text: bytes) -> bytes:
    """Return an input in one form, whatever its white space and the order of its members."""
    try:
        return _in_order(_as_written(text))
    except (ValueError, RecursionError):
        return text


def _why_not(line: Line, types: Mapping[str, JobType]) -> str | None:
    """Return why a line is no job: for what there is not, what Postgres cannot keep, or what the night would reject."""
    kind = types.get(line.job_type)
    if kind is None:
        return f"there is no such job type; there are {', '.join(sorted(types))}"
    if line.provider not in profiles():
        return why_unknown(line.provider)
    if line.provider not in kind.models:
        return f"{line.provider} cannot do {line.job_type} jobs"
    if not bytes(line.input).startswith(b"{"):
        return "input is no JSON object"
    texts = "".join((line.model or "", line.dedup_key or "", *line.labels, *line.labels.values()))
    if "\0" in texts:
        return "a text holds the character U+0000"
    if line.dedup_key is not None and line.dedup_key.startswith(_OUR_KEYS):
        return f"dedup_key: those that begin with {_OUR_KEYS} are nightbatch's own"
    if line.model is not None:
        line.model = line.model.strip()
        if why := why_no_model(line.model):
            return why
    return _why_rejected(kind, line)


def _why_rejected(kind: JobType, line: Line) -> str | None:
    """Return why the night would reject a line. What only this machine lacks, such as a file or a package, is no reason."""
    try:
        request = kind.check_input(bytes(line.input))
        if request is not None and not (isinstance(request, Prompt) and request.media):  # those are looked for at night
            _check(kind, line, request)
    except Rejected as error:
        return None if isinstance(error.__cause__, OSError | ImportError) else str(error)
    except ConfigurationError:
        pass
    return None


class _Named(msgspec.Struct):
    model: str | None = None


_named = msgspec.json.Decoder(_Named).decode


def _check(kind: JobType, line: Line, request: Request) -> None:
    """Raise `Rejected` where the line cannot be written, or its provider or its model does not take it."""
    if isinstance(request, RawRequest):
        named = str(request.body.get("model") or "").strip()
    else:
        named = (_named(line.input).model or "").strip() if kind.model_in else ""
    column = line.model or ""
    facts = profile(line.provider)
    named, column = named.removeprefix(facts.model_prefix), column.removeprefix(facts.model_prefix)
    if named and column and named != column:
        raise Rejected(f"model: the input asks for {named[:60]}, and the job for {column[:60]}: which one is meant?")
    if isinstance(request, RawRequest) and facts.has_openai_endpoints:
        return  # what else stands in a body is for the provider to judge
    asked = column or named or kind.models[line.provider], kind.endpoint(line.provider), request
    try:
        writer(line.provider).check(*asked)
    except Exception:  # noqa: BLE001  told as at night; to be ready for it costs more than the look itself
        with costs_the_job(f"the adapter of {line.provider}"):
            writer(line.provider).check(*asked)


def _row(line: Line, dedup_key: str | None) -> Row:
    return (
        line.job_type,
        line.provider,
        line.model,
        line.priority,
        bytes(line.input),
        dedup_key,
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
    """Insert what Postgres takes, yielding it with what came of it; rows that it refuses all the same are found by halving."""
    try:
        yield rows, insert(store, [row for _, row in rows])
    except RowsRefused as refused:
        if len(rows) == 1:
            bad.append(BadLine(rows[0][0], str(refused)))
            return
        middle = len(rows) // 2
        yield from _insert(store, insert, rows[:middle], bad)
        yield from _insert(store, insert, rows[middle:], bad)

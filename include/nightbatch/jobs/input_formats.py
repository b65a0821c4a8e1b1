"""Files of jobs as people have them: JSON lines, CSV, a JSON array; compressed or not, in any encoding that says which it is."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from io import TextIOWrapper
from typing import IO, Any, Protocol, cast

import msgspec

from nightbatch.core.errors import ConfigurationError
from nightbatch.core.lines import JsonMembers, Line, Numbering
from nightbatch.jobs.batch_files import BatchLines
from nightbatch.jobs.csv_files import read_csv
from nightbatch.jobs.texts import why_no_utf_8

_HEAD = 65_536
_MAX_LINE = 256 * 2**20
_MAX_ARRAY = 512 * 2**20
_LINES = (".jsonl", ".ndjson")
_TABLES = (".csv", ".tsv")

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which begins with the same bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHERS = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook: in Excel, save it as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook: save it as CSV UTF-8"),
    (b"PAR1", "Parquet: nightbatch.enqueue(pandas.read_parquet(...)) queues it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: only gzip is read"),
    (b"BZh", "compressed with bzip2: only gzip is read"),
    (b"\xfd7zXZ", "compressed with xz: only gzip is read"),
)
_GZIP = b"\x1f\x8b"


class Source(Protocol):
    """A file that can be read: a `pathlib.Path`, or Airflow's ``ObjectStoragePath``."""

    @property
    def name(self) -> str:
        """Return the file's name."""

    def open(self, mode: str) -> Any:
        """Open the file."""


@dataclass(frozen=True)
class _Stream:
    """A file's bytes, without compression and byte order mark; ``encoding`` is UTF-8 where nothing says otherwise."""

    name: str
    file: IO[bytes]
    head: bytes
    encoding: str

    @cached_property
    def text(self) -> TextIOWrapper:
        """Return the file as text with its line ends as they are; a byte that is no UTF-8 becomes a lone surrogate.

        It is kept, since it would close the file when nobody has it any more.
        """
        errors = "surrogateescape" if self.encoding == "utf-8" else "strict"
        return TextIOWrapper(self.file, self.encoding, errors=errors, newline="")


def read_file(
    path: Source, members: JsonMembers, *, model: str | None = None, progress: Callable[[int], None] = lambda _: None
) -> Numbering:
    """Yield each job by its line, from 1 (for CSV the line on which its row ends), or the reason why it is none.

    ``model`` is for lines of a provider's batch file that name none. ``progress`` gets the bytes of the file read so far.
    Raises `ConfigurationError` for a file that cannot be read as a whole.
    """
    kind = _kind(path.name)
    with path.open("rb") as file:
        stream = _opened(path.name, file)
        jobs = read_csv(stream.text, path.name, members) if kind in _TABLES else _read_json(stream, kind, model)
        try:
            for count, numbered in enumerate(jobs):
                if count % 1000 == 999:
                    progress(file.tell())
                yield numbered
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ConfigurationError(f"{path.name} is cut short or damaged: gzip says {error}.") from None
        except UnicodeError as error:
            raise ConfigurationError(
                f"{path.name} is no {stream.encoding.upper()} to its end: {error.args[-1]}."
            ) from None
        progress(file.tell())


def _kind(name: str) -> str:
    kind = "." + name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind == ".parquet":
        raise ConfigurationError(f"{name}: Parquet is no text: nightbatch.enqueue(pandas.read_parquet(...)) queues it.")
    if kind in (".xlsx", ".xls"):
        raise ConfigurationError(f"{name}: save the workbook as CSV UTF-8.")
    if kind not in (*_LINES, *_TABLES, ".json"):
        raise ConfigurationError(f"{name}: only .jsonl, .json and .csv files can be enqueued, and the same with .gz.")
    return kind


def _opened(name: str, file: IO[bytes]) -> _Stream:
    """Return a file's bytes as its first ones say that they are to be read: those say more than the name does."""
    head = file.read(_HEAD)
    file.seek(0)
    if head.startswith(_GZIP):
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=file))
        try:
            head = file.read(_HEAD)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ConfigurationError(f"{name} is cut short or damaged: gzip says {error}.") from None
        file.seek(0)
    for mark, what in _OTHERS:
        if head.startswith(mark):
            raise ConfigurationError(f"{name} is {what}.")
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            if encoding == "utf-8":
                file.seek(len(mark))
            return _Stream(name, file, head.removeprefix(mark), encoding)
    if head.count(0) > len(head) // 4:
        raise ConfigurationError(f"{name} looks like UTF-16 without its byte order mark: save it as UTF-8.")
    return _Stream(name, file, head, "utf-8")


def _read_json(stream: _Stream, kind: str, model: str | None) -> Numbering:
    decode = _Decoder(model)
    start = stream.head.lstrip()[:1] if stream.encoding == "utf-8" else b""
    if start == b"[" or kind == ".json":
        whole = stream.file.read(_MAX_ARRAY + 1)
        if len(whole) > _MAX_ARRAY:
            raise ConfigurationError(f"{stream.name} is too long for one JSON array: write one job a line, as .jsonl.")
        if stream.encoding != "utf-8":
            whole = whole.decode(stream.encoding).encode()
        yield from _read_array(stream.name, whole, decode)
    else:
        yield from _read_lines(_lines(stream), decode)


def _lines(stream: _Stream) -> Iterator[bytes]:
    """Yield lines in UTF-8, ended as Unix, Windows or the old Macintosh do."""
    if stream.encoding != "utf-8":
        return (line.encode() for line in stream.text)
    if b"\r" in stream.head and b"\n" not in stream.head:
        return (line.encode(errors="surrogateescape") for line in stream.text)
    return _bounded(stream)


def _bounded(stream: _Stream) -> Iterator[bytes]:
    for number, line in enumerate(iter(lambda: stream.file.readline(_MAX_LINE), b""), start=1):
        if len(line) == _MAX_LINE:
            raise ConfigurationError(f"{stream.name}: line {number} is longer than any job can be.")
        yield line


def _read_lines(lines: Iterable[bytes], decode: _Decoder) -> Numbering:
    for number, raw in enumerate(lines, start=1):
        if raw.strip():
            yield number, decode(number, raw)


class _Decoder:
    """Reads single jobs of one file."""

    def __init__(self, model: str | None) -> None:
        self._ours = msgspec.json.Decoder(Line).decode
        self._foreign = BatchLines(model).read

    def __call__(self, number: int, raw: bytes) -> Line | str:
        """Return the job, or why it is none."""
        try:
            if not raw.isascii():
                raw.decode()
            return self._ours(raw)
        except UnicodeDecodeError as error:
            return why_no_utf_8(error)
        except (msgspec.DecodeError, RecursionError) as error:
            if raw.startswith(codecs.BOM_UTF8):  # files that were put together
                return self(number, raw.removeprefix(codecs.BOM_UTF8))
            return self._foreign(number, raw) or _why_undecodable(raw, error)


def _why_undecodable(raw: bytes, error: Exception) -> str:
    if b"\0" in raw:
        return "it holds NUL bytes: the file was cut short, or is no text"
    bare = raw.strip()
    if bare in (b"{", b"[", b"}", b"]") or not bare.startswith(b"{"):
        return f"not a JSON object: every line must hold one whole job ({error})"
    if "truncated" in str(error):
        if b"\\ud" in raw.lower():
            return "a string holds half a character (a lone surrogate)"
        if not raw.endswith((b"\n", b"\r")):
            return f"the file ends in the middle of this line ({error})"
    if "malformed" in str(error) and any(word in raw for word in (b"NaN", b"Infinity")):
        return f"{error}: JSON has no NaN and no Infinity, leave the member out or write null"
    return str(error)


def _read_array(name: str, whole: bytes, decode: _Decoder) -> Numbering:
    """Yield the jobs of an array by the line on which each begins; JSON lines under a wrong name are read as such."""
    jobs = _array(name, whole)
    if jobs is None:
        yield from _read_lines(whole.splitlines(keepends=True), decode)
        return
    line, place = 1, 0
    for raw in map(bytes, jobs):
        begins = whole.index(raw, place)
        line += whole.count(b"\n", place, begins)
        yield line, decode(line, raw)
        line, place = line + raw.count(b"\n"), begins + len(raw)


def _array(name: str, whole: bytes) -> Iterable[msgspec.Raw] | None:
    """Return the members of the array, or of the only one in a body such as ``{"jobs": [...]}``; None for JSON lines."""
    try:
        whole.decode()
        if whole.lstrip().startswith(b"{"):
            return _within(whole)
        return msgspec.json.decode(whole, type=list[msgspec.Raw])
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{name}, line {whole.count(10, 0, error.start) + 1}: {why_no_utf_8(error)}."
        ) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigurationError(f"{name} is no JSON array of jobs: {error}.") from None


def _within(whole: bytes) -> Iterable[msgspec.Raw] | None:
    try:
        found = msgspec.json.decode(whole, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return None
    for wrapper in ("jobs", "requests"):
        if found.keys() == {wrapper}:
            return msgspec.json.decode(bytes(found[wrapper]), type=list[msgspec.Raw])
    return [msgspec.json.decode(whole, type=msgspec.Raw)]

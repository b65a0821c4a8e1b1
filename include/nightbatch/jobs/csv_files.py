"""Jobs as a table in a file: CSV as programs, spreadsheets and people write it."""

from __future__ import annotations

import csv
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, TextIO

import msgspec

from nightbatch.core.errors import ConfigurationError
from nightbatch.core.lines import JsonMembers, Line, Numbering, check_columns, is_column, with_input
from nightbatch.core.profiles import profiles
from nightbatch.jobs.texts import why_no_utf_8

_MARKS = ",;\t|"
_MAX_CELL = 64 * 2**20  # characters that one row may have before it counts as a quote that was never closed
_TIMES = ("not_before", "deadline")
_AS_IT_IS = ("input", "labels", "dedup_key")


def read_csv(text: TextIO, name: str, members: JsonMembers) -> Numbering:
    """Yield the jobs of a CSV file, whose first line names the columns; ``input`` holds JSON, or ``input.headline`` a member.

    Columns are separated by whatever separates their names. Each job comes with the line on which its row ends, or on which a
    quote opens that is not closed. Raises `ConfigurationError` for a first line that does not name the columns.
    """
    csv.field_size_limit(sys.maxsize)
    decoder = msgspec.json.Decoder(Line, strict=False)
    lines, before, mark = _opening(text)
    header = next(lines, "")
    mark = mark or _mark_of(header)
    names = _columns(f"{name}: the first line", header, mark)
    provider = names.index("provider") if "provider" in names else None
    for number, cells in _rows(lines, mark, before, provider):
        if isinstance(cells, str):
            yield number, cells
        elif any(map(str.strip, cells)):
            yield number, _job(names, cells, members, decoder)


def _opening(text: TextIO) -> tuple[Iterator[str], int, str]:
    """Return the lines from the header on, how many have passed with it, and what Excel's ``sep=;`` says, if it is there."""
    lines = iter(text)
    mark = ""
    for number, line in enumerate(lines, start=1):
        bare = line.strip().strip('"')
        if bare.startswith("sep=") and len(bare) == 5:
            mark = bare[4]
        elif bare == "sep=":  # whose tab was stripped
            mark = "\t"
        elif bare:
            return chain([line], lines), number, mark
    return iter(()), 0, mark


def _mark_of(header: str) -> str:
    """Return what separates the most names of columns; a comma if nothing does."""
    return max(_MARKS, key=lambda mark: sum(is_column(name.strip(' "\r\n')) for name in header.split(mark)))


def _columns(what: str, header: str, mark: str) -> list[str]:
    try:
        header.encode()
        names = [name.strip() for name in next(csv.reader([header], delimiter=mark, strict=True), [])]
    except UnicodeEncodeError:
        raise ConfigurationError(f"{what}: {_why_no_text(header)}.") from None
    except csv.Error as error:
        raise ConfigurationError(f"{what} is no CSV: {error}.") from None
    while names and not names[-1]:
        del names[-1]
    check_columns(what, [name for name in names if name])
    return names


def _rows(lines: Iterator[str], mark: str, header: int, provider: int | None) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the cells of each row after the header, or what is wrong with its first line; the others are read anew."""
    source, number = _Lines(lines), header
    while True:
        try:
            for cells in csv.reader(source, delimiter=mark, strict=True):
                if len(source.taken) > 1 and _swallowed(source.taken[1:], mark, provider):
                    raise csv.Error("a row stands in a cell")
                number += source.finish()
                yield number, cells
            return
        except csv.Error as error:
            number += 1
            yield number, _why_no_row(source.taken, error)
            source.give_back()


class _Lines:
    """Lines, and those of the row that is being read: all but its first can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self._size = 0
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        self._size += len(line)
        if self._size > _MAX_CELL and len(self.taken) > 1:
            raise csv.Error("a row is longer than any job can be")
        return line

    def finish(self) -> int:
        """Begin the next row; return how many lines this one had."""
        count, self.taken, self._size = len(self.taken), [], 0
        return count

    def give_back(self) -> None:
        """Begin the next row on the second line of this one."""
        self._again.extendleft(reversed(self.taken[1:]))
        self.finish()


def _swallowed(lines: Sequence[str], mark: str, provider: int | None) -> bool:
    """Return whether a cell of several lines holds what is a row by itself: then its quote was never meant to go so far."""
    if provider is None:
        return False
    for line in lines:
        cells = line.split(mark)
        if len(cells) > provider and cells[provider].strip(' "\r\n') in profiles():
            return True
    return False


def _why_no_row(kept: Sequence[str], error: csv.Error) -> str:
    if len(kept) > 1 or "end of data" in str(error):
        return "a quote opens on this line and is not closed where its cell ends"
    return f'a quote stands in the middle of a cell: write it twice, as "" ({error})'


def _job(
    names: Sequence[str], cells: Sequence[str], members: JsonMembers, decoder: msgspec.json.Decoder[Line]
) -> Line | str:
    try:
        return decoder.decode(msgspec.json.encode(_given(names, cells, members)))
    except UnicodeEncodeError:
        return _why_no_text("".join(cells))
    except (ValueError, RecursionError) as error:  # msgspec's own among them
        return str(error)


def _given(names: Sequence[str], cells: Sequence[str], members: JsonMembers) -> dict[str, Any]:
    whole = "".join(cells)
    if not whole.isascii():
        whole.encode()
    if "\0" in whole:
        raise ValueError("it holds a NUL byte: the file was cut short, or is no text")
    if any(map(str.strip, cells[len(names) :])):
        raise ValueError("the row has more cells than the first line has names")
    if len(cells) < len(names):
        raise ValueError(f"the row has {len(cells)} cells, and the first line names {len(names)} columns")
    given = {name: cell if _is_kept(name) else cell.strip() for name, cell in zip(names, cells, strict=False) if cell}
    if given.pop("", "").strip():
        raise ValueError("a cell stands below no name of a column")
    for name in _TIMES:
        if given.get(name):
            given[name] = _moment(name, given[name])
    return with_input({name: text for name, text in given.items() if text}, members, msgspec.json.encode)


def _is_kept(name: str) -> bool:
    return name in _AS_IT_IS or name.startswith("input.")


def _moment(name: str, text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name}: no time that can be read: write it as 2027-01-31T02:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(
            f"{name}: it does not say in which time zone: write it as 2027-01-31T02:00:00Z, or with +01:00"
        )
    return moment.isoformat()


def _why_no_text(text: str) -> str:
    """Return why what was read byte for byte is no text."""
    try:
        text.encode(errors="surrogateescape").decode()
    except UnicodeDecodeError as error:
        return why_no_utf_8(error)
    except UnicodeEncodeError:
        pass
    return "a text holds half a character (a lone surrogate)"

"""Write results as a stream of lines, never all in memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import fields
from decimal import Decimal
from typing import Any

import orjson

from nightbatch.reporting.as_csv import harmless
from nightbatch.reporting.stats import ResultRow


def as_jsonl(rows: Iterable[ResultRow]) -> Iterator[bytes]:
    """Yield a JSON object a line; money as decimal strings."""
    for row in rows:
        yield _json(row) + b"\n"


def as_csv(rows: Iterable[ResultRow]) -> Iterator[str]:
    """Yield lines of CSV behind a first line of names; the output as JSON.

    What a spreadsheet would take for a formula begins with ``'``.
    """
    names = [field.name for field in fields(ResultRow)]
    yield _line(names)
    for row in rows:
        yield _line([_cell(getattr(row, name)) for name in names])


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain)


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(type(value).__name__)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return harmless(value)
        case int() | Decimal():
            return str(value)
        case dict() | list():
            return harmless(_json(value).decode())
        case _:
            return harmless(str(value))


def _line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()

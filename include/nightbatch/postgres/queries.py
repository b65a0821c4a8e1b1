"""Named queries: each begins with ``-- name: why it is as it is`` and ends before the next one."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- ([a-z][a-z0-9_]*):", re.MULTILINE)


@cache
def queries(file: str) -> dict[str, bytes]:
    """Return the queries of ``<file>.sql`` by name. Raises ValueError when a name stands there twice."""
    text = (files("nightbatch.postgres") / f"{file}.sql").read_text(encoding="utf-8")
    starts = list(_NAME.finditer(text))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    found = {match[1]: text[match.start() : end].strip().encode() for match, end in zip(starts, ends, strict=True)}
    if len(found) != len(starts):
        raise ValueError(f"{file}.sql names a query twice")
    return found

"""What a job looks like on its way in: a line of a file, a row of a table, a mapping. One set of checks for all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec

from nightbatch.core.errors import ConfigurationError

_Aware = Annotated[datetime, msgspec.Meta(tz=True)]


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One job as a producer gives it; ``input`` keeps the bytes that stood in a file."""

    job_type: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    provider: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
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
"""The place of a job, with the job, or with the reason why it is none."""

Numbering = Iterator[Numbered]

JsonMembers = Callable[[str], Collection[str]]
"""Gives the members of a job type's input that are not text: where a table has one as text, that text is JSON."""

_NO_NAME = re.compile("[\\s\"'`\x00-\x1f\x7f-\xa0\xad\u2000-\u206f\u3000\ufeff]")
"""Matches a character that no model's name holds; `nightbatch.job` has the same as its CHECK ``model_is_a_name``."""


def why_no_model(name: str) -> str | None:
    """Return why a trimmed text is not the name of a model, or None if it may be one."""
    found = _NO_NAME.search(name)
    if found is None:
        return None if name else "model: it is empty"
    what = "white space" if found[0].isspace() else "a quote" if found[0] in "\"'`‘’“”" else f"U+{ord(found[0]):04X}"
    return f"model: it holds {what}, which no model's name does"


def check_columns(what: str, names: Iterable[Any]) -> None:
    """Raise `ConfigurationError` unless there are names, and each is a column of a job and given once."""
    found = list(names)
    unknown = [name for name in found if not is_column(str(name))]
    twice = [name for name in dict.fromkeys(found) if found.count(name) > 1]
    if unknown or twice or not found:
        raise ConfigurationError(
            f"{what} must name the columns, of {', '.join(Line.__struct_fields__)} or input.<member>"
            + (f"; there is {', '.join(map(_with_hint, unknown[:3]))}" if unknown else "")
            + (f"; {', '.join(map(repr, twice[:3]))} stands there twice" if twice else "")
            + "."
        )


def is_column(name: str) -> bool:
    """Return whether a table of jobs may have a column of this name."""
    return name in Line.__struct_fields__ or (name.startswith("input.") and len(name) > 6)


def _with_hint(name: Any) -> str:
    shown = repr(name) if len(str(name)) <= 100 else f"{str(name)[:100]!r}..."
    near = get_close_matches(str(name)[:100].strip().casefold(), Line.__struct_fields__, n=1)
    return f"{shown} ({near[0]}?)" if near else shown


def with_input(given: dict[str, Any], members: JsonMembers, write: Callable[[Any], bytes]) -> dict[str, Any]:
    """Return a table's row put together: what stands under ``input.<member>`` becomes the input, and JSON text is read.

    Raises `ValueError` with a reason.
    """
    parts = _take_parts(given)
    if parts and "input" in given:
        raise ValueError("it has an input, and members of one besides")
    if parts:
        for name in parts.keys() & set(members(str(given.get("job_type")))):
            parts[name] = _read_json(parts[name])
        given["input"] = msgspec.Raw(write(parts))
    elif isinstance(given.get("input"), Mapping):
        given["input"] = msgspec.Raw(write(given["input"]))
    elif isinstance(given.get("input"), str):
        given["input"] = msgspec.json.decode(given["input"], type=msgspec.Raw)
    if isinstance(given.get("labels"), str):
        given["labels"] = msgspec.json.decode(given["labels"], type=dict[str, str])
    return given


def _take_parts(given: dict[str, Any]) -> dict[str, Any]:
    """Take columns such as ``input.headline`` and ``input.values.text`` out of a row, and return the members that they name."""
    parts: dict[str, Any] = {}
    for name in [name for name in given if name.startswith("input.")]:
        *above, last = name.split(".")[1:]
        place = parts
        for step in above:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise ValueError(f"{name} and a column above it are both given")
        if last in place:
            raise ValueError(f"{name} and a column below it are both given")
        place[last] = given.pop(name)
    return parts


def _read_json(value: Any) -> Any:
    """Return JSON text as raw JSON; anything else is returned unchanged, for the job type to judge."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return value

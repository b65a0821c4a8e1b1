"""Show things alike in every command: tables for people, JSON for programs, errors in words, nothing that a pipe would garble."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import typer

from nightbatch.core.errors import NightbatchError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from nightbatch.postgres.store import Store

NEEDS_A_PERSON = 1
WRONG_USAGE = 2

_WIDE = 10_000
"""Columns where nobody looks at a screen: an id that is cut cannot be searched for."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Misuse(Exception):
    """The command was given what does not go together; it ends with exit code 2."""


@contextmanager
def report_errors(as_json: bool = False) -> Iterator[None]:
    """Print errors of ours on stderr, without a traceback, in words or as ``{"error": ...}``, and exit with their code."""
    try:
        yield
    except (NightbatchError, Misuse) as error:
        if as_json:
            print_json({"error": str(error)}, error=True)
        else:
            echo(f"nightbatch: {error}", error=True)
        raise typer.Exit(WRONG_USAGE if isinstance(error, Misuse) else NEEDS_A_PERSON) from None


@contextmanager
def open_ledger() -> Iterator[Store]:
    """Open the database of NIGHTBATCH_DSN. Raises `ConfigurationError` where it is missing or refuses."""
    from nightbatch.core.settings import database
    from nightbatch.postgres.db_errors import translate
    from nightbatch.postgres.store import open_store

    with translate(), open_store(database()) as store:
        yield store


def echo(text: str, *, error: bool = False, bold: bool = False) -> None:
    """Print a sentence. What came from outside cannot move the cursor or change colours."""
    shown = readable(text)
    typer.echo(typer.style(shown, bold=True) if bold and not plain() else shown, err=error)


def readable(text: str) -> str:
    """Replace control characters, but for tabs and ends of lines."""
    return _CONTROL.sub("�", text)


def plain() -> bool:
    """Return whether colours and frames would be noise: in a pipe or a file, or where NO_COLOR is set (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()


def console(*, error: bool = False) -> Console:
    """Return a console as wide as the screen; in a pipe or a file, as wide as a line needs."""
    from rich.console import Console

    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    made = Console(stderr=error, markup=False, highlight=False, emoji=False, color_system=colours)
    if not made.file.isatty():
        made.width = _WIDE
    return made


def show(shown: RenderableType) -> None:
    """Print anything of rich's, with colours on a terminal only."""
    screen = console()
    with screen.capture() as captured:
        screen.print(shown)
    lines = (line.rstrip() for line in captured.get().splitlines())
    typer.echo("\n".join(lines), color=screen.is_terminal)


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, figures: Collection[str] = ()
) -> None:
    """Print cells as text, each on one line where there is room; the columns ``figures`` stand to the right."""
    if rows:
        show(table(title, columns, rows, figures=figures))
    else:
        echo(f"{title}: nothing.")


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, figures: Collection[str] = ()
) -> RenderableType:
    """Return a table as `show_table` shows it."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in figures else "left", overflow="fold", no_wrap=name in figures)
    for row in rows:
        made.add_row(*(Text(readable(" ".join(str(cell).splitlines()))) for cell in row))
    return made


def fields(row: Any) -> dict[str, Any]:
    """Return a dataclass's values by their names."""
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def print_json(value: object, *, error: bool = False) -> None:
    """Print a value as one line of JSON."""
    typer.echo(as_json_text(value), err=error)


def as_json_text(value: object, *, indent: int | None = None) -> str:
    """Return a value as JSON: money as decimal strings, so that no digit is lost; a dataclass as an object."""
    return json.dumps(value, ensure_ascii=False, default=_plain, indent=indent)


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return fields(value)
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def minute(moment: datetime) -> str:
    """Write a moment as ``2026-11-24 02:15``, in the time zone that it came in."""
    return f"{moment:%Y-%m-%d %H:%M}"


@contextmanager
def progress(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, nothing elsewhere; call what it gives with how far it has come."""
    from rich.progress import Progress

    screen = console(error=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(name, total=total)
        yield lambda done: bar.update(task, completed=done)


def prompt(given: str, question: str, option: str) -> str:
    """Return what was given, else the answer of a person at a terminal. Raises `Misuse` where nobody is there to ask."""
    if given:
        return given
    if not sys.stdin.isatty():
        raise Misuse(f"There is nobody to ask: give {option}.")
    return str(typer.prompt(question, err=True))


def parts(text: str) -> tuple[str, ...]:
    """Return what stands between the commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())

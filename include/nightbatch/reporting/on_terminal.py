"""Render the report for a person at a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from nightbatch.reporting.document import Document, Table, document
from nightbatch.reporting.reports import AnyReport

_MAX_ROWS = 31
_LEFT_OUT = ("rejected", "go again", "success", "unpriced", "realtime", "waste")
"""80 columns have no room for these; the other formats do."""


def render_terminal(report: AnyReport) -> Group:
    """Return the report for rich to print; the other formats also have every price, and what is assumed."""
    page = document(report)
    parts: list[RenderableType] = [_panel(page)]
    for table in page.tables:
        if table.rows:
            parts += [_table(table), Text()]
    return Group(
        *parts, *(Text(_printable(note), "dim" if number == 0 else "yellow") for number, note in enumerate(page.notes))
    )


def _panel(page: Document) -> Panel:
    title = Text(_printable(page.title), "dim")
    headline = Text.assemble(("Saved ", "bold"), (page.saved, "bold green"), f" {page.headline}")
    body = Text("\n").join([title, headline, *map(Text, page.sentences)])
    return Panel(body, title="nightbatch", border_style="green", padding=(1, 2))


def _table(table: Table) -> RichTable:
    part, rows = ("last", table.rows[-_MAX_ROWS:]) if table.latest_last else ("first", table.rows[:_MAX_ROWS])
    some = len(rows) < len(table.rows)
    title = f"{table.title} (the {part} {_MAX_ROWS}; the other formats have all)" if some else table.title
    made = RichTable(
        box=None, pad_edge=False, header_style="bold", title=title, title_style="bold cyan", title_justify="left"
    )
    shown = [number for number, name in enumerate(table.columns) if name not in _LEFT_OUT]
    for number in shown:
        figure = number >= table.words
        made.add_column(table.columns[number], justify="right" if figure else "left", no_wrap=figure, overflow="fold")
    for row in rows:
        made.add_row(*(Text(_printable(row[number])) for number in shown))
    return made


def _printable(text: str) -> str:
    """Replace what would steer the terminal by spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)

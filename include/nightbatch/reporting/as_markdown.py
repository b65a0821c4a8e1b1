"""Render the report as a Markdown page."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nightbatch.reporting.document import Document, Table, document
from nightbatch.reporting.reports import AnyReport


def render_markdown(report: AnyReport) -> str:
    """Return the report as a page; text from outside is escaped."""
    page = document(report)
    return "\n".join([*_head(page), *_tables((*page.tables, page.prices)), *_assumptions(page.assumptions)]) + "\n"


def _head(page: Document) -> list[str]:
    paragraphs = [f"**Saved {page.saved}** {page.headline}", *page.sentences, *map(plain, page.notes)]
    return [f"# {plain(page.title)}", *(line for paragraph in paragraphs for line in ("", paragraph))]


def _tables(tables: Sequence[Table]) -> list[str]:
    return [line for table in tables if table.rows for line in _table(table)]


def _table(table: Table) -> list[str]:
    figures = len(table.columns) - table.words
    ruler = "|---" * table.words + "|---:" * figures + "|"
    rows = [_row([*map(plain, row[: table.words]), *row[table.words :]]) for row in table.rows]
    return ["", f"## {table.title}", "", _row(table.columns), ruler, *rows]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _assumptions(assumptions: Sequence[str]) -> list[str]:
    return ["", "## Assumptions", "", *(f"- {plain(sentence)}" for sentence in assumptions)]


def plain(text: str) -> str:
    """Escape words from outside so that they stay text: no Markdown, no HTML, no line breaks."""
    escaped = re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

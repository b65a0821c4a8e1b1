"""`nightbatch report`: a run or a range of days, for a terminal, a program, a spreadsheet or a browser."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nightbatch.cli.files import format_of, whole_file
from nightbatch.cli.options import AsJson
from nightbatch.cli.output import Misuse, as_json_text, echo, open_ledger, plain, report_errors, show

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from nightbatch.postgres.store import Store
    from nightbatch.reporting import AnyReport
    from nightbatch.reporting.stats import Days

Format = Literal["terminal", "json", "markdown", "csv", "html"]
_ENDINGS = {".json": "json", ".md": "markdown", ".csv": "csv", ".html": "html"}


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="One or more runs' ids; the latest run if not given.", show_default=False),
    ] = None,
    from_day: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="All that was sent from this day on (UTC)."),
    ] = None,
    to_day: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="The last day, inclusive; today if not given."),
    ] = None,
    last: Annotated[int | None, typer.Option(min=1, max=100_000, help="The last so many days, today included.")] = None,
    wanted: Annotated[
        Format | None, typer.Option("--format", help="For a terminal, if nothing says otherwise.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write it into this file: .json, .md, .csv or .html.")
    ] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Show what a run, or a range of days, sent, paid and saved.

    With --to-day alone: from the first day on which anything was sent.
    """
    from nightbatch import reporting

    with report_errors(as_json):
        _check(runs, from_day, to_day, last)
        asked = "json" if as_json else "markdown" if markdown else wanted
        shown = format_of(output, asked, _ENDINGS, "terminal")
        with open_ledger() as store:
            days = _days(store, from_day, to_day, last)
            found = reporting.range_report(store, days) if days else reporting.run_report(store, *runs or ())
        if output is not None:
            with whole_file(output) as file:
                file.write(_text(found, shown))
            echo(f"The report is in {output}.", error=True)
        elif shown == "terminal":
            page = reporting.render_terminal(found)
            show(_unboxed(page) if plain() else page)
        else:
            typer.echo(_text(found, shown), nl=False)


def _check(runs: list[str] | None, first: datetime | None, end: datetime | None, last: int | None) -> None:
    if runs and (first or end or last):
        raise Misuse("Name runs or days, not both.")
    if last and (first or end):
        raise Misuse("--last goes without --from-day and --to-day.")


def _days(store: Store, first: datetime | None, end: datetime | None, last: int | None) -> Days | None:
    """Return the range that was asked for; None when none was."""
    from nightbatch.reporting import stats

    if last:
        return stats.last_days(store, last)
    if not first and not end:
        return None
    until = end.date() if end else stats.last_days(store, 1).until
    if first:
        return stats.Days(first.date(), until)
    return stats.Days(min(stats.first_day(store) or until, until), until)


def _text(found: AnyReport, shown: str) -> str:
    from nightbatch import reporting

    match shown:
        case "json":
            return as_json_text(reporting.to_json(found)) + "\n"
        case "markdown":
            return reporting.render_markdown(found)
        case "csv":
            return reporting.render_csv(found)
        case "html":
            return reporting.render_html(found)
        case _:
            from rich.console import Console

            lines = Console(width=120, color_system=None)
            with lines.capture() as captured:
                lines.print(_unboxed(reporting.render_terminal(found)))
            return captured.get()


def _unboxed(page: Group) -> RenderableType:
    """Return the page without the frame, which would be as wide as a pipe is."""
    from rich.console import Group
    from rich.panel import Panel

    inner = [
        (part.title or "", part.renderable, "") if isinstance(part, Panel) else (part,) for part in page.renderables
    ]
    return Group(*(one for several in inner for one in several))

"""Render the report as one HTML page that needs nothing else: no script, no other file."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from nightbatch.reporting import charts
from nightbatch.reporting.document import document
from nightbatch.reporting.reports import AnyReport, RangeReport, Report


def render_html(report: AnyReport) -> str:
    """Return the report as a page, light or dark as the reader's screen, and fit to be printed; text from outside is escaped."""
    page = document(report)
    drawn = _of_run(report) if isinstance(report, Report) else _of_days(report)
    return _template().render(
        page=page,
        tables=(*page.tables, page.prices),
        charts=[Markup(chart) for chart in drawn if chart],  # made by an XML serializer
        chart_css=Markup(charts.CHART_CSS),
    )


@cache
def _template() -> Template:
    loader = PackageLoader("nightbatch.reporting", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("page.html")


def _of_run(report: Report) -> list[str | None]:
    providers, job_types = defaultdict[str, Decimal](Decimal), defaultdict[str, Decimal](Decimal)
    for part in report.parts:
        providers[part.provider] += part.savings_usd
        job_types[part.job_type] += part.savings_usd
    return [charts.share_by("provider", providers), charts.share_by("job type", job_types)]


def _of_days(report: RangeReport) -> list[str | None]:
    found = report.savings
    shares = {"provider": found.by_provider, "model": found.by_model, "job type": found.by_job_type}
    over_time = [
        charts.savings_by_day(found.days, found.by_day),
        charts.running_total(found.days, found.by_day, report.running_totals),
        charts.success_by_day(found.days, found.by_day),
    ]
    return [
        *(over_time if len(found.days) > 1 else ()),
        *(charts.share_by(what, {part.key: part.figures.savings_usd for part in by}) for what, by in shares.items()),
        charts.turnaround(found.turnaround),
    ]

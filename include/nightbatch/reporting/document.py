"""Put a report into words and tables, before it becomes Markdown, HTML or lines on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nightbatch.core.amounts import NOTHING, duration, percent, share, usd
from nightbatch.reporting.reports import AnyReport, RangeReport, Report
from nightbatch.reporting.stats import Days, Figures, Part, Price, Reason, Run, Savings, Slice, Turnaround
from nightbatch.reporting.words import ASSUMPTIONS, OF_DAYS, sources


@dataclass(frozen=True, slots=True)
class Table:
    """A table of figures: only its first ``words`` columns hold text, from outside or inside. An empty table is left out."""

    title: str
    columns: Sequence[str]
    words: int
    rows: Sequence[Sequence[str]]
    latest_last: bool = False
    """Where a part has to do, it is the end; else the beginning."""


@dataclass(frozen=True, slots=True)
class Document:
    """A report in plain text, which each renderer escapes in its own way. ``saved`` comes first in ``headline``'s sentence."""

    title: str
    saved: str
    headline: str
    sentences: Sequence[str]
    tables: Sequence[Table]
    notes: Sequence[str]
    """Which prices were used, and what has none."""
    prices: Table
    assumptions: Sequence[str]


def document(report: AnyReport) -> Document:
    """Put the report into words and tables."""
    return _of_run(report) if isinstance(report, Report) else _of_days(report)


def _of_run(report: Report) -> Document:
    totals = report.totals
    return Document(
        title=f"Night {totals.run_id}",
        saved=usd(totals.savings_usd),
        headline=_headline(totals),
        sentences=(
            f"{report.jobs:,} jobs in {totals.batches} batches: {totals.succeeded:,} succeeded, {totals.failed:,} failed,"
            f" {totals.rejected:,} rejected, {totals.requeued:,} go again; {totals.paid_again:,} paid again,"
            f" {totals.unpriced:,} unpriced, {totals.from_cache:,} answered from the cache at no cost.",
            *(_still_open(totals.open_batches)),
        ),
        tables=(_parts(report.parts), _reasons(report.reasons)),
        notes=_notes(report.prices, totals.unpriced),
        prices=_prices(report.prices),
        assumptions=ASSUMPTIONS,
    )


def _headline(found: Run | Figures) -> str:
    return (
        f"({share(found.savings_usd, found.realtime_cost_usd)}): paid {usd(found.batch_cost_usd)} instead of"
        f" {usd(found.realtime_cost_usd)}, {usd(found.wasted_cost_usd)} of it for answers that cannot be used."
    )


def _still_open(batches: int) -> list[str]:
    return [f"{batches} of its batches are still under way: these figures will grow."] if batches else []


def _of_days(report: RangeReport) -> Document:
    found, total = report.savings, report.savings.total
    return Document(
        title=_named(found.days),
        saved=usd(total.savings_usd),
        headline=_headline(total),
        sentences=(
            f"{report.jobs:,} jobs: {total.succeeded:,} succeeded, {total.failed:,} failed, {found.rejected:,} rejected,"
            f" {total.requeued:,} sent again; {total.paid_again:,} paid again, {total.unpriced:,} unpriced,"
            f" {total.from_cache:,} answered from the cache at no cost.",
            f"Success rate {percent(total.success_rate)}; {percent(total.batched_share)} of what was sent went by batch.",
            _trend(found),
            f"Saved since the beginning ({report.first_day or NOTHING}): {usd(report.saved_so_far_usd)}.",
        ),
        tables=(
            _days(report),
            _slices("By provider", "provider", found.by_provider),
            _slices("By model", "model", found.by_model),
            _slices("By job type", "job type", found.by_job_type),
            _slices("By label", "label", found.by_label),
            _turnaround(found.turnaround),
            _reasons(found.reasons),
        ),
        notes=_notes(found.prices, total.unpriced),
        prices=_prices(found.prices),
        assumptions=(*ASSUMPTIONS, *OF_DAYS),
    )


def _named(days: Days) -> str:
    return f"{days.since} to {days.until}" if len(days) > 1 else f"{days.since}"


def _trend(found: Savings) -> str:
    many = f"{len(found.days)} days" if len(found.days) > 1 else "day"
    earlier = f"{usd(found.before.savings_usd)} in the {many} before ({_named(found.days.before())})"
    if found.trend is None:
        return f"There is no trend yet: {earlier}."
    return f"{abs(found.trend):.0%} {'more' if found.trend >= 0 else 'less'} than {earlier}."


_COLUMNS = ("jobs", "succeeded", "failed", "success", "unpriced", "realtime", "batch", "waste", "saved")


def _slices(title: str, key: str, slices: Iterable[Slice]) -> Table:
    return Table(title, (key, *_COLUMNS), 1, [(part.key, *_cells(part)) for part in slices])


def _days(report: RangeReport) -> Table:
    totals = map(usd, report.running_totals)
    rows = [(part.key, *_cells(part), so_far) for part, so_far in zip(report.savings.by_day, totals, strict=True)]
    return Table("By day", ("day", *_COLUMNS, "running total"), 1, rows, latest_last=True)


def _cells(part: Slice) -> list[str]:
    found = part.figures
    counts = (found.jobs, found.succeeded, found.failed)
    return [*(f"{count:,}" for count in counts), percent(found.success_rate), f"{found.unpriced:,}", *_money(found)]


def _money(found: Figures | Part) -> Iterable[str]:
    return map(usd, (found.realtime_cost_usd, found.batch_cost_usd, found.wasted_cost_usd, found.savings_usd))


def _parts(parts: Iterable[Part]) -> Table:
    titles = ("sent", "succeeded", "failed", "go again", "rejected", "realtime", "batch", "waste", "saved")
    return Table("By provider and job type", ("provider", "job type", *titles), 2, [_part(part) for part in parts])


def _part(part: Part) -> tuple[str, ...]:
    counts = (part.sent, part.succeeded, part.failed, part.requeued, part.rejected)
    return (part.provider, part.job_type, *(f"{count:,}" for count in counts), *_money(part))


def _turnaround(rows: Iterable[Turnaround]) -> Table:
    cells = [
        (row.provider, row.model, f"{row.batches:,}",
         *map(duration, (row.p50_seconds, row.p90_seconds, row.p99_seconds, row.longest_seconds)))
        for row in rows
    ]  # fmt: skip
    return Table("Turnaround", ("provider", "model", "batches", "half within", "90 %", "99 %", "longest"), 2, cells)


def _reasons(reasons: Iterable[Reason]) -> Table:
    rows = [(row.provider, row.job_type, row.outcome, row.reason, f"{row.jobs:,}") for row in reasons]
    return Table("What did not succeed, and why", ("provider", "job type", "outcome", "reason", "jobs"), 4, rows)


def _prices(prices: Iterable[Price]) -> Table:
    rows = [(row.provider, row.model, row.source or "unpriced") for row in prices]
    return Table("Prices", ("provider", "model", "priced with"), 3, rows)


def _notes(prices: Sequence[Price], unpriced: int) -> list[str]:
    used = "; ".join(sources(prices))
    models = list(dict.fromkeys(f"{price.provider}/{price.model}" for price in prices if price.source is None))
    notes = [f"Priced with {used}." if used else "Nothing was priced."]
    if unpriced or models:
        named = f": {', '.join(models)}" if models else ""
        notes.append(
            f"{unpriced:,} answers are unpriced and in no sum{named}. Give their price in nightbatch.price_override."
        )
    return notes

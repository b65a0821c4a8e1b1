"""What a run sent, paid and saved, for people and programs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from nightbatch.errors import ConfigurationError
from nightbatch.postgres import figures
from nightbatch.postgres.figures import Part, Price, Reason, Totals
from nightbatch.postgres.store import Store

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Report:
    """One run, or several together, whole and in parts."""

    totals: Totals
    parts: tuple[Part, ...]
    reasons: tuple[Reason, ...]
    prices: tuple[Price, ...]

    @property
    def jobs(self) -> int:
        """All that the run took: what was sent, and what was rejected before."""
        return self.totals.sent + self.totals.rejected

    @property
    def unpriced_models(self) -> list[str]:
        """Models whose price is not known."""
        return [f"{price.provider}/{price.model}" for price in self.prices if price.source is None]


def run_report(store: Store, *run_ids: str) -> Report:
    """The report of these runs, or of the latest one. Raises `ConfigurationError` when there is no such run."""
    latest = None if run_ids else figures.latest_run(store)
    found = run_ids or ((latest,) if latest else ())
    totals = figures.totals(store, *found)
    if totals is None:
        raise ConfigurationError(f"There is no run {', '.join(run_ids)} yet." if run_ids else "No run was planned yet.")
    return Report(
        totals,
        tuple(figures.parts(store, *found)),
        tuple(figures.reasons(store, *found)),
        tuple(figures.prices(store, *found)),
    )


def to_json(report: Report) -> dict[str, Any]:
    """JSON values; money as decimal strings, in USD, so that no digit is lost."""
    totals = report.totals
    return {
        "run_id": totals.run_id,
        "planned_at": totals.planned_at.isoformat(),
        "batches": totals.batches,
        "open_batches": totals.open_batches,
        "jobs": report.jobs,
        "succeeded": totals.succeeded,
        "failed": totals.failed,
        "requeued": totals.requeued,
        "rejected": totals.rejected,
        "unpriced": totals.unpriced,
        "paid_again": totals.paid_again,
        "from_cache": totals.from_cache,
        "realtime_cost_usd": _decimal(totals.realtime_cost_usd),
        "batch_cost_usd": _decimal(totals.batch_cost_usd),
        "wasted_cost_usd": _decimal(totals.wasted_cost_usd),
        "savings_usd": _decimal(totals.savings_usd),
        "by_provider": _grouped(report.parts, lambda part: part.provider),
        "by_job_type": _grouped(report.parts, lambda part: part.job_type),
        "reasons": [
            {"provider": row.provider, "job_type": row.job_type, "outcome": row.outcome, "reason": row.reason, "jobs": row.jobs}
            for row in report.reasons
        ],
        "prices": [{"provider": row.provider, "model": row.model, "source": row.source} for row in report.prices],
    }  # fmt: skip


def _grouped(parts: Iterable[Part], key: Callable[[Part], str]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(key(part), []).append(part)
    return {name: _sum(members) for name, members in groups.items()}


def _sum(parts: list[Part]) -> dict[str, Any]:
    realtime = sum((part.realtime_cost_usd for part in parts), _ZERO)
    batch = sum((part.batch_cost_usd for part in parts), _ZERO)
    wasted = sum((part.wasted_cost_usd for part in parts), _ZERO)
    return {
        "jobs": sum(part.sent + part.rejected for part in parts),
        "succeeded": sum(part.succeeded for part in parts),
        "failed": sum(part.failed for part in parts),
        "requeued": sum(part.requeued for part in parts),
        "rejected": sum(part.rejected for part in parts),
        "unpriced": sum(part.unpriced for part in parts),
        "realtime_cost_usd": _decimal(realtime),
        "batch_cost_usd": _decimal(batch),
        "wasted_cost_usd": _decimal(wasted),
        "savings_usd": _decimal(realtime - batch - wasted),
    }


def _decimal(value: Decimal) -> str:
    return format(value.normalize(), "f") if value else "0"


def usd(value: Decimal) -> str:
    """For people: two digits, or four while the amount is below a dollar."""
    return f"${value:,.2f}" if abs(value) >= 1 or not value else f"${value:.4f}"


def share(value: Decimal, of: Decimal) -> str:
    """A percentage, or a dash where there is nothing to compare with."""
    return f"{value / of:.0%}" if of else "–"


def render_markdown(report: Report) -> str:
    """The report as a page."""
    totals = report.totals
    lines = [
        f"# Night {_plain(totals.run_id)}",
        "",
        f"**Saved {usd(totals.savings_usd)}** ({share(totals.savings_usd, totals.realtime_cost_usd)}): paid"
        f" {usd(totals.batch_cost_usd)} instead of {usd(totals.realtime_cost_usd)}, {usd(totals.wasted_cost_usd)} of it"
        " for answers that cannot be used.",
        "",
        f"{report.jobs:,} jobs in {totals.batches} batches: {totals.succeeded:,} succeeded, {totals.failed:,} failed,"
        f" {totals.rejected:,} rejected, {totals.requeued:,} go again; {totals.paid_again:,} paid again,"
        f" {totals.unpriced:,} unpriced, {totals.from_cache:,} answered from the cache at no cost.",
        "",
        "| provider | job type | sent | succeeded | failed | go again | rejected | realtime | batch | waste | saved |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(_markdown_row(part) for part in report.parts),
    ]
    if report.reasons:
        lines += ["", "## What did not succeed, and why", "", "| jobs | provider | job type | outcome | reason |"]
        lines += ["|---:|---|---|---|---|"]
        lines += [
            f"| {row.jobs:,} | {row.provider} | {_plain(row.job_type)} | {row.outcome} | {_plain(row.reason)} |"
            for row in report.reasons
        ]
    lines += ["", "## Prices", ""]
    lines += [f"- {row.provider} {_plain(row.model)}: {_plain(row.source or 'unpriced')}" for row in report.prices]
    return "\n".join(lines) + "\n"


def _markdown_row(part: Part) -> str:
    saved = part.realtime_cost_usd - part.batch_cost_usd - part.wasted_cost_usd
    counts = (part.sent, part.succeeded, part.failed, part.requeued, part.rejected)
    money = (part.realtime_cost_usd, part.batch_cost_usd, part.wasted_cost_usd, saved)
    cells = [part.provider, _plain(part.job_type), *(f"{count:,}" for count in counts), *map(usd, money)]
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Words from outside as text: no Markdown, no HTML, no line breaks."""
    escaped = re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def render_terminal(report: Report) -> Group:
    """The report for a terminal, by rich."""
    totals = report.totals
    headline = Text.assemble(
        ("Saved ", "bold"),
        (usd(totals.savings_usd), "bold green"),
        f"  ({share(totals.savings_usd, totals.realtime_cost_usd)} of {usd(totals.realtime_cost_usd)} at realtime prices)\n",
        f"Paid {usd(totals.batch_cost_usd)}, {usd(totals.wasted_cost_usd)} of it for answers that cannot be used.\n",
        f"{report.jobs:,} jobs in {totals.batches} batches: ",
        (f"{totals.succeeded:,} succeeded", "green"),
        f", {totals.failed:,} failed, {totals.rejected:,} rejected, {totals.requeued:,} go again. ",
        ("Paid again: 0." if not totals.paid_again else f"Paid again: {totals.paid_again:,}!", "bold"),
        f" From the cache, at no cost: {totals.from_cache:,}." if totals.from_cache else "",
    )
    panel = Panel(headline, title=f"nightbatch · {totals.run_id}", border_style="green", padding=(1, 2))
    tables: list[Table | Text] = [_parts_table(report.parts), Text()]
    if report.reasons:
        tables += [_reasons_table(report.reasons), Text()]
    notes = [Text(f"Priced with {'; '.join(_sources(report.prices))}.", "dim")]
    if report.unpriced_models:
        notes.append(
            Text(
                f"{totals.unpriced:,} answers are unpriced and in no sum: {', '.join(report.unpriced_models)}."
                " Give their price in nightbatch.price_override.",
                "yellow",
            )
        )
    return Group(panel, *tables, *notes)


def _sources(prices: Iterable[Price]) -> Mapping[str, None]:
    return dict.fromkeys(price.source.split(";")[0] for price in prices if price.source)


def _parts_table(parts: Iterable[Part]) -> Table:
    table = _table("provider", "job type", right=("jobs", "ok", "failed", "rejected", "paid", "saved"))
    for part in parts:
        saved = part.realtime_cost_usd - part.batch_cost_usd - part.wasted_cost_usd
        counts = (part.sent + part.rejected, part.succeeded, part.failed, part.rejected)
        cells = [part.provider, part.job_type, *(f"{count:,}" for count in counts), usd(part.batch_cost_usd)]
        table.add_row(*map(Text, cells), Text(usd(saved), "green" if saved > 0 else "dim"))
    return table


def _reasons_table(reasons: Iterable[Reason]) -> Table:
    """By outcome and reason; who it was stands in the JSON and Markdown reports."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in reasons:
        counts[row.outcome, row.reason] += row.jobs
    table = _table("outcome", "why", right=("jobs",))
    for (outcome, reason), jobs in counts.most_common():
        table.add_row(Text(outcome), Text(reason), f"{jobs:,}")
    return table


def _table(*left: str, right: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in left:
        table.add_column(title)
    for title in right:
        table.add_column(title, justify="right")
    return table

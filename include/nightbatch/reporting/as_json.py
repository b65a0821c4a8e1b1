"""Render the report for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from decimal import Decimal
from typing import Any

from nightbatch.core.amounts import decimal
from nightbatch.reporting.reports import AnyReport, RangeReport, Report
from nightbatch.reporting.stats import Figures, Part, Price, Reason, Slice
from nightbatch.reporting.words import ASSUMPTIONS, OF_DAYS

_ZERO = Decimal(0)
_COUNTS = ("succeeded", "failed", "requeued", "rejected", "unpriced")
_MONEY = ("realtime_cost_usd", "batch_cost_usd", "wasted_cost_usd", "savings_usd")


def to_json(report: AnyReport) -> dict[str, Any]:
    """Return the report as JSON values; money as decimal strings, in USD, so that no digit is lost; parts by their keys."""
    return _of_run(report) if isinstance(report, Report) else _of_days(report)


def _of_run(report: Report) -> dict[str, Any]:
    totals = report.totals
    return {
        "run_id": totals.run_id,
        "planned_at": totals.planned_at.isoformat(),
        "batches": totals.batches,
        "open_batches": totals.open_batches,
        "jobs": report.jobs,
        **{name: getattr(totals, name) for name in (*_COUNTS, "paid_again", "from_cache")},
        **{name: decimal(getattr(totals, name)) for name in _MONEY},
        "by_provider": _grouped(report.parts, lambda part: part.provider),
        "by_job_type": _grouped(report.parts, lambda part: part.job_type),
        "reasons": _reasons(report.reasons),
        "prices": _prices(report.prices),
        "assumptions": list(ASSUMPTIONS),
    }


def _of_days(report: RangeReport) -> dict[str, Any]:
    found = report.savings
    by_day = _slices(found.by_day)
    for values, total in zip(by_day.values(), report.running_totals, strict=True):
        values["running_total_usd"] = decimal(total)
    return {
        "since": found.days.since.isoformat(),
        "until": found.days.until.isoformat(),
        **figures_json(found.total),
        "rejected": found.rejected,
        "first_day": report.first_day.isoformat() if report.first_day else None,
        "saved_so_far_usd": decimal(report.saved_so_far_usd),
        "before": {
            "since": found.days.before().since.isoformat(),
            "until": found.days.before().until.isoformat(),
            **figures_json(found.before),
        },
        "trend": None if found.trend is None else float(found.trend),
        "by_day": by_day,
        "by_provider": _slices(found.by_provider),
        "by_model": _slices(found.by_model),
        "by_job_type": _slices(found.by_job_type),
        "by_label": _slices(found.by_label),
        "turnaround": [asdict(row) for row in found.turnaround],
        "reasons": _reasons(found.reasons),
        "prices": _prices(found.prices),
        "assumptions": [*ASSUMPTIONS, *OF_DAYS],
    }


def figures_json(found: Figures) -> dict[str, Any]:
    """Return every sum by its name, and the two shares that are made of them (0 to 1, or None)."""
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    made = {name: decimal(value) if isinstance(value, Decimal) else value for name, value in values.items()}
    for name, part in (("success_rate", found.success_rate), ("batched_share", found.batched_share)):
        made[name] = None if part is None else float(part)
    return made


def _slices(slices: Iterable[Slice]) -> dict[str, dict[str, Any]]:
    return {part.key: figures_json(part.figures) for part in slices}


def _reasons(reasons: Iterable[Reason]) -> list[dict[str, Any]]:
    return [asdict(row) for row in reasons]


def _prices(prices: Iterable[Price]) -> list[dict[str, Any]]:
    return [asdict(row) for row in prices]


def _grouped(parts: Iterable[Part], key: Callable[[Part], str]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(key(part), []).append(part)
    return {name: _sum(members) for name, members in groups.items()}


def _sum(parts: list[Part]) -> dict[str, Any]:
    return {
        "jobs": sum(part.sent + part.rejected for part in parts),
        **{name: sum(getattr(part, name) for part in parts) for name in _COUNTS},
        **{name: decimal(sum((getattr(part, name) for part in parts), _ZERO)) for name in _MONEY},
    }

"""Gather the figures of a report, before they are put into words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import accumulate

from nightbatch.core.errors import NotFound
from nightbatch.postgres import figures, sums
from nightbatch.postgres.store import Store
from nightbatch.reporting import stats
from nightbatch.reporting.stats import Days, Part, Price, Reason, Run, Savings


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one run, or of several together, whole and in parts."""

    totals: Run
    parts: tuple[Part, ...]
    reasons: tuple[Reason, ...]
    prices: tuple[Price, ...]

    @property
    def jobs(self) -> int:
        """Return how many jobs the run took: those that were sent, and those that were rejected before."""
        return self.totals.jobs + self.totals.rejected


@dataclass(frozen=True, slots=True)
class RangeReport:
    """The figures of a range of days.

    ``first_day`` is the first on which anything was sent, or None; ``saved_so_far_usd`` is what was saved from then to the
    end of the range.
    """

    savings: Savings
    first_day: date | None
    saved_so_far_usd: Decimal

    @property
    def jobs(self) -> int:
        """Return how many jobs were taken: those that were sent, and those that were rejected before."""
        return self.savings.total.jobs + self.savings.rejected

    @property
    def running_totals(self) -> list[Decimal]:
        """Return, for each of ``savings.by_day``, the USD saved since the first day, that day included."""
        earned = [part.figures.savings_usd for part in self.savings.by_day]
        return list(accumulate(earned, initial=self.saved_so_far_usd - sum(earned, Decimal(0))))[1:]


AnyReport = Report | RangeReport


def run_report(store: Store, *run_ids: str) -> Report:
    """Return the report of these runs, or of the latest one. Raises `NotFound` when there is no such run."""
    latest = None if run_ids else stats.latest_run(store)
    found = run_ids or ((latest.run_id,) if latest else ())
    totals = figures.totals(store, *found)
    if totals is None:
        raise NotFound(f"There is no run {', '.join(run_ids)} yet." if run_ids else "No run was planned yet.")
    return Report(
        totals,
        tuple(figures.parts(store, *found)),
        tuple(figures.reasons(store, *found)),
        tuple(figures.prices(store, *found)),
    )


def range_report(store: Store, days: Days) -> RangeReport:
    """Return the report of these days; days on which nothing was sent count as nothing."""
    first = sums.first_day(store)
    begun = first is not None and first <= days.until
    so_far = sums.total(store, first, days.until).savings_usd if first and begun else Decimal(0)
    return RangeReport(stats.savings(store, days), first if begun else None, so_far)

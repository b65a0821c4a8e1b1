"""Sum up what was sent, paid and saved in a range of days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from nightbatch.core.errors import ConfigurationError
from nightbatch.postgres import sums
from nightbatch.postgres.figures import Price, Reason
from nightbatch.postgres.store import Store
from nightbatch.postgres.sums import Figures, Slice, Turnaround

_EARLIEST, _MAX_DAYS = date(2000, 1, 1), 3_660


@dataclass(frozen=True, slots=True)
class Days:
    """A range of days in UTC, both inclusive, of ten years at most. A batch belongs to the day on which it was sent."""

    since: date
    until: date

    def __post_init__(self) -> None:
        if self.since > self.until:
            raise ConfigurationError(f"{self.since} is after {self.until}: give the first day first.")
        if self.since < _EARLIEST or (self.until - self.since).days >= _MAX_DAYS:
            raise ConfigurationError(
                f"{self.since} to {self.until}: give days since {_EARLIEST}, {_MAX_DAYS:,} at most."
            )

    def __len__(self) -> int:
        return (self.until - self.since).days + 1

    def before(self) -> Days:
        """Return as many days, just before these."""
        return Days(self.since - timedelta(days=len(self)), self.since - timedelta(days=1))


def last_days(store: Store, count: int = 30) -> Days:
    """Return the last so many days, today included, by the database's clock."""
    today = sums.today(store)
    return Days(today - timedelta(days=count - 1), today)


@dataclass(frozen=True, slots=True)
class Savings:
    """The figures of a range of days, whole and in parts. Slices are in the order of their keys; only days with figures have one.

    ``by_label`` has the 100 labels that saved the most, as ``name=value``; a job counts once for each of its labels, so these
    do not add up to the whole.

    ``rejected`` jobs were never sent. ``trend``: how much more was saved than in the ``before`` range, as a part of that
    (0.1: a tenth more); None when there was nothing to compare with.
    """

    days: Days
    total: Figures
    before: Figures
    trend: Decimal | None
    rejected: int
    by_day: Sequence[Slice]
    by_provider: Sequence[Slice]
    by_model: Sequence[Slice]
    by_job_type: Sequence[Slice]
    by_label: Sequence[Slice]
    turnaround: Sequence[Turnaround]
    reasons: Sequence[Reason]
    prices: Sequence[Price]


def savings(store: Store, days: Days) -> Savings:
    """Return all figures of these days."""
    since, until = days.since, days.until
    before = days.before()
    total, earlier = sums.total(store, since, until), sums.total(store, before.since, before.until)
    parts = sums.slices(store, since, until)
    return Savings(
        days=days,
        total=total,
        before=earlier,
        trend=(total.savings_usd - earlier.savings_usd) / earlier.savings_usd if earlier.savings_usd > 0 else None,
        rejected=sums.rejected(store, since, until),
        by_day=parts["day"],
        by_provider=parts["provider"],
        by_model=parts["model"],
        by_job_type=parts["job_type"],
        by_label=sums.by_label(store, since, until),
        turnaround=sums.turnaround(store, since, until),
        reasons=sums.reasons(store, since, until),
        prices=sums.prices(store, since, until),
    )

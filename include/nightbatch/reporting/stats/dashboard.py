"""Gather everything that the page shows at a glance; no payload is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from nightbatch.core.ledger import Alert
from nightbatch.core.settings import Settings
from nightbatch.postgres import figures, sums
from nightbatch.postgres.figures import Waiting
from nightbatch.postgres.store import Store
from nightbatch.postgres.sums import Outcome
from nightbatch.reporting.stats.attempts import Attempt, attempts
from nightbatch.reporting.stats.night import Night, night
from nightbatch.reporting.stats.savings import Savings, last_days, savings

LATEST = 20
"""How many of the last results are shown."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What the page shows. ``saved_usd`` is since ``first_day``, on which the first batch was sent.

    ``saved_month_usd`` is of the running month, ``recent`` of the last 30 days.
    """

    now: datetime
    first_day: date | None
    saved_usd: Decimal
    saved_month_usd: Decimal
    recent: Savings
    night: Night
    queue: Sequence[Waiting]
    alerts: Sequence[Alert]
    attempts: Sequence[Attempt]
    outcomes: Sequence[Outcome]
    jobs_ever: bool
    """False while no job was ever inserted: the page then says how to insert the first."""


def dashboard(store: Store, settings: Settings) -> Dashboard:
    """Return everything that the page shows, as of now by the database's clock; days and months are those of UTC."""
    with store.snapshot():
        today = sums.today(store)
        first = sums.first_day(store)
        return Dashboard(
            now=store.now(),
            first_day=first,
            saved_usd=sums.total(store, first, today).savings_usd if first else Decimal(0),
            saved_month_usd=sums.total(store, today.replace(day=1), today).savings_usd,
            recent=savings(store, last_days(store)),
            night=night(store),
            queue=figures.queue(store),
            alerts=store.open_alerts(),
            attempts=attempts(store, settings),
            outcomes=sums.outcomes(store, LATEST),
            jobs_ever=sums.any_job(store),
        )

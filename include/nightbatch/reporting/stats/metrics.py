"""The figures that a monitoring system watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nightbatch.postgres import figures, sums
from nightbatch.postgres.figures import Run, Waiting
from nightbatch.postgres.store import Store
from nightbatch.postgres.sums import Figures, Slice
from nightbatch.reporting.stats.night import latest_run


@dataclass(frozen=True, slots=True)
class OpenBatches:
    """How many attempts of a provider stand so."""

    provider: str
    state: str
    batches: int


@dataclass(frozen=True, slots=True)
class OpenAlerts:
    """How many alerts of a kind are open."""

    kind: str
    alerts: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """``total`` and ``by_provider`` are of all time; money in USD."""

    total: Figures
    by_provider: Sequence[Slice]
    queue: Sequence[Waiting]
    open_batches: Sequence[OpenBatches]
    open_alerts: Sequence[OpenAlerts]
    last_run: Run | None


def metrics(store: Store) -> Metrics:
    """As of now."""
    today = sums.today(store)
    first = sums.first_day(store) or today
    states = Counter((batch.provider, batch.state) for batch in store.open_attempts())
    kinds = Counter(alert.kind for alert in store.open_alerts())
    return Metrics(
        total=sums.total(store, first, today),
        by_provider=sums.slices(store, first, today)["provider"],
        queue=figures.queue(store),
        open_batches=[OpenBatches(*key, count) for key, count in sorted(states.items())],
        open_alerts=[OpenAlerts(kind, count) for kind, count in sorted(kinds.items())],
        last_run=latest_run(store),
    )

"""`nightbatch estimate`: what the queue will cost, shown before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from rich.table import Table

    from nightbatch.core.models import ProviderName
    from nightbatch.planning.estimates import Estimate
    from nightbatch.postgres.store import Store

    _Pair = tuple[Decimal, Decimal] | None


def of_the_queue(
    store: Store, providers: tuple[str, ...], job_types: tuple[str, ...], max_jobs: int | None
) -> Sequence[Estimate]:
    """Estimate what a run would send now."""
    from nightbatch.batches import submission
    from nightbatch.core.ledger import RunParams
    from nightbatch.core.settings import Settings
    from nightbatch.job_types import job_types as types

    params = RunParams(providers=providers, job_types=job_types, max_jobs=max_jobs)
    return submission.preview(store, types(), Settings.from_env(), params=params)


def of_the_past(
    store: Store,
    first: date,
    last: date,
    *,
    job_types: tuple[str, ...],
    max_jobs: int | None,
    to_model: str | None,
    to_provider: ProviderName | None,
) -> Sequence[Estimate]:
    """Estimate what the jobs of these days would cost if they were sent again; days are those of the schedule's time zone."""
    from nightbatch.core.days import span
    from nightbatch.core.settings import Settings
    from nightbatch.job_types import job_types as types
    from nightbatch.planning import reprocessing

    since, until = span(first, last, ZoneInfo(Settings.from_env().timezone))
    wish = reprocessing.ReprocessRequest(
        since=since,
        until=until,
        job_types=job_types,
        max_jobs=max_jobs,
        to_model=to_model,
        to_provider=to_provider,
    )
    return reprocessing.send_again(store, types(), wish, dry_run=True).estimates


def to_json(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Return all groups and their sum; money in USD from the least to the most, printed as decimal strings."""
    return {
        "groups": [{name: getattr(one, name) for name in one.__dataclass_fields__} for one in estimates],
        "jobs": sum(one.jobs for one in estimates),
        "unpriced": sum(one.jobs for one in estimates if one.batch_usd is None),
        "batch_usd": _sum([one.batch_usd for one in estimates]),
        "realtime_usd": _sum([one.realtime_usd for one in estimates]),
    }


def table(estimates: Sequence[Estimate]) -> Table:
    """Return the estimates as a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title="What the queue will take", title_justify="left", box=None, pad_edge=False, show_footer=True)
    totals = ("", "", "", f"{sum(one.jobs for one in estimates):,}", "", "", *(
        _money(_sum([getattr(one, name) for one in estimates])) for name in ("batch_usd", "realtime_usd")
    ))  # fmt: skip
    names = ("job type", "provider", "model", "jobs", "tokens in", "tokens out", "in batches", "in realtime")
    for name, total in zip(names, totals, strict=True):
        made.add_column(name, total, justify="left" if name in names[:3] else "right")
    for one in estimates:
        cells = (
            one.job_type, one.provider, one.model, f"{one.jobs:,}", _count(one.input_tokens), _count(one.output_tokens),
            _money(one.batch_usd), _money(one.realtime_usd),
        )  # fmt: skip
        made.add_row(*map(Text, cells))
    return made


def _sum(pairs: Sequence[_Pair]) -> tuple[Decimal, Decimal]:
    known = [pair for pair in pairs if pair is not None]
    return sum((low for low, _ in known), Decimal(0)), sum((high for _, high in known), Decimal(0))


def _money(pair: _Pair) -> str:
    from nightbatch.core.amounts import usd

    if pair is None:
        return "unpriced"
    low, high = map(usd, pair)
    return low if low == high else f"{low} to {high}"


def _count(pair: tuple[int, int]) -> str:
    low, high = pair
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"

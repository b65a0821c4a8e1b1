"""`nightbatch calculate`: a year of calls in figures and in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from nightbatch.cli.output import echo, fields, open_ledger, show_table

if TYPE_CHECKING:
    from nightbatch.planning.calculator import Calculation
    from nightbatch.postgres.store import Store

_MONTHS = 12


@contextmanager
def database_if_any() -> Iterator[Store | None]:
    """Open the database; None where NIGHTBATCH_DSN is not set."""
    if not os.environ.get("NIGHTBATCH_DSN"):
        yield None
        return
    with open_ledger() as store:
        yield store


def to_json(found: Calculation) -> dict[str, Any]:
    """Return the figures of a year of 365 days; money in USD, printed as decimal strings, null without a price."""
    return {**fields(found), "savings_usd": found.savings_usd}


def tell(found: Calculation) -> None:
    """Print the costs per day, month and year, and where tokens and prices come from."""
    echo(f"{found.calls_a_day:,} calls a day of {found.job_type}, by {found.model} of {found.provider}:")
    if found.realtime_usd is None or found.batch_usd is None or found.savings_usd is None:
        echo(f"The price of {found.model} is not known. Give it in nightbatch.price_override.")
    else:
        rows = [
            _row("in realtime", found.realtime_usd),
            _row("in batches", found.batch_usd),
            _row("saved", found.savings_usd),
        ]
        periods = ("a day", "a month", "a year")
        show_table("", ("", *periods), rows, figures=periods)
    cached = f", {found.cached_tokens:,} of them from the cache" if found.cached_tokens else ""
    echo(f"Tokens a call: {found.input_tokens:,} in{cached}, {found.output_tokens:,} out ({found.tokens_from}).")
    if found.price_source:
        echo(f"Prices: {found.price_source}.")


def _row(name: str, year: Decimal) -> tuple[str, ...]:
    from nightbatch.core.amounts import usd
    from nightbatch.planning.calculator import DAYS

    return name, usd(year / DAYS), usd(year / _MONTHS), usd(year)

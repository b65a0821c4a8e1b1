"""How a person's decision about a batch is told before it is made, and then carried out: as the REST API does it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from nightbatch.cli.output import echo, open_ledger, print_json, prompt

if TYPE_CHECKING:
    from nightbatch.postgres.store import Store


def decide(
    about: Mapping[str, object],
    preview: Callable[[Store], tuple[str, Decimal | None]],
    carry_out: Callable[[Store, str], str],
    *,
    reason: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Carry a decision out, or with ``dry_run`` only tell what it does and costs.

    Whoever is asked for the reason reads that first. ``about`` is printed with the outcome as JSON.
    """
    if not (dry_run or reason):
        if sys.stdin.isatty():
            with open_ledger() as store:
                echo(preview(store)[0], error=True)
        reason = prompt(reason, "Why", "--reason")
    with open_ledger() as store:
        message, price = preview(store)
        done = message if dry_run else carry_out(store, reason)
    if as_json:
        print_json({**about, "told": done, "price_usd": price})
    else:
        echo(done)

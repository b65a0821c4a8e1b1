"""Tell a person what a decision about a batch may cost, before it is made."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import assert_never

from nightbatch.batches import decisions
from nightbatch.batches.decisions import Choice
from nightbatch.core.errors import ConfigurationError, NightbatchError
from nightbatch.core.ledger import Batch
from nightbatch.job_types.base import JobType
from nightbatch.planning import calculator
from nightbatch.postgres import lookups
from nightbatch.postgres.store import Store

Types = Mapping[str, JobType]


def whole_price(store: Store, types: Types, batch: Batch) -> Decimal | None:
    """About what the batch costs if all of it is answered, in USD, as the calculator knows its calls; None: unknown."""
    total = Decimal(0)
    for job_type, jobs in lookups.job_types_of(store, batch.id).items():
        if job_type not in types:
            return None
        try:
            year = calculator.yearly(jobs, job_type, batch.model, types=types, provider=batch.provider, store=store)
        except ConfigurationError:  # nothing tells how long a call is: that keeps nobody from deciding
            return None
        if year.batch_usd is None:
            return None
        total += year.batch_usd / calculator.DAYS
    return total


def of_cancelling(store: Store, types: Types, batch_id: int) -> tuple[str, Decimal | None]:
    """Return what cancelling a batch does, in words, and its price. Raises `NightbatchError` where it cannot be cancelled."""
    batch = decisions.find(store, batch_id)
    if batch.state != "submitted":
        raise NightbatchError(decisions.not_with_a_provider(batch))
    price = whole_price(store, types, batch)
    return f"{decisions.CANCEL} All of it would cost {_about(price)}; less is paid for what has not finished.", price


def of_releasing(store: Store, types: Types, batch_id: int, choice: Choice) -> tuple[str, Decimal | None]:
    """Return what a choice about an attempt does, in words, and its price. Raises `NightbatchError` where it is not open."""
    batch = decisions.find(store, batch_id)
    decisions.check(batch, choice)
    price = whole_price(store, types, batch)
    match choice:
        case "adopt":
            cost = f"Its results were paid for already, with {_about(price)}."
        case "resend":
            cost = f"Sent again it costs {_about(price)}, and as much was paid before if it was created after all."
        case "drop":
            cost = f"Nothing more is paid; if it was created, {_about(price)} is lost."
        case _:
            assert_never(choice)
    gone = store.has_open_alert("other_account", str(batch_id))
    return f"{decisions.choices(batch, key_gone=gone)[choice]} {cost}", price


def _about(price: Decimal | None) -> str:
    return "an unknown price" if price is None else f"about {price:.4f} USD"

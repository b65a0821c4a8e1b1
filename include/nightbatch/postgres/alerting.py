"""What alerts are made of, and what has become of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from nightbatch.core.ledger import Alert
from nightbatch.core.models import ProviderName
from nightbatch.postgres.store import Store


class SuccessRate(NamedTuple):
    """How the jobs of a run ended."""

    run_id: str
    succeeded: int
    failed: int


class Backlog(NamedTuple):
    """Jobs that wait for longer than they should; ``since`` is when the first of them was due."""

    provider: ProviderName
    jobs: int
    since: datetime


class Unpriced(NamedTuple):
    """A model whose price is not known, its last batch, and how many requests of it are in no sum of money."""

    provider: ProviderName
    model: str
    batch_id: int
    requests: int


def lock_checks(store: Store) -> None:
    """Let no other check run until the transaction ends."""
    store.run("lock_checks", file="alerting")


def raise_milestone(store: Store, amount: Decimal, message: str) -> bool:
    """Raise the alert of a milestone. Return False when this one, or a higher one, was told of before."""
    values = {"subject": f"{amount:f}", "message": message}
    if store.run("raise_milestone", values, file="alerting").fetchone() is None:
        return False
    store.run("outdo_milestones", values, file="alerting")
    return True


def last_rate(store: Store, at_least: int) -> SuccessRate | None:
    """Return how the jobs ended in the last complete run, of the last 30 days, in which so many of them ended."""
    row = store.run("last_rate", {"at_least": at_least}, file="alerting").fetchone()
    return SuccessRate(*row) if row else None


def backlog(store: Store, hours: float) -> list[Backlog]:
    """Return what has been due for more than so many hours, by provider."""
    return [Backlog(*row) for row in store.run("backlog", {"seconds": hours * 3600}, file="alerting")]


def unpriced(store: Store) -> list[Unpriced]:
    """Return the models of the last 30 days whose last batch has no known price."""
    return [Unpriced(*row) for row in store.run("unpriced", file="alerting")]


def resolve_priced(store: Store, unpriced: Sequence[str]) -> None:
    """Resolve the alerts of missing prices of all models but these, as ``provider/model``."""
    store.run("resolve_priced", {"unpriced": list(unpriced)}, file="alerting")


def resolve_settled(store: Store) -> None:
    """Resolve what was told of a run, a budget or an account that is no trouble any more."""
    store.run("resolve_settled", file="alerting")


def night(store: Store, run_id: str) -> tuple[bool, int, int]:
    """Return whether a run was planned, its open attempts, and the jobs in them."""
    planned, batches, jobs = store.run("night", {"run_id": run_id}, file="alerting").fetchone()  # type: ignore[misc]
    return planned, batches, jobs


def acknowledge(store: Store, alert_id: int, by: str, *, over: Collection[str]) -> bool:
    """Acknowledge an alert; one of a kind that is ``over`` with it is resolved too.

    Return False when it is not there, resolved, or acknowledged already.
    """
    values = {"alert_id": alert_id, "by": by, "over": list(over)}
    return store.run("acknowledge", values, file="alerting").fetchone() is not None


def alert(store: Store, alert_id: int) -> Alert | None:
    """Return it, whatever became of it; None for one that there never was."""
    row = store.run("alert", {"alert_id": alert_id}, file="alerting").fetchone()
    return Alert(*row) if row else None


def to_send(store: Store, notifier: str) -> list[Alert]:
    """Return the open alerts that nobody acknowledged and that this notifier has not sent, the oldest first."""
    return [Alert(*row) for row in store.run("to_send", {"notifier": notifier}, file="alerting")]


def claim(store: Store, alert_id: int, notifier: str) -> bool:
    """Mark an alert as sent, in the transaction that sends it.

    Return False when it was sent, resolved or acknowledged meanwhile.
    """
    values = {"alert_id": alert_id, "notifier": notifier}
    return store.run("claim", values, file="alerting").fetchone() is not None

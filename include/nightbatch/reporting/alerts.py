"""Raise alerts of what a person should know, resolve those that can be, and send them. docs/alerts.md lists the kinds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from decimal import Decimal

from nightbatch.core.errors import NightbatchError, NotFound
from nightbatch.core.ledger import Alert
from nightbatch.core.profiles import profiles
from nightbatch.core.settings import Settings
from nightbatch.postgres import alerting, sums
from nightbatch.postgres.store import Store

log = logging.getLogger("nightbatch")

Sender = Callable[[Alert], None]
"""Brings one alert to people; whatever it raises, the alert is sent again another time."""

GOOD_NEWS = frozenset({"savings_milestone"})
"""Kinds that nobody has to do anything about."""

OVER_ONCE_SEEN = GOOD_NEWS | {
    "lost_results",
    "missing_results",
    "usage_differs",
    "duplicate_batch",
}
"""Kinds whose cause never goes away: money came or went. To acknowledge one resolves it."""

ENOUGH_JOBS = 20
"""A run in which fewer jobs ended has no success rate worth an alert: one failure of ten would be 90 %."""


def check(store: Store, settings: Settings) -> list[str]:
    """Raise and resolve alerts that follow from the figures; return the messages of the new ones.

    Cheap enough for every hour: it adds up roll-ups, and looks at jobs that wait. Two checks at once raise each alert once.
    """
    with store.transaction():
        alerting.lock_checks(store)
        alerting.resolve_settled(store)
        told = [*_milestone(store, settings), *_rate(store, settings), *_backlog(store, settings), *_prices(store)]
    return told


def night_late(store: Store, run_id: str, hours: float) -> str | None:
    """Raise the alert of a run that was queued so many hours ago; return its message, or None if all of the run is through."""
    planned, batches, jobs = alerting.night(store, run_id)
    if planned and not batches:
        return None
    missing = f"{jobs} jobs in {batches} batches are still out" if planned else "it has not even planned its batches"
    message = (
        f"The run {run_id} was queued more than {hours:g} hours ago, and {missing}. `nightbatch status` shows where it"
        " stands; batches that are out are loaded when they end, even if the run is stopped."
    )
    store.raise_alert("night_late", run_id, message)
    return message


def acknowledge(store: Store, alert_id: int, *, by: str) -> str:
    """Record that a person has seen an alert, so that it is not sent again; return a sentence about what that means.

    Only the first acknowledgement counts. Raises `NotFound`, and `NightbatchError` without a name in ``by``, or for an alert that
    was resolved before anybody saw it.
    """
    if not by.strip():
        raise NightbatchError("Say who acknowledges the alert.")
    done = alerting.acknowledge(store, alert_id, by.strip(), over=OVER_ONCE_SEEN)
    alert = alerting.alert(store, alert_id)
    if alert is None:
        raise NotFound(f"There is no alert {alert_id}.")
    if alert.acknowledged_at is None:
        raise NightbatchError(f"Alert {alert_id} ({alert.kind}) is resolved: there is nothing to acknowledge any more.")
    if not done:
        return (
            f"Alert {alert_id} ({alert.kind}) was acknowledged by {alert.acknowledged_by} before, "
            f"{alert.acknowledged_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC. That stays."
        )
    if alert.resolved_at is not None:
        return f"Alert {alert_id} ({alert.kind}) is acknowledged, and with that it is over."
    return f"Alert {alert_id} ({alert.kind}) is acknowledged: it is not sent again, and goes when its cause is gone."


def send(store: Store, senders: Mapping[str, Sender]) -> list[str]:
    """Send each open alert that nobody has acknowledged once by each sender; return a sentence for each that was sent.

    A sender that fails keeps neither the other alerts nor the other senders back, and gets the alert again another time. One
    that was killed between sending and writing it down sends it twice.
    """
    return [
        sentence
        for name, sender in senders.items()
        for alert in alerting.to_send(store, name)
        if (sentence := _send(store, alert, name, sender))
    ]


def _send(store: Store, alert: Alert, name: str, sender: Sender) -> str | None:
    shown = f"Alert {alert.id} ({alert.kind})"
    try:
        with store.transaction():
            if not alerting.claim(store, alert.id, name):
                return None
            sender(alert)
    except Exception as error:  # noqa: BLE001  # others' code, which may raise anything
        # Not its text: a webhook's URL, or a token, may stand in it.
        why = str(error) if isinstance(error, NightbatchError) else type(error).__name__
        log.warning("%s was not sent by %s, and is tried again in an hour: %s", shown, name, why)
        return None
    return f"{shown} is sent by {name}."


def _milestone(store: Store, settings: Settings) -> Iterator[str]:
    step, first = Decimal(str(settings.milestone_usd)), sums.first_day(store)
    if not step or first is None:
        return
    saved = sums.total(store, first, sums.today(store)).savings_usd
    reached = (saved // step * step).normalize()
    message = f"{saved:,.2f} USD are saved since {first}: that is more than {reached:,f}."
    if reached > 0 and alerting.raise_milestone(store, reached, message):
        yield message


def _rate(store: Store, settings: Settings) -> Iterator[str]:
    rate = alerting.last_rate(store, ENOUGH_JOBS)
    if rate is None:
        return
    ended = rate.succeeded + rate.failed
    if rate.succeeded >= Decimal(str(settings.min_success_rate)) * ended:
        store.resolve_alert("success_rate_low", "runs")
        return
    message = (
        f"Of the {ended} jobs that ended in the run {rate.run_id}, {rate.failed} failed: {rate.succeeded / ended:.1%}"
        f" succeeded, where {settings.min_success_rate:.1%} are expected. `nightbatch report` says why they failed."
    )
    if store.raise_alert("success_rate_low", "runs", message):
        yield message


def _backlog(store: Store, settings: Settings) -> Iterator[str]:
    found = {late.provider: late for late in alerting.backlog(store, settings.backlog_hours)}
    for name in {**profiles(), **found}:  # also of a provider whose package is gone
        late = found.get(name)
        if late is None:
            store.resolve_alert("queue_backlog", name)
            continue
        message = (
            f"{late.jobs} jobs for {name} have waited for more than {settings.backlog_hours:g} hours, the first since"
            f" {late.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC. Is the Dag nightbatch paused, a budget reached, or the"
            " provider's queue full? `nightbatch doctor` and the log of the task `plan` say more."
        )
        if store.raise_alert("queue_backlog", name, message):
            yield message


def _prices(store: Store) -> Iterator[str]:
    found = {f"{one.provider}/{one.model}": one for one in alerting.unpriced(store)}
    alerting.resolve_priced(store, list(found))
    for subject, one in found.items():
        message = (
            f"The price of {subject} is not known: {one.requests} requests of batch {one.batch_id} are in no sum of money."
            " Add it to nightbatch.price_override; the next batch is then priced."
        )
        if store.raise_alert("price_missing", subject, message):
            yield message

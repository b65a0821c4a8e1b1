"""What needs a person: attempts that are not simply under way, alerts, and a server that may lose what it kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from nightbatch.batches import decisions
from nightbatch.core.ledger import Alert, Batch
from nightbatch.core.profiles import profiles
from nightbatch.core.settings import Settings
from nightbatch.postgres import registered, session
from nightbatch.postgres.store import Store
from nightbatch.reporting.alerts import GOOD_NEWS

_ABOUT_ATTEMPTS = {
    "in_doubt", "held", "overdue", "other_account", "unknown_batch", "results_expire", "missing_results", "attempt_stuck",
    "usage_differs",
}  # fmt: skip
"""Kinds of alerts whose subject is an attempt."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that a person may want to look at.

    ``known`` and ``next`` are sentences: what is known, and what happens by itself. ``next_at`` is when, or None when
    nothing will; ``choices`` are what a person may decide, each with what it does.
    """

    batch_id: int
    run_id: str
    provider: str
    model: str
    jobs: int
    state: str
    since: datetime
    known: str
    next: str
    next_at: datetime | None
    choices: Mapping[str, str]


def attempts(store: Store, settings: Settings) -> list[Attempt]:
    """Return every attempt that is in doubt, held, or with its provider and told of in an alert; oldest first."""
    now = store.now()
    alerts = {alert.subject: alert for alert in store.open_alerts() if alert.kind in _ABOUT_ATTEMPTS}
    return [
        _attempt(batch, alerts.get(str(batch.id)), settings, now)
        for batch in store.open_attempts()
        if batch.state in ("submitting", "held") or (batch.state == "submitted" and str(batch.id) in alerts)
    ]


def other_alerts(store: Store) -> list[Alert]:
    """Return the open alerts that no attempt of `attempts` stands for, and that ask for something."""
    shown = {str(batch.id) for batch in store.open_attempts() if batch.state in ("submitting", "held", "submitted")}
    return [
        alert
        for alert in store.open_alerts()
        if alert.kind not in GOOD_NEWS and (alert.kind not in _ABOUT_ATTEMPTS or alert.subject not in shown)
    ]


def not_kept(store: Store) -> list[str]:
    """Return a sentence for each setting of the server that may lose what was committed."""
    return session.not_kept(store.connection)


def unregistered(store: Store) -> list[str]:
    """Return a sentence for each provider whose jobs the database refuses, since it was not registered."""
    return registered.missing(store)


def _attempt(batch: Batch, alert: Alert | None, settings: Settings, now: datetime) -> Attempt:
    known, what, when = _outlook(batch, settings, now)
    if alert is not None and alert.message not in known:
        known = f"{known} {alert.message}"
    since = batch.intent_at or batch.planned_at
    return Attempt(
        batch.id, batch.run_id, batch.provider, batch.model, batch.job_count, batch.state, since,
        known, what, when, _choices(batch, alert),
    )  # fmt: skip


def _choices(batch: Batch, alert: Alert | None) -> Mapping[str, str]:
    if batch.state != "submitted":
        return decisions.choices(batch, key_gone=alert is not None and alert.kind == "other_account")
    if alert is not None and alert.kind == "overdue":
        return {"cancel": decisions.CANCEL}
    return decisions.choices(batch)


def _outlook(batch: Batch, settings: Settings, now: datetime) -> tuple[str, str, datetime | None]:
    """Return what is known of an attempt, what happens to it by itself, and when."""
    assert batch.intent_at is not None  # the schema says so for these states
    sent = f"A create was sent at {_at(batch.intent_at)}"
    state: Literal["submitting", "held", "submitted"] = batch.state  # type: ignore[assignment]  # see attempts
    match state:
        case "submitting" if batch.fenced_at is not None:
            known = f"{sent}; {batch.provider} did not list it, and its input was deleted at {_at(batch.fenced_at)}."
            what = (
                "One more look; if it is still not listed, it can never have been created, and its jobs are sent anew."
            )
            return known, what, max(_next_recovery(now), batch.fenced_at + timedelta(seconds=settings.settle_seconds))
        case "submitting":
            patience = batch.intent_at + timedelta(seconds=settings.create_seconds)
            if now < patience:
                return f"{sent}; no answer is written down yet.", "Its own task is, or may be, still at it.", patience
            what = f"nightbatch_recover looks through {batch.provider}'s list: it adopts the batch, or proves that there is none."
            return f"{sent}; its answer was lost.", what, _next_recovery(now)
        case "held":
            what = f"nightbatch_recover looks for it at {batch.provider} every hour and adopts it when it is there."
            hours = settings.release_anthropic_after_hours
            facts = profiles().get(batch.provider)  # its package may be gone
            if facts and not facts.tagged and hours > 0:
                released = batch.intent_at + timedelta(hours=hours)
                what += f" If it is not there by {_at(released)}, its jobs are sent again, as the settings ask."
            return batch.error or f"{sent}; whether there is a batch is not known.", what, _next_recovery(now)
        case "submitted":
            known = f"{batch.provider} has it as {batch.provider_batch_id} since {_at(batch.submitted_at or batch.intent_at)}."
            return (
                known,
                "nightbatch_recover asks for it every hour and loads it when it has ended.",
                _next_recovery(now),
            )


def _next_recovery(now: datetime) -> datetime:
    """Return when the Dag nightbatch_recover runs next: it does so at half past."""
    half_past = now.replace(minute=30, second=0, microsecond=0)
    return half_past if half_past > now else half_past + timedelta(hours=1)


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}".strip()

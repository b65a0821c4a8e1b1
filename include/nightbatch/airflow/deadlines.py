"""Let Airflow hold the promise of 24 hours: its scheduler looks after the deadline, its triggerer tells of it.

Nothing heavy is imported before it is needed: the Dag files import this module each time they are parsed.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

# Public as airflow.sdk, whose stub file leaves them out.
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

log = logging.getLogger("nightbatch")

PROMISE = timedelta(hours=24)


async def night_is_late(context: Any) -> None:
    """Raise the alert ``night_late`` for the run, and send it. Does nothing for a run whose batches are all through."""
    # In a thread: the database and the notifiers would hold up the triggerer's other waits.
    await asyncio.to_thread(_tell, context["dag_run"]["dag_run_id"])


def within_a_day() -> DeadlineAlert:
    """Return the deadline of the nightly Dag: 24 hours after a run was queued.

    The triggerer tells of it rather than an executor, since not every executor can run callbacks. It is in seconds, which
    Airflow reads as well as it does a timedelta: 3.3 cannot clear a run whose deadline is a timedelta from when it was queued
    (github.com/apache/airflow/issues/70368).
    """
    return DeadlineAlert(
        name="24 hours",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=int(PROMISE.total_seconds()),  # type: ignore[arg-type]
        callback=AsyncCallback(night_is_late),
    )


def _tell(run_id: str) -> None:
    from nightbatch.airflow import notifiers
    from nightbatch.airflow.hooks import store
    from nightbatch.core.settings import Settings
    from nightbatch.reporting import alerts

    with store() as ledger:
        message = alerts.night_late(ledger, run_id, PROMISE.total_seconds() / 3600)
        if message is None:
            return
        log.warning("%s", message)
        notifiers.send(ledger, Settings.from_env())

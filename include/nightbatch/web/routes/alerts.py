"""Routes for alerts: what needs a person, and that a person has seen it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from nightbatch.reporting import alerts as use_case
from nightbatch.reporting import stats
from nightbatch.web.auth import READ, RUN, By
from nightbatch.web.bodies import AlertsPage, Id, Told
from nightbatch.web.cursors import place, write_cursor
from nightbatch.web.database import OpenStore

router = APIRouter(tags=["alerts"])


@router.get("/alerts", dependencies=READ)
def alerts(
    store: OpenStore,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    resolved: Annotated[bool, Query(description="Those whose cause is gone, too.")] = False,
) -> AlertsPage:
    """List the alerts, the newest first."""
    rows = stats.alerts(store, before=place(cursor, stats.LAST), limit=limit, resolved=resolved)
    return AlertsPage(alerts=rows, next_cursor=write_cursor(rows[-1].id) if len(rows) == limit else None)


@router.post("/alerts/{alert_id}/acknowledge", dependencies=RUN)
def acknowledge(alert_id: Id, store: OpenStore, by: By) -> Told:
    """Say that you have seen it: it stays open until its cause is gone, and is not sent again."""
    return Told(done=True, message=use_case.acknowledge(store, alert_id, by=by))

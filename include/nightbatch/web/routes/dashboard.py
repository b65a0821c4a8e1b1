"""The page in Airflow's navigation, drawn on the server; its one script only replaces parts of it and sends its forms."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from nightbatch.batches import submission
from nightbatch.core.amounts import duration, percent, usd
from nightbatch.core.ledger import RunParams
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.planning.estimates import Estimate
from nightbatch.postgres.store import Store
from nightbatch.reporting import charts, stats
from nightbatch.reporting.stats import Dashboard
from nightbatch.web.auth import READ, RUN, CanRun
from nightbatch.web.database import OpenStore

router = APIRouter(tags=["page"])

_PAGE = Path(__file__).parent.parent / "page"
_MAX_BATCHES = 60
_HTML = {"text/html": {"schema": {"type": "string"}}}


@router.get("/dashboard", dependencies=READ, response_model=Dashboard, responses={200: {"content": _HTML}})
def dashboard(
    request: Request, store: OpenStore, can_run: CanRun, accept: Annotated[str, Header()] = ""
) -> Dashboard | Response:
    """Show everything at a glance: JSON, or the page for a browser (`Accept: text/html`). No payload is in it."""
    if "text/html" not in accept:
        return _now(store)
    base = request.scope.get("root_path", "")
    return HTMLResponse(_render("page.html", **_shown(store, can_run=can_run), base=base))


@router.get("/dashboard/live", dependencies=READ, response_class=HTMLResponse)
def live(store: OpenStore, can_run: CanRun) -> str:
    """Return the part of the page that is replaced every few seconds."""
    return _render("live.html", **_shown(store, can_run=can_run))


@router.post("/dashboard/estimate", dependencies=RUN, response_class=HTMLResponse)
def estimate(store: OpenStore) -> str:
    """Show what tonight would take, as a part of the page."""
    found = submission.preview(store, job_types(), Settings.from_env(), params=RunParams())
    return _render("estimate.html", estimates=found, total=_total(found))


@router.get("/dashboard/{file}", dependencies=READ, include_in_schema=False)
def static(file: Literal["page.css", "page.js"]) -> Response:
    """Return the page's style or script; they too are only for those who are logged in."""
    if file == "page.js":
        return Response((_PAGE / file).read_bytes(), media_type="text/javascript")
    return Response((_PAGE / file).read_text(encoding="utf-8") + charts.CHART_CSS, media_type="text/css")


def _now(store: Store) -> Dashboard:
    return stats.dashboard(store, Settings.from_env())


def _shown(store: Store, *, can_run: bool) -> dict[str, Any]:
    found = _now(store)
    recent = found.recent
    drawn = (
        charts.savings_by_day(recent.days, recent.by_day),
        charts.share_by("provider", {part.key: part.figures.savings_usd for part in recent.by_provider}),
        charts.success_by_day(recent.days, recent.by_day),
        charts.turnaround(recent.turnaround),
    )
    return {"it": found, "charts": [chart for chart in drawn if chart], "can_run": can_run, "most": _MAX_BATCHES}


def _total(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Return the low and high sums of what has a price."""
    priced = [one for one in estimates if one.batch_usd and one.realtime_usd]
    sums = {
        name: [sum((getattr(one, name)[end] for one in priced), Decimal(0)) for end in (0, 1)]
        for name in ("batch_usd", "realtime_usd")
    }
    return {**sums, "jobs": sum(one.jobs for one in estimates), "unpriced": len(estimates) - len(priced)}


def _render(template: str, **values: Any) -> str:
    return _templates().get_template(template).render(values)


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("nightbatch.web", "page"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(usd=usd, percent=percent, duration=duration)
    return found

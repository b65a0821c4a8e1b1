"""Routes for money: what was paid and saved, what things cost, and what the next night will."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response

from nightbatch import reporting
from nightbatch.batches import submission
from nightbatch.core.days import span
from nightbatch.core.ledger import RunParams
from nightbatch.core.models import ProviderName
from nightbatch.core.pricing import rates_for
from nightbatch.core.profiles import profiles
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.planning import reprocessing
from nightbatch.planning.estimates import Estimate
from nightbatch.postgres.store import Store
from nightbatch.reporting import stats
from nightbatch.reporting.stats import Days, Metrics, Savings
from nightbatch.web.auth import READ, RUN
from nightbatch.web.bodies import EstimateWish, Price
from nightbatch.web.database import OpenStore
from nightbatch.web.metrics import exposition

router = APIRouter(tags=["money"])

From = Annotated[date | None, Query(description="The first day, in UTC; 30 days before the last if not given.")]
To = Annotated[date | None, Query(description="The last day, inclusive; today if not given.")]
_TEXT = {"schema": {"type": "string"}}


def _days(store: Store, from_day: date | None, to_day: date | None) -> Days:
    recent = stats.last_days(store)
    until = to_day or recent.until
    return Days(from_day or date.fromordinal(max(until.toordinal() - 29, 1)), until)


@router.get("/savings", dependencies=READ)
def savings(store: OpenStore, from_day: From = None, to_day: To = None) -> Savings:
    """Show what was sent, paid and saved in a range of days: whole, and by day, provider, model, job type and label."""
    return stats.savings(store, _days(store, from_day, to_day))


_FORMATS = {
    "markdown": (reporting.render_markdown, "text/markdown", "md"),
    "csv": (reporting.render_csv, "text/csv", "csv"),
    "html": (reporting.render_html, "text/html", "html"),
}


@router.get(
    "/report",
    dependencies=READ,
    response_model=dict[str, Any],
    responses={200: {"content": {"text/markdown": _TEXT, "text/csv": _TEXT, "text/html": _TEXT}}},
)
def report(
    store: OpenStore,
    run_id: Annotated[str | None, Query(description="Of one run instead of days.", max_length=500)] = None,
    from_day: From = None,
    to_day: To = None,
    format: Literal["json", "markdown", "csv", "html"] = "json",
) -> dict[str, Any] | Response:
    """Return the report of a run, or of a range of days, as `nightbatch report` prints it; other formats come as a file."""
    found: reporting.AnyReport
    if run_id is None:
        found = reporting.range_report(store, _days(store, from_day, to_day))
    else:
        found = reporting.run_report(store, run_id)
    if format == "json":
        return reporting.to_json(found)
    render, media_type, suffix = _FORMATS[format]
    # As a file: its inline styles are its own, and this site's policy forbids them.
    headers = {"Content-Disposition": f'attachment; filename="nightbatch-report.{suffix}"'}
    return Response(render(found), media_type=media_type, headers=headers)


@router.get("/metrics", dependencies=READ, response_model=Metrics, responses={200: {"content": {"text/plain": _TEXT}}})
def metrics(request: Request, store: OpenStore) -> Metrics | Response:
    """Return the figures for monitoring: JSON, or with `Accept: text/plain` or OpenMetrics the format of Prometheus."""
    found, accept = stats.metrics(store), request.headers.get("accept", "")
    if "text/plain" in accept or "openmetrics" in accept:
        text, content_type = exposition(found, accept)
        return Response(text, headers={"Content-Type": content_type})
    return found


@router.get("/prices", dependencies=READ)
def prices(store: OpenStore) -> list[Price]:
    """Show what every model in use costs now: the job types' own, those of the last 30 days, and those with an override."""
    overrides, now = store.price_overrides(), store.now()
    known: set[tuple[ProviderName, str]] = {
        *(pair for kind in job_types().values() for pair in kind.models.items()),
        *stats.models(store),
        *((row.provider, row.model) for row in overrides),
    }
    found = []
    places = {name: place for place, name in enumerate(profiles())}
    for provider, model in sorted(known, key=lambda pair: (places.get(pair[0], len(places)), pair)):
        rates = rates_for(provider, model, at=now, overrides=overrides)
        if rates is None:
            found.append(Price(provider=provider, model=model, source=None))
            continue
        realtime, batch = rates.realtime, rates.batch
        found.append(
            Price(
                provider=provider,
                model=model,
                source=rates.source,
                realtime_input=realtime.input.base,
                realtime_cached_input=realtime.cached_input.base,
                realtime_output=realtime.output.base,
                batch_input=batch.input.base,
                batch_cached_input=batch.cached_input.base,
                batch_output=batch.output.base,
            )
        )
    return found


@router.post("/estimate", dependencies=RUN)
def estimate(wish: EstimateWish, store: OpenStore) -> Sequence[Estimate]:
    """Show what a run would send now and about what it will cost, from the least to the most. Nothing is sent or written.

    It asks for the right to run the Dag, since it looks through the whole queue, and no plan happens meanwhile.
    """
    if wish.from_day is None:
        params = RunParams(tuple(wish.providers), tuple(wish.job_types), max_jobs=wish.max_jobs)
        return submission.preview(store, job_types(), Settings.from_env(), params=params)
    days = Days(wish.from_day, wish.to_day or wish.from_day)
    since, until = span(days.since, days.until, ZoneInfo(Settings.from_env().timezone))
    past = reprocessing.ReprocessRequest(
        since=since,
        until=until,
        job_types=tuple(wish.job_types),
        max_jobs=wish.max_jobs,
        to_model=wish.to_model,
        to_provider=wish.to_provider,
    )
    return reprocessing.send_again(store, job_types(), past, dry_run=True).estimates

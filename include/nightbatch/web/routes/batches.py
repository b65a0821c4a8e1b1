"""Routes for batches: where they stand, what came back, and what a person decides about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from nightbatch.batches import cost_preview, decisions, retrying
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.reporting import stats
from nightbatch.reporting.stats import Progress
from nightbatch.web.auth import READ, READ_PAYLOADS, RUN, By
from nightbatch.web.bodies import BatchStatus, Decision, Id, Release, ResultsPage, Told
from nightbatch.web.cursors import place, write_cursor
from nightbatch.web.database import OpenStore
from nightbatch.web.streams import as_csv, as_jsonl

router = APIRouter(tags=["batches"])

_STREAMS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page; with `format` the whole batch as a stream.",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}, "text/csv": {"schema": {"type": "string"}}},
    }
}


@router.get("/active", dependencies=READ)
def active(store: OpenStore) -> Sequence[Progress]:
    """List all attempts that are open, the oldest first."""
    return [batch for batch in stats.night(store).batches if batch.closed_at is None]


@router.get("/status/{batch_id}", dependencies=READ)
def status(batch_id: Id, store: OpenStore) -> BatchStatus:
    """Show where an attempt stands, what happens to it by itself, and what a person may decide."""
    batch = decisions.find(store, batch_id)
    return BatchStatus(
        batch=stats.progress_of(store, batch),
        job_types=stats.job_types_of(store, batch_id),
        attempt=next((one for one in stats.attempts(store, Settings.from_env()) if one.batch_id == batch_id), None),
    )


@router.get("/results/{batch_id}", dependencies=READ_PAYLOADS, response_model=ResultsPage, responses=_STREAMS)
def results(
    batch_id: Id,
    store: OpenStore,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    format: Annotated[Literal["page", "jsonl", "csv"], Query(description="A page, or all as a stream.")] = "page",
) -> ResultsPage | Response:
    """Return the results of a batch with their outputs, in the order of its jobs."""
    decisions.find(store, batch_id)
    match format:
        case "jsonl":
            return StreamingResponse(
                as_jsonl(stats.all_batch_results(store, batch_id)), media_type="application/x-ndjson"
            )
        case "csv":
            return StreamingResponse(as_csv(stats.all_batch_results(store, batch_id)), media_type="text/csv")
        case "page":
            rows = stats.batch_results(store, batch_id, after=place(cursor, stats.FIRST), limit=limit)
            return ResultsPage(results=rows, next_cursor=write_cursor(rows[-1].job_id) if len(rows) == limit else None)


@router.post("/batches/{batch_id}/cancel", dependencies=RUN)
def cancel(batch_id: Id, decision: Decision, store: OpenStore, by: By) -> Told:
    """Have a batch ended at its provider early; the price first, with `dry_run`."""
    message, price = cost_preview.of_cancelling(store, job_types(), batch_id)
    if decision.dry_run:
        return Told(done=False, message=message, price_usd=price)
    told = decisions.ask_to_cancel(store, batch_id, by=by, reason=decision.reason)
    return Told(done=True, message=told, price_usd=price)


@router.post("/batches/{batch_id}/retry", dependencies=RUN)
def retry(batch_id: Id, decision: Decision, store: OpenStore, by: By) -> Told:
    """Send the jobs of a loaded batch that have no usable answer again, with the next run; the price first, with `dry_run`."""
    offer = retrying.preview(store, batch_id)
    if decision.dry_run:
        return Told(done=False, message=str(offer), price_usd=offer.price)
    return Told(
        done=True, message=retrying.retry(store, batch_id, by=by, reason=decision.reason), price_usd=offer.price
    )


@router.post("/batches/{batch_id}/release", dependencies=RUN)
def release(batch_id: Id, decision: Release, store: OpenStore, by: By) -> Told:
    """Decide about an attempt that is held, after a look into the provider's console; the price first, with `dry_run`."""
    message, price = cost_preview.of_releasing(store, job_types(), batch_id, decision.choice)
    if decision.dry_run:
        return Told(done=False, message=message, price_usd=price)
    told = decisions.release(
        store,
        batch_id,
        choice=decision.choice,
        by=by,
        reason=decision.reason,
        provider_batch_id=decision.provider_batch_id,
    )
    return Told(done=True, message=told, price_usd=price)

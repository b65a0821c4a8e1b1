"""Routes for the queue: take jobs in, and show what waits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from starlette.concurrency import run_in_threadpool

from nightbatch.job_types import job_types
from nightbatch.jobs import intake
from nightbatch.jobs.intake import Enqueued
from nightbatch.postgres.store import Store
from nightbatch.reporting import stats
from nightbatch.web.auth import READ, RUN
from nightbatch.web.bodies import BulkQueued, BulkWish, NewJobs, Queued, QueueStatus
from nightbatch.web.database import OpenStore

router = APIRouter(tags=["queue"])

_SUFFIXES = {
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/x-jsonlines": ".jsonl",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
}
_SHOWN = 100
_EXAMPLE = (
    '{"job_type": "creative_scoring", "provider": "openai", "input": {"headline": "Coffee that waits for you"}}\n'
)
_BULK = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}, "example": _EXAMPLE},
            "text/csv": {
                "schema": {"type": "string"},
                "example": "job_type,provider,input.headline\ncreative_scoring,openai,Coffee that waits for you\n",
            },
        },
    }
}


class _Input(msgspec.Struct):
    input: msgspec.Raw


class _Inputs(msgspec.Struct):
    jobs: list[_Input]


async def _inputs(request: Request) -> list[str]:
    """Return the inputs as they stand in the body: a number that Python has read may have lost its digits."""
    try:
        return [bytes(job.input).decode() for job in msgspec.json.decode(await request.body(), type=_Inputs).jobs]
    except (ValueError, RecursionError):
        return []  # the route's own check says why


@router.post("/queue", dependencies=RUN, status_code=201)
def enqueue(body: NewJobs, inputs: Annotated[list[str], Depends(_inputs)], store: OpenStore) -> Queued:
    """Queue up to a thousand jobs: all of them, or none. Give each a `dedup_key` and the request can be repeated safely."""
    rows = [job.model_dump(exclude_none=True) for job in body.jobs]
    for row, text in zip(rows, inputs, strict=False):
        row["input"] = text
    return Queued(job_ids=intake.enqueue_rows(store, job_types(), rows))


@router.post("/queue/bulk", dependencies=RUN, openapi_extra=_BULK)
async def enqueue_bulk(request: Request, store: OpenStore, wish: Annotated[BulkWish, Query()]) -> BulkQueued:
    """Queue any number of jobs, a JSON object a line or CSV, as `nightbatch enqueue` does: bad lines are left out and named.

    The body is kept on disk until all of it is there, then copied in one transaction: a request that breaks off queues
    nothing. It can be repeated safely: a line that was queued before is known, by its `dedup_key` or else its content.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    suffix = _SUFFIXES.get(content_type)
    if suffix is None:
        raise HTTPException(415, f"Send one of these content types: {', '.join(_SUFFIXES)}.")
    with tempfile.TemporaryDirectory(prefix="nightbatch-bulk-") as folder:
        path = Path(folder, f"body{suffix}")
        await _keep(request, path)
        done = await run_in_threadpool(_enqueue_file, store, path, wish)
    return BulkQueued(new=done.new, known=done.known, bad_lines=len(done.bad), bad=done.bad[:_SHOWN])


async def _keep(request: Request, path: Path) -> None:
    try:
        async with await anyio.open_file(path, "wb") as file:
            async for part in request.stream():
                await file.write(part)
    except OSError as error:
        raise HTTPException(507, f"The body could not be kept on the api-server's disk: {error.strerror}.") from None


def _enqueue_file(store: Store, path: Path, wish: BulkWish) -> Enqueued:
    if wish.check:
        return intake.check_file(job_types(), path, model=wish.model)
    return intake.enqueue_file(
        store, job_types(), path, model=wish.model, all_or_nothing=wish.all_or_nothing, again=wish.again
    )


@router.get("/queue/status", dependencies=READ)
def queue_status(store: OpenStore) -> QueueStatus:
    """Show what waits, by provider, job type and priority."""
    waiting = stats.queue(store)
    return QueueStatus(jobs=sum(row.jobs for row in waiting), waiting=waiting)

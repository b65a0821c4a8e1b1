"""Serve message batches and the realtime endpoint."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

from starlette.responses import FileResponse, Response

from nightbatch_local.emulator.anthropic.bodies import answer
from nightbatch_local.emulator.anthropic.envelope import MOST_BYTES, split_requests
from nightbatch_local.emulator.errors import ApiError
from nightbatch_local.emulator.http import Call, Endpoint, in_thread, json_response
from nightbatch_local.emulator.state import Batch, File

_WINDOW = 86400.0
_RESULTS_KEPT = 29 * 86400.0
_CANCEL_SECONDS = 1.0
_PATH = "/v1/messages/batches"


async def create_batch(call: Call) -> Response:
    """Answer `POST /v1/messages/batches`: a fault of the envelope is refused here, one of `params` comes as a result."""
    body, lines = call.state.new_path("uploads"), call.state.new_path("inputs")
    try:
        await call.save_body(body, MOST_BYTES)
        size = body.stat().st_size
        await in_thread(partial(split_requests, body, lines))
        call.refuse_over_token_limit("anthropic", None, size // 4)
    except ApiError:
        lines.unlink(missing_ok=True)
        raise
    finally:
        body.unlink(missing_ok=True)
    now = call.state.now()
    batch = Batch(
        id=f"msgbatch_{uuid4().hex}",
        provider="anthropic",
        account=call.account,
        endpoint="/v1/messages",
        model=None,
        label=None,
        input_file=None,
        input_path=str(lines),
        created_at=now,
        due_at=call.emulator.next_due_at(now),
        expires_at=now + _WINDOW,
        tokens=size // 4,
        total=await in_thread(partial(_count, lines)),
    )
    call.add_batch(batch)
    return json_response(_view(call, batch))


async def get_batch(call: Call) -> Response:
    """Answer `GET /v1/messages/batches/{id}`."""
    return json_response(_view(call, _batch(call)))


async def list_batches(call: Call) -> Response:
    """Answer `GET /v1/messages/batches?limit&after_id|before_id`, newest first."""
    batches = call.state.batches("anthropic", call.account)
    limit, after, before = call.number("limit", 20, 1, 1000), call.query("after_id"), call.query("before_id")
    ids = [batch.id for batch in batches]
    for cursor in (after, before):
        if cursor is not None and cursor not in ids:
            raise ApiError(400, f"Invalid cursor: {cursor}")
    if before is not None:  # the page that ends just before the cursor
        end = ids.index(before)
        start, more = max(0, end - limit), end > limit
    else:
        start = 0 if after is None else ids.index(after) + 1
        end, more = start + limit, start + limit < len(ids)
    page = [_view(call, batch) for batch in batches[start:end]]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return json_response({"data": page, "has_more": more, "first_id": first, "last_id": last})


async def cancel_batch(call: Call) -> Response:
    """Answer `POST /v1/messages/batches/{id}/cancel`: what is done by now stays done, and paid."""
    batch, now = _batch(call), call.state.now()
    if batch.outcome is not None:
        raise ApiError(400, f"Batch {batch.id} has already ended and cannot be canceled.")
    if batch.cancelling_at is None:
        ending = {"ending": "cancelled", "finished": batch.progress(now), "cancelling_at": now}
        call.state.update_batch(batch.id, {**ending, "due_at": min(batch.due_at, now + _CANCEL_SECONDS)})
        call.emulator.worker.wake()
    return json_response(_view(call, _batch(call)))


async def delete_batch(call: Call) -> Response:
    """Answer `DELETE /v1/messages/batches/{id}`, once it has ended."""
    batch = _batch(call)
    if batch.outcome is None:
        raise ApiError(400, f"Batch {batch.id} cannot be deleted while it is being processed. Cancel it first.")
    call.state.delete_batch(batch)
    return json_response({"id": batch.id, "type": "message_batch_deleted"})


async def results(call: Call) -> Response:
    """Answer `GET /v1/messages/batches/{id}/results`: JSON lines, once it has ended and until it is archived."""
    batch = _batch(call)
    if batch.outcome is None:
        raise ApiError(404, f"Batch {batch.id} has no available results yet.")
    file = _results_file(call, batch)
    if file is None or _archived_at(call, batch) is not None:
        raise ApiError(404, f"The results of batch {batch.id} are no longer available.")
    return FileResponse(file.path, media_type="application/binary")


async def create_message(call: Call) -> Response:
    """Answer `POST /v1/messages` at once, at the full price."""
    params, seed = await call.json(), call.emulator.settings.seed
    return call.charge("anthropic", await in_thread(partial(answer, params, seed=seed, tier="standard")))


ROUTES = [
    Endpoint("batch_create", "POST", _PATH, create_batch),
    Endpoint("batch_list", "GET", _PATH, list_batches),
    Endpoint("batch_get", "GET", _PATH + "/{id}", get_batch),
    Endpoint("batch_cancel", "POST", _PATH + "/{id}/cancel", cancel_batch),
    Endpoint("batch_delete", "DELETE", _PATH + "/{id}", delete_batch),
    Endpoint("results", "GET", _PATH + "/{id}/results", results),
    Endpoint("realtime", "POST", "/v1/messages", create_message),
]


def _count(lines: Any) -> int:
    with lines.open("rb") as stored:
        return sum(1 for _ in stored)


def _batch(call: Call) -> Batch:
    batch = call.state.batch("anthropic", call.account, call.path("id"))
    if batch is None:
        raise ApiError(404, f"Batch {call.path('id')} not found.")
    return batch


def _results_file(call: Call, batch: Batch) -> File | None:
    return call.state.file("anthropic", call.account, batch.output_file or "")


def _archived_at(call: Call, batch: Batch) -> float | None:
    ends = batch.created_at + _RESULTS_KEPT
    return ends if call.state.now() >= ends else None


def _view(call: Call, batch: Batch) -> dict[str, Any]:
    archived, ended = _archived_at(call, batch), batch.outcome is not None
    path = f"{call.base_url()}/anthropic{_PATH}/{batch.id}/results"
    status = "ended" if ended else "canceling" if batch.cancelling_at is not None else "in_progress"
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": status,
        "request_counts": _counts(batch),
        "created_at": _time(batch.created_at),
        "expires_at": _time(batch.expires_at),
        "ended_at": _time(batch.ended_at),
        "cancel_initiated_at": _time(batch.cancelling_at),
        "archived_at": _time(archived),
        "results_url": path if ended and archived is None else None,
    }


def _counts(batch: Batch) -> dict[str, int]:
    """Return the counts of requests; all are `processing` until the whole batch has ended."""
    counts = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    if batch.outcome is None:
        return counts | {"processing": batch.total}
    late = {"cancelled": "canceled", "expired": "expired"}.get(batch.outcome, "errored")
    counts |= {"succeeded": batch.succeeded, "errored": batch.errored}
    counts[late] += batch.late
    return counts


def _time(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()

"""Show files and batches as OpenAI does."""

from __future__ import annotations

from typing import Any

import orjson

from nightbatch_local.emulator.state import Batch, File

_PHASE = 0.1  # validating takes the first tenth of the turnaround, finalizing the last
_MAX_PHASE = 5.0


def file_view(file: File) -> dict[str, Any]:
    """Return a file object."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
        "filename": file.label,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_view(batch: Batch, now: float) -> dict[str, Any]:
    """Return a batch object at `now` (seconds since 1970)."""
    status = _status(batch, now)
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": {"object": "list", "data": orjson.loads(batch.errors)} if batch.errors else None,
        "input_file_id": batch.input_file,
        "completion_window": "24h",
        "status": status,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "metadata": orjson.loads(batch.label) if batch.label else None,
        "request_counts": _counts(batch, status, now),
        "usage": _usage(batch),
        **_times(batch, status),
    }


def _phase(batch: Batch) -> float:
    return min(_MAX_PHASE, _PHASE * max(0.0, batch.due_at - batch.created_at))


def _status(batch: Batch, now: float) -> str:
    if batch.outcome is not None:
        return batch.outcome
    if batch.cancelling_at is not None:
        return "cancelling"
    if batch.checked_at is None or now < batch.created_at + _phase(batch):
        return "validating"
    return "finalizing" if now >= batch.due_at - _phase(batch) else "in_progress"


def _times(batch: Batch, status: str) -> dict[str, int | None]:
    started = status not in ("validating", "failed")
    finalizing = status in ("finalizing", "completed")
    ended = None if batch.ended_at is None else int(batch.ended_at)
    return {
        "created_at": int(batch.created_at),
        "in_progress_at": int(batch.created_at + _phase(batch)) if started else None,
        "expires_at": int(batch.expires_at),
        "finalizing_at": int(batch.due_at - _phase(batch)) if finalizing else None,
        "cancelling_at": None if batch.cancelling_at is None else int(batch.cancelling_at),
        **{f"{name}_at": ended if status == name else None for name in ("completed", "failed", "expired", "cancelled")},
    }


def _counts(batch: Batch, status: str, now: float) -> dict[str, int]:
    if batch.outcome is not None:
        return {"total": batch.total, "completed": batch.succeeded, "failed": batch.errored}
    if status == "validating":
        return {"total": 0, "completed": 0, "failed": 0}
    return {"total": batch.total, "completed": int(batch.total * batch.progress(now)), "failed": 0}


def _usage(batch: Batch) -> dict[str, Any] | None:
    if batch.usage is None:
        return None
    total = orjson.loads(batch.usage)
    return {
        "input_tokens": total["input"],
        "input_tokens_details": {"cached_tokens": total["cached"], "cache_write_tokens": total["written"]},
        "output_tokens": total["output"],
        "output_tokens_details": {"reasoning_tokens": total["thoughts"]},
        "total_tokens": total["input"] + total["output"],
    }

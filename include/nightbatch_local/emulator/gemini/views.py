"""Show a batch as Gemini does: a long-running operation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from nightbatch_local.emulator.gemini.files import rfc3339
from nightbatch_local.emulator.gemini.lines import EMBED
from nightbatch_local.emulator.state import Batch, State

_PENDING = 0.1  # of the turnaround
_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main."
_ENDS = {"failed": "FAILED", "expired": "EXPIRED", "cancelled": "CANCELLED"}
_ERRORS = {
    "failed": {"code": 13, "message": "Internal error."},
    "expired": {"code": 4, "message": "The batch expired before it was done."},
    "cancelled": {"code": 1, "message": "The batch was cancelled."},
}


def operation(state: State, batch: Batch, now: float) -> dict[str, Any]:
    """Return the operation at `now` (seconds since 1970)."""
    kind = "EmbedContentBatch" if batch.endpoint == EMBED else "GenerateContentBatch"
    output = _output(state, batch) if batch.outcome == "completed" else None
    metadata = {
        "@type": _TYPE + kind,
        "name": batch.id,
        "model": f"models/{batch.model}",
        "displayName": batch.label,
        "state": f"BATCH_STATE_{_state(batch, now)}",
        "createTime": rfc3339(batch.created_at),
        "updateTime": rfc3339(batch.ended_at or min(now, batch.due_at)),
        "batchStats": _stats(batch),
    }
    if batch.outcome is not None and batch.ended_at is not None:
        metadata["endTime"] = rfc3339(batch.ended_at)
    shown: dict[str, Any] = {
        "name": batch.id,
        "metadata": metadata,
        "done": batch.outcome is not None,
    }
    if output is not None:
        metadata["output"] = output
        shown["response"] = {"@type": f"{_TYPE}{kind}Output", **output}
    if batch.outcome in _ERRORS:
        shown["error"] = orjson.loads(batch.errors)[0] if batch.errors else _ERRORS[batch.outcome]
    return shown


def _state(batch: Batch, now: float) -> str:
    if batch.outcome == "completed":
        return "PARTIALLY_SUCCEEDED" if batch.errored else "SUCCEEDED"
    if batch.outcome is not None:
        return _ENDS[batch.outcome]
    if batch.cancelling_at is not None:
        return "CANCELLING"
    return "RUNNING" if batch.checked_at is not None and batch.progress(now) >= _PENDING else "PENDING"


def _stats(batch: Batch) -> dict[str, str]:
    """Return the counts as text, as Protobuf's JSON writes 64-bit numbers."""
    counts = {
        "requestCount": batch.total,
        "successfulRequestCount": batch.succeeded,
        "failedRequestCount": batch.errored,
        "pendingRequestCount": batch.total - batch.succeeded - batch.errored,
    }
    return {name: str(count) for name, count in counts.items() if count or name == "requestCount"}


def _output(state: State, batch: Batch) -> dict[str, Any]:
    if not batch.inline:
        return {"responsesFile": f"files/{batch.output_file}"}
    file = state.file("gemini", batch.account, batch.output_file or "")
    lines = Path(file.path).read_bytes().splitlines() if file else []
    return {"inlinedResponses": {"inlinedResponses": [orjson.loads(line) for line in lines]}}

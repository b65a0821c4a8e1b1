"""Answer Anthropic's batch requests, one stored line each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from nightbatch_local.emulator.anthropic.bodies import answer
from nightbatch_local.emulator.dialect import Checked, Result
from nightbatch_local.emulator.errors import ApiError, error_body
from nightbatch_local.emulator.prompt import EXPIRE_MARKER
from nightbatch_local.emulator.state import Batch, Outcome, State


class AnthropicLines:
    """Anthropic's `dialect.Dialect`. Every request has a result, whatever way the batch ended."""

    splits_errors = False
    keeps_partial = True
    reports_failure = False

    def check(self, state: State, batch: Batch, lines: Iterable[bytes]) -> Checked:
        """Count the requests: the envelope was checked at the creation, `params` are checked when it is their turn."""
        total = expiring = 0
        for raw in lines:
            total += 1
            expiring += EXPIRE_MARKER in raw
        return Checked(total, expiring)

    def answer(self, state: State, batch: Batch, raw: bytes, *, seed: int, at: float) -> Result:
        """Return `succeeded`, or `errored` without a charge."""
        request = orjson.loads(raw)
        custom_id = request["custom_id"]
        try:
            answered = answer(request["params"], seed=seed, tier="batch")
        except ApiError as error:
            return _result(custom_id, _errored(error), ok=False)
        shown = {"type": "succeeded", "message": answered.body}
        line = orjson.dumps({"custom_id": custom_id, "result": shown})
        return Result(custom_id, line, ok=True, model=answered.model, usage=answered.usage)

    def unfinished(self, batch: Batch, raw: bytes, outcome: Outcome) -> Result:
        """Return `expired`, `canceled`, or, where the whole batch was made to fail, `errored`."""
        custom_id = orjson.loads(raw)["custom_id"]
        if outcome == "failed":
            return _result(custom_id, _errored(ApiError(500, "Internal server error")), ok=False)
        return _result(custom_id, {"type": "canceled" if outcome == "cancelled" else "expired"}, ok=False)


def _errored(error: ApiError) -> dict[str, Any]:
    return {"type": "errored", "error": error_body("anthropic", error)}


def _result(custom_id: str, result: dict[str, Any], *, ok: bool) -> Result:
    return Result(custom_id, orjson.dumps({"custom_id": custom_id, "result": result}), ok=ok)

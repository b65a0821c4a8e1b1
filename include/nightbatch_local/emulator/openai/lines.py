"""Check OpenAI's batch lines before the batch starts, and answer them when it ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import orjson

from nightbatch_local.emulator.billing import serves
from nightbatch_local.emulator.dialect import Checked, Result
from nightbatch_local.emulator.errors import ApiError, openai_error
from nightbatch_local.emulator.openai.bodies import answer, input_count
from nightbatch_local.emulator.prompt import EXPIRE_MARKER
from nightbatch_local.emulator.state import Batch, Outcome, State, over_token_limit

ENDPOINTS = (
    *("/v1/chat/completions", "/v1/responses", "/v1/embeddings"),
    *("/v1/completions", "/v1/moderations", "/v1/images/generations"),
)
"""Edits of images and videos are batches of OpenAI's too; here nobody draws them."""
_MAX_REQUESTS = 50_000
_MAX_ERRORS = 1000
_NOT_DONE = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}
_PLAIN = orjson.OPT_SERIALIZE_NUMPY

BatchError = dict[str, Any]


class OpenAILines:
    """OpenAI's `dialect.Dialect`."""

    splits_errors = True
    keeps_partial = True
    reports_failure = True

    def check(self, state: State, batch: Batch, lines: Iterable[bytes]) -> Checked:
        """Check envelope, endpoint and model of every line; faults within a body come later, as a result."""
        checker = _Checker(batch)
        for number, raw in enumerate(lines, start=1):
            checker.read(number, raw)
        found = checker.result()
        over = over_token_limit(state, batch.provider, batch.account, found.model, batch.tokens)
        return replace(found, errors=[_error("token_limit_exceeded", over)]) if over and not found.errors else found

    def answer(self, state: State, batch: Batch, raw: bytes, *, seed: int, at: float) -> Result:
        """Return a success, or a line with the status and error of the request."""
        line = orjson.loads(raw)
        custom_id = line["custom_id"]
        try:
            answered = answer(line["url"], line["body"], seed=seed, at=at)
        except ApiError as error:
            failed = _line(batch, custom_id, error.status, {"error": openai_error(error)})
            return Result(custom_id, failed, ok=False)
        shown = _line(batch, custom_id, 200, answered.body)
        return Result(custom_id, shown, ok=True, model=answered.model, usage=answered.usage)

    def unfinished(self, batch: Batch, raw: bytes, outcome: Outcome) -> Result:
        """Return a line with `batch_expired` or `batch_cancelled`."""
        custom_id = orjson.loads(raw)["custom_id"]
        code, message = _NOT_DONE[outcome]
        shown = {"id": _request_id(batch, custom_id), "custom_id": custom_id, "response": None}
        return Result(custom_id, orjson.dumps(shown | {"error": {"code": code, "message": message}}), ok=False)


class _Checker:
    """Reads the lines of one batch and remembers what is wrong."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._seen: set[str] = set()
        self._model: str | None = None
        self._errors: list[BatchError] = []
        self._total = self._expiring = self._inputs = 0

    def read(self, number: int, raw: bytes) -> None:
        """Check one line; `number` counts from 1."""
        self._total += 1
        self._expiring += EXPIRE_MARKER in raw
        fault = self._fault(raw)
        if fault and len(self._errors) < _MAX_ERRORS:
            code, message, param = fault
            self._errors.append(_error(code, message, line=number, param=param))

    def result(self) -> Checked:
        """Return what was found, the faults of the whole file first."""
        whole = []
        if not self._total:
            whole.append(
                _error(
                    "empty_file",
                    "The batch input file is empty. Please ensure that the batch contains at least one request.",
                )
            )
        if self._total > _MAX_REQUESTS or self._inputs > _MAX_REQUESTS:
            whole.append(
                _error(
                    "too_many_tasks",
                    f"The batch input file contains too many requests. Max is {_MAX_REQUESTS}.",
                )
            )
        return Checked(self._total, self._expiring, self._model, whole + self._errors)

    def _fault(self, raw: bytes) -> tuple[str, str, str | None] | None:
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return "invalid_json_line", "This line is not parseable as valid JSON.", None
        if not isinstance(line, dict):
            return "invalid_json_line", "This line is not a JSON object.", None
        return self._envelope_fault(line) or self._model_fault(line["body"])

    def _envelope_fault(self, line: dict[str, Any]) -> tuple[str, str, str | None] | None:
        for name, kind in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
            if not isinstance(line.get(name), kind):
                return "missing_required_parameter", f"Missing required parameter: '{name}'.", name
        if line["custom_id"] in self._seen:
            return (
                "duplicate_custom_id",
                f"The custom_id '{line['custom_id']}' is used more than once.",
                "custom_id",
            )
        self._seen.add(line["custom_id"])
        if line["method"] != "POST":
            return "invalid_method", "The method must be POST.", "method"
        if line["url"] != self._batch.endpoint:
            return (
                "url_mismatch",
                f"The URL provided for this request does not match the batch endpoint {self._batch.endpoint}.",
                "url",
            )
        return None

    def _model_fault(self, body: dict[str, Any]) -> tuple[str, str, str | None] | None:
        model = body.get("model")
        if self._batch.endpoint == "/v1/embeddings":
            self._inputs += input_count(body)
        if not isinstance(model, str):
            return "missing_required_parameter", "Missing required parameter: 'body.model'.", "body.model"
        if self._model is None:
            self._model = model
            if not serves("openai", model):
                return (
                    "model_not_found",
                    f"The provided model '{model}' is not supported by the Batch API.",
                    "body.model",
                )
        if model != self._model:
            return (
                "model_mismatch",
                f"The model '{model}' differs from the batch's model '{self._model}'.",
                "body.model",
            )
        return None


def _error(code: str, message: str, *, line: int | None = None, param: str | None = None) -> BatchError:
    return {"code": code, "line": line, "message": message, "param": param}


def _line(batch: Batch, custom_id: str, status: int, body: dict[str, Any]) -> bytes:
    request_id = _request_id(batch, custom_id)
    response = {"status_code": status, "request_id": request_id.removeprefix("batch_req_"), "body": body}
    return orjson.dumps({"id": request_id, "custom_id": custom_id, "response": response, "error": None}, option=_PLAIN)


def _request_id(batch: Batch, custom_id: str) -> str:
    return "batch_req_" + blake2b(f"{batch.id}:{custom_id}".encode(), digest_size=12).hexdigest()

"""Hold what the three providers' routes share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from sqlite3 import IntegrityError
from typing import Any, TypeVar
from uuid import uuid4

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from nightbatch_local.emulator.accounts import authenticate, key_in
from nightbatch_local.emulator.billing import cost_text, rates
from nightbatch_local.emulator.errors import ApiError, Provider, error_body
from nightbatch_local.emulator.prompt import Answered
from nightbatch_local.emulator.settings import EmulatorSettings
from nightbatch_local.emulator.state import Batch, State, over_token_limit
from nightbatch_local.emulator.worker import CHARGE, Worker

_JSON_LIMIT = 20 << 20
_CLIENT_GONE = 499

T = TypeVar("T")


@dataclass(slots=True)
class Emulator:
    """The running emulator. Turnaround and spread can be changed while it runs."""

    settings: EmulatorSettings
    state: State
    worker: Worker
    turnaround: float
    spread: float

    def due_at(self, created_at: float, number: int) -> float:
        """Return when a batch ends: the same for the same seed and number of the batch."""
        offset = Random(f"{self.settings.seed}:{number}").uniform(-self.spread, self.spread)
        return created_at + max(0.0, self.turnaround + offset)

    def next_due_at(self, created_at: float) -> float:
        """Return when a batch that is created now ends."""
        return self.due_at(created_at, int(self.state.value("SELECT coalesce(max(seq), 0) + 1 FROM batch")))


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request."""

    request: Request
    emulator: Emulator
    account: str
    request_id: str

    @property
    def state(self) -> State:
        """Return the emulator's memory."""
        return self.emulator.state

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str | None:
        """Return a query parameter; None if it was not given."""
        return self.request.query_params.get(name)

    def number(self, name: str, default: int, lowest: int, highest: int) -> int:
        """Return a whole number from the query. Raises `ApiError` 400 outside its bounds."""
        given = self.query(name)
        if given is None:
            return default
        if not given.isdigit() or not lowest <= int(given) <= highest:
            raise ApiError(400, f"{name} must be between {lowest} and {highest}.", param=name)
        return int(given)

    def base_url(self) -> str:
        """Return scheme and host as the caller used them."""
        return f"{self.request.url.scheme}://{self.request.headers['host']}"

    async def json(self, limit: int = _JSON_LIMIT) -> dict[str, Any]:
        """Return the body as a JSON object. Raises `ApiError` 400 for any other, and 413 above ``limit`` bytes."""
        self.refuse_larger_than(limit)
        try:
            body = orjson.loads(await self.request.body())
        except orjson.JSONDecodeError:
            raise ApiError(400, "The request body is not valid JSON.") from None
        if not isinstance(body, dict):
            raise ApiError(400, "The request body is not a JSON object.")
        return body

    def refuse_larger_than(self, limit: int) -> None:
        """Raise `ApiError` 413 by the announced length, before anything is read."""
        if int(self.request.headers.get("content-length", 0)) > limit:
            raise ApiError(413, f"The request is larger than {limit} bytes.")

    async def save_body(self, path: Path, limit: int) -> None:
        """Append the body to a file, chunk by chunk. Raises `ApiError` 413 above `limit` bytes."""
        self.refuse_larger_than(limit)
        with path.open("ab") as out:
            async for chunk in self.request.stream():
                out.write(chunk)
                if out.tell() > limit:
                    raise ApiError(413, f"The request is larger than {limit} bytes.")

    def add_batch(self, batch: Batch) -> None:
        """Make the batch known and the worker look at it."""
        self.state.add_batch(batch)
        self.emulator.worker.wake()

    def refuse_over_token_limit(self, provider: Provider, model: str | None, tokens: int) -> None:
        """Raise `ApiError` 429 if the account's open batches would hold too many tokens with these."""
        over = over_token_limit(self.state, provider, self.account, model, tokens)
        if over is not None:
            raise ApiError(429, over)

    def charge(self, provider: Provider, answered: Answered) -> Response:
        """Bill a realtime answer and give it."""
        now, usage = self.state.now(), answered.usage
        cost = cost_text(rates(provider, answered.model, "realtime", now), usage)
        tokens = (usage.input_tokens, usage.cached_tokens, usage.output_tokens)
        units = orjson.dumps(usage.others()).decode()
        row = (provider, self.account, None, None, None, answered.model, *tokens, cost, now, "realtime", units)
        self.state.db.execute(CHARGE, row)
        self.emulator.worker.wake()
        return json_response(answered.body)


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route. `operation` is the name that fault rules and the log use."""

    operation: str
    method: str
    path: str
    handler: Handler


def provider_routes(provider: Provider, prefix: str, endpoints: Sequence[Endpoint]) -> list[Route]:
    """Return Starlette routes, named `provider.operation`; every `ApiError` is told in the provider's shape."""
    return [
        Route(
            prefix + one.path,
            partial(_serve, provider, one.handler),
            methods=[one.method],
            name=f"{provider}.{one.operation}",
        )
        for one in endpoints
    ]


async def _serve(provider: Provider, handler: Handler, request: Request) -> Response:
    request_id = f"req_{uuid4().hex[:24]}"
    emulator: Emulator = request.app.state.emulator
    try:
        account = _account(emulator.state, provider, request)
        response = await handler(Call(request, emulator, account, request_id))
    except ApiError as error:
        response = error_response(provider, error, request_id)
    except ClientDisconnect:
        response = Response(status_code=_CLIENT_GONE)  # nobody reads it
    except IntegrityError:
        response = error_response(provider, ApiError(409, "The name is already in use."), request_id)
    response.headers.setdefault("request-id" if provider == "anthropic" else "x-request-id", request_id)
    return response


def _account(state: State, provider: Provider, request: Request) -> str:
    upload = state.upload(request.query_params.get("upload_id", "")) if provider == "gemini" else None
    if upload is not None:  # an upload URL is a secret of its own, its requests carry no key
        return upload.account
    return authenticate(state, key_in(provider, request.headers, request.query_params))


def error_response(provider: Provider, error: ApiError, request_id: str) -> Response:
    """Return the error as the provider tells it."""
    return json_response(error_body(provider, error, request_id), error.status, dict(error.headers))


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, headers, media_type="application/json")


async def in_thread(function: Callable[[], T]) -> T:
    """Run something slow beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, function)

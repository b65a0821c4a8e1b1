"""Make faults on demand, around the providers' routes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers, QueryParams
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from nightbatch_local.emulator import rewrites
from nightbatch_local.emulator.accounts import account_of, key_in
from nightbatch_local.emulator.connection import Answer, Recorder, drop, read_all, replay
from nightbatch_local.emulator.errors import ApiError, Provider, error_body

Fault = Literal[
    "refuse",  # answered with `status`, not done
    "rate_limit",  # 429 with Retry-After, not done
    "reset",  # the connection is reset before it is done
    "lose_answer",  # done, then the connection is dropped
    "error_after",  # done, then 500
    "gateway_after",  # done, then a page of whoever stands in between, with `status`
    "delay",  # done after `delay_seconds`
    "delay_after",  # done, answered after `delay_seconds`
    "deliver_late",  # dropped at once, done `delay_seconds` later or when a test says so: held up in the network
    "truncate",  # half the body, with the length of the whole
    "corrupt",
    "duplicate_line",
    "missing_line",
    "unknown_line",
    "list_lag",  # batches younger than `delay_seconds` are not in the list
    "unknown_status",
    "blank_error_file",
]
_REWRITES: Mapping[str, Callable[[bytes], bytes]] = {
    name: getattr(rewrites, name)
    for name in (
        "corrupt",
        "duplicate_line",
        "missing_line",
        "unknown_line",
        "unknown_status",
        "blank_error_file",
    )
}
# what a rule may name; Anthropic's results are a download too
_OPERATIONS = {
    name: name
    for name in (
        *("file_upload", "file_list", "file_get", "file_delete", "file_download"),
        *("batch_create", "batch_list", "batch_get", "batch_cancel", "batch_delete", "realtime"),
    )
} | {"results": "file_download"}
_LOG_LENGTH = 50_000


@dataclass(slots=True)
class Rule:
    """When a fault happens: `times` None is for ever; `after_matches` requests pass before it acts; `account` None is anyone."""

    operation: str
    fault: Fault
    provider: Provider | None = None
    account: str | None = None
    times: int | None = 1
    after_matches: int = 0
    delay_seconds: float = 1.0
    retry_after: float = 1.0
    status: int = 503
    matches: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        if self.fault not in get_args(Fault):
            raise ValueError(f"No fault is named {self.fault!r}; there are {', '.join(get_args(Fault))}.")
        if self.operation not in _OPERATIONS:
            raise ValueError(f"No operation is named {self.operation!r}; there are {', '.join(_OPERATIONS)}.")

    def takes(self, provider: Provider, operation: str, account: str | None) -> bool:
        """Count a request, and say whether the rule acts on it."""
        if self.operation not in (operation, _OPERATIONS[operation]) or self.provider not in (None, provider):
            return False
        if self.account not in (None, account):
            return False
        self.matches += 1
        if self.matches <= self.after_matches or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


@dataclass(frozen=True, slots=True)
class Late:
    """A request that is held up in the network."""

    account: str | None
    may_arrive: asyncio.Event


@dataclass(frozen=True, slots=True)
class Seen:
    """A provider request as the log tells it: no key and no body. `status` None means no answer was given."""

    at: float
    method: str
    path: str
    provider: Provider
    operation: str
    account: str | None
    fault: str | None
    status: int | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request on its way to the app."""

    scope: Scope
    receive: Receive
    send: Recorder
    provider: Provider
    rule: Rule | None


class Faults:
    """The ASGI app around `app`, which lets requests through unless a rule has other plans for them."""

    def __init__(self, app: Starlette, now: Callable[[], float]) -> None:
        self._app = app
        self._now = now
        self._late: dict[asyncio.Task[None], Late] = {}
        self.rules: list[Rule] = []
        self.log: deque[Seen] = deque(maxlen=_LOG_LENGTH)

    def shown(self) -> list[dict[str, Any]]:
        """Return the rules and how often each has matched and acted."""
        return [asdict(rule) for rule in self.rules]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, with the fault that a rule has for it, and log it."""
        place = self._place(scope) if scope["type"] == "http" else None
        if place is None:
            await self._app(scope, receive, send)
            return
        provider, operation = place
        account = _account(provider, scope)
        rule = next((rule for rule in self.rules if rule.takes(provider, operation, account)), None)
        sender = Recorder(send)
        await self._act(Exchange(scope, receive, sender, provider, rule))
        fault = rule.fault if rule else None
        path = str(scope["path"])
        self.log.append(Seen(self._now(), scope["method"], path, provider, operation, account, fault, sender.status))

    def _place(self, scope: Scope) -> tuple[Provider, str] | None:
        for route in self._app.routes:
            if route.matches(scope)[0] is Match.FULL:
                provider, _, operation = getattr(route, "name", "").partition(".")
                return (provider, operation) if operation else None  # type: ignore[return-value]
        return None

    async def _act(self, exchange: Exchange) -> None:
        rule = exchange.rule
        if rule is None:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        elif rule.fault in ("refuse", "rate_limit"):
            await read_all(exchange.receive)  # else the client meets a closed socket before it reads the answer
            await _refuse(exchange, _refusal(rule))
        elif rule.fault == "reset":
            drop(exchange.send, reset=True)
        elif rule.fault == "deliver_late":
            await self._deliver_late(exchange, rule.delay_seconds)
        elif rule.fault == "delay":
            await asyncio.sleep(rule.delay_seconds)
            await self._app(exchange.scope, exchange.receive, exchange.send)
        else:
            await self._answer_otherwise(exchange, rule)

    async def _answer_otherwise(self, exchange: Exchange, rule: Rule) -> None:
        """Do the request, and spoil the answer."""
        answer = await self._done(exchange.scope, exchange.receive)
        if rule.fault == "lose_answer":
            drop(exchange.send, reset=False)
        elif rule.fault == "error_after":
            await _refuse(exchange, ApiError(500, "The server had an error while processing your request."))
        elif rule.fault == "gateway_after":
            await _page(exchange, rule.status)
        elif rule.fault == "delay_after":
            await asyncio.sleep(rule.delay_seconds)
            await answer.give(exchange.send)
        elif rule.fault == "truncate":
            await answer.give_half(exchange.send)
        else:
            answer.parts = [self._rewritten(rule, answer)]
            await answer.give(exchange.send)

    def _rewritten(self, rule: Rule, answer: Answer) -> bytes:
        if answer.status != 200:
            return answer.body
        if rule.fault == "list_lag":
            return rewrites.hide_younger(answer.body, rule.delay_seconds, self._now())
        return _REWRITES[rule.fault](answer.body)

    async def _done(self, scope: Scope, receive: Receive) -> Answer:
        answer = Answer()
        await self._app(scope, receive, answer.collect)
        return answer

    async def _deliver_late(self, exchange: Exchange, seconds: float) -> None:
        body = await read_all(exchange.receive)
        drop(exchange.send, reset=False)

        late = Late(_account(exchange.provider, exchange.scope), asyncio.Event())

        async def later() -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(late.may_arrive.wait(), seconds)
            await self._done(exchange.scope, replay(body))

        task = asyncio.create_task(later())
        self._late[task] = late
        task.add_done_callback(self._late.pop)

    async def let_the_late_arrive(self, account: str | None) -> int:
        """Do now what was to be delivered late, of one account or of all. Return how many requests that were."""
        late = {task: one for task, one in self._late.items() if account in (None, one.account)}
        for task, one in late.items():  # in the order in which they were sent
            one.may_arrive.set()
            await asyncio.wait([task])
        return len(late)


def _account(provider: Provider, scope: Scope) -> str | None:
    key = key_in(provider, Headers(scope=scope), QueryParams(scope["query_string"]))
    return account_of(key) if key else None


def _refusal(rule: Rule) -> ApiError:
    if rule.fault == "rate_limit":
        return ApiError(429, "Rate limit reached.", headers={"retry-after": f"{rule.retry_after:g}"})
    return ApiError(rule.status, f"The emulator was asked to answer with {rule.status}.")


async def _refuse(exchange: Exchange, error: ApiError) -> None:
    answer = Answer()
    answer.status = error.status
    answer.headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    answer.headers.append((b"content-type", b"application/json"))
    answer.parts = [orjson.dumps(error_body(exchange.provider, error))]
    await answer.give(exchange.send)


async def _page(exchange: Exchange, status: int) -> None:
    answer = Answer()
    answer.status, answer.headers = status, [(b"content-type", b"text/html")]
    answer.parts = [b"<html><body><h1>Upstream trouble</h1></body></html>"]
    await answer.give(exchange.send)

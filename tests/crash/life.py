"""One life of a process: it does nights until nothing is left to do, or dies at a checkpoint."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import httpx
import httpx2
import psycopg

from nightbatch.batches import loading, recovery, submission
from nightbatch.core.errors import NightbatchError, SubmissionInDoubt
from nightbatch.core.ledger import RunParams
from nightbatch.core.models import ProviderName
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.postgres.session import SessionCursor
from nightbatch.postgres.store import Store
from nightbatch.providers import build

DIED = 42
SETTINGS = Settings(settle_seconds=0.05, create_seconds=0.01)
_LOOKS = 200  # as often as a submit that is in doubt is tried again; another process may be settling it
_PATIENCE = 300.0  # seconds for a batch to end, on a machine that is busy with other things


def settle_for(seconds: float) -> None:
    """Set the settle wait of the lives to come."""
    global SETTINGS
    SETTINGS = replace(SETTINGS, settle_seconds=seconds)


_NAME = re.compile(rb"-- ([a-z_0-9]+):")

Reach = Callable[[str], None]


class _Watch:
    """The checkpoints that a life has passed, and the one where it ends."""

    def __init__(self, die_at: int | None) -> None:
        self.passed: list[str] = []
        self.requests = 0
        self.call = ""
        self._die_at, self._paused = die_at, False

    def reach(self, name: str) -> None:
        if self._paused:
            return
        if len(self.passed) == self._die_at:
            os._exit(DIED)
        self.passed.append(name)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Waiting changes nothing, and how often it looks is chance."""
        self._paused = True
        yield
        self._paused = False

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """What the requests on the wire belong to."""
        before, self.call = self.call, name
        yield
        self.call = before


@dataclass(frozen=True, slots=True)
class Place:
    """Where a life is led: a database, and an account at the emulator; its runs are called after ``nights``."""

    dsn: str
    base_url: str
    provider: ProviderName
    account: str
    nights: str = "night"


def lead(place: Place, *, die_at: int | None = None) -> tuple[list[str], int]:
    """Work until nothing is left to do; the checkpoints that were passed, and the HTTP requests, those of waits included.

    At checkpoint ``die_at`` (0 is the first) the process ends as by a power cut: no handler, no flush, no rollback.
    Raises what an Airflow task would end with, for the next life to go on.
    """
    watch = _Watch(die_at)
    _WATCHED[:] = [watch]
    with psycopg.connect(
        place.dsn, autocommit=True, application_name="life", client_encoding="utf8", prepare_threshold=None
    ) as connection:
        _watch_statements(connection, watch.reach)
        store = _Store(connection, watch.reach)
        provider = _Provider(build(place.provider, api_key=f"emu-{place.account}", base_url=place.base_url), watch)
        for night in range(5):
            if _night(store, provider, f"{place.nights}-{night}"):
                break
    return watch.passed, watch.requests


def _night(store: _Store, provider: Any, run_id: str) -> bool:
    """Plan, submit and load as the Dag does; True when nothing is queued or open any more."""
    types = job_types()
    batches = submission.plan_run(store, types, SETTINGS, run_id=run_id, queued_before=None, params=RunParams())
    for batch in batches:
        with suppress(SubmissionInDoubt):
            sent = _submit(store, provider, batch.id)
            if sent is not None:
                provider_batch_id = store.batch(sent).provider_batch_id or ""
                with provider.watch.paused():
                    _wait(provider, provider_batch_id)
                loading.load_batch(store, provider, types, sent)
    recovery.settle_run(store, run_id)
    recovery.recover(store, lambda _: provider, types, SETTINGS)
    return not batches and not store.open_attempts()


def _submit(store: _Store, provider: Any, batch_id: int) -> int | None:
    for _ in range(_LOOKS):
        try:
            return submission.submit_batch(store, provider, job_types(), SETTINGS, batch_id)
        except SubmissionInDoubt as doubt:
            if doubt.look_again_in is None:
                raise
            time.sleep(min(doubt.look_again_in, SETTINGS.settle_seconds))
    raise NightbatchError("still in doubt")


def _wait(provider: Any, provider_batch_id: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while asyncio.run(provider.get_state(provider_batch_id)).phase == "running":
        if time.monotonic() > deadline:
            raise NightbatchError("the batch does not end")
        time.sleep(0.02)


def _watch_statements(connection: psycopg.Connection[Any], reach: Reach) -> None:
    """Every statement of this connection passes two checkpoints, whoever sends it."""

    class Cursor(SessionCursor[Any]):
        def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            with _around(reach, f"sql {_name(query)}"):
                return super().execute(query, *args, **kwargs)

        @contextmanager
        def copy(self, statement: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
            with _around(reach, f"sql {_name(statement)}"), super().copy(statement, *args, **kwargs) as copy:
                yield copy
                reach(f"sql {_name(statement)} written")

        def stream(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            with _around(reach, f"sql {_name(query)}"):
                yield from super().stream(query, *args, **kwargs)

    connection.cursor_factory = Cursor


def _name(query: Any) -> str:
    found = _NAME.match(query) if isinstance(query, bytes) else None
    if found is None:
        raise AssertionError(f"a statement without a name: {query!r}")
    return found[1].decode()


@contextmanager
def _around(reach: Reach, name: str) -> Iterator[None]:
    reach(f"before {name}")
    yield
    reach(f"after {name}")


class _Store(Store):
    """A store whose commits are checkpoints too."""

    def __init__(self, connection: psycopg.Connection[Any], reach: Reach) -> None:
        super().__init__(connection)
        self._reach = reach

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
            self._reach("before commit")
        self._reach("after commit")


class _Provider:
    """A provider whose requests are named after the call that they belong to, and whose result lines are checkpoints."""

    def __init__(self, provider: Any, watch: _Watch) -> None:
        self._provider, self.watch = provider, watch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._provider, name)
        if name == "iter_results":
            return self._iter_results
        if name == "get_state":
            return self._get_state
        return self._named(name, found) if callable(found) else found

    def _named(self, name: str, found: Any) -> Any:
        def call(*args: Any) -> Any:
            with self.watch.calling(name):
                return found(*args)

        return call

    async def _get_state(self, provider_batch_id: str) -> Any:
        with self.watch.calling("get_state"):
            return await self._provider.get_state(provider_batch_id)

    def _iter_results(self, *args: Any) -> Iterator[Any]:
        with self.watch.calling("iter_results"):
            for line in self._provider.iter_results(*args):
                yield line
                self.watch.reach("result line read")


_WATCHED: list[_Watch] = []


def watch_requests() -> None:
    """From now on every HTTP request passes two checkpoints, whichever SDK sends it: on the wire, below its retries."""

    def around(handle: Any) -> Any:
        def handled(transport: Any, request: Any) -> Any:
            with _request(request):
                return handle(transport, request)

        return handled

    def around_async(handle: Any) -> Any:
        async def handled(transport: Any, request: Any) -> Any:
            with _request(request):
                return await handle(transport, request)

        return handled

    _WATCHED.clear()
    for library in (httpx, httpx2):
        for owner, name, wrap in (
            (library.HTTPTransport, "handle_request", around),
            (library.AsyncHTTPTransport, "handle_async_request", around_async),
        ):
            setattr(owner, name, wrap(getattr(owner, name)))


@contextmanager
def _request(request: Any) -> Iterator[None]:
    if not _WATCHED:  # the stage's own
        yield
        return
    _WATCHED[0].requests += 1
    with _around(_WATCHED[0].reach, f"http {_WATCHED[0].call} {request.method}"):
        yield

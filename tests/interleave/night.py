"""Where a story is played: a database and an account at the emulator; what processes do there, and what the bill says of it."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import httpx2
import psycopg

from nightbatch.core import profiles
from nightbatch.core.models import ProviderName
from nightbatch.core.provider import BatchProvider
from nightbatch.postgres.store import Store
from nightbatch.providers import build
from nightbatch_local.emulator.process import EmulatorProcess
from tests.crash import life
from tests.interleave.releases import Release
from tests.interleave.scheduler import Actor

_CUSTOM_ID = re.compile(r"j(\d+)_a(\d+)(?!\d)")
_HERE = threading.local()
"""Which process the code of this thread belongs to."""


class Watch(life._Watch):
    """An actor's: its checkpoints, what its requests are for, and which realtime answers it asked for."""

    def __init__(self, night: Night, actor: Actor) -> None:
        super().__init__(None)
        self.night, self.actor = night, actor
        self.asked = ""

    def reach(self, name: str) -> None:
        if self.asked:
            self.night.read_realtime_bill(self.asked)
        self.actor.reach(name)


class _Provider(life._Provider):
    """It knows which job a realtime call is for, which the provider's bill does not say."""

    watch: Watch

    def _named(self, name: str, found: Any) -> Any:
        call = super()._named(name, found)
        if name != "ask":
            return call

        def ask(custom_id: str, *args: Any) -> Any:
            self.watch.asked = custom_id
            try:
                answer = call(custom_id, *args)
                self.watch.night.answered[custom_id] = self.watch.actor
                return answer
            finally:
                self.watch.night.read_realtime_bill(custom_id)
                self.watch.asked = ""

        return ask


class _Store(life._Store):
    """It knows when a plan is over, which may end in a rollback."""

    def __init__(self, connection: psycopg.Connection[Any], watch: Watch) -> None:
        super().__init__(connection, watch.reach)
        self._actor = watch.actor

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            with super().transaction():
                yield
        finally:
            self._actor.plans = False


class _Switchboard:
    """The watch of whoever's thread it is; the tests' own requests pass unseen."""

    requests = 0

    @property
    def call(self) -> str:
        return _HERE.watch.call if hasattr(_HERE, "watch") else ""

    def reach(self, name: str) -> None:
        if hasattr(_HERE, "watch"):
            _HERE.watch.reach(name)


def watch_everything() -> None:
    """From now on every process of this one has checkpoints; nobody sleeps, since no time passes between them."""
    life.watch_requests()
    life._WATCHED[:] = [_Switchboard()]  # type: ignore[list-item]
    for library in (httpx, httpx2):
        library.HTTPTransport.handle_request = _or_held_up(library, library.HTTPTransport.handle_request)
    found, sleep = profiles._found, time.sleep

    def as_this_release_knows_them() -> Any:
        release: Release | None = getattr(_HERE, "release", None)
        facts, broken = found()
        if release is None:
            return facts, broken
        return {name: replace(one, limits=release.limits(one.limits)) for name, one in facts.items()}, broken

    profiles._found = as_this_release_knows_them  # type: ignore[assignment]
    time.sleep = lambda seconds: None if hasattr(_HERE, "watch") else sleep(seconds)


def _or_held_up(library: Any, handle: Any) -> Any:
    """A create may be held up in the network: its sender sees a broken connection, and it arrives later."""

    def handled(transport: Any, request: Any) -> Any:
        watch: Watch | None = getattr(_HERE, "watch", None)
        if watch is None or watch.call != "submit" or not watch.night.holds_up_the_next_create:
            return handle(transport, request)
        watch.night.holds_up_the_next_create = False
        watch.reach("before http submit POST")
        watch.night.hold_up(request.method, str(request.url), dict(request.headers), request.read())
        raise library.ReadError("held up in the network", request=request)

    return handled


@dataclass
class Night:
    """``paid`` are the provider's realtime charges by ``custom_id``, ``answered`` says whom an answer of theirs reached.

    ``through`` leads to the same database through a pooler; ``installation`` is the ledger's name in ``custom_id``s where the
    account is another ledger's too.
    """

    dsn: str
    emulator: EmulatorProcess
    http: httpx.Client
    state: sqlite3.Connection
    admin: psycopg.Connection[Any]
    account: str
    through: str | None = None
    installation: str = ""
    paid: dict[str, int] = field(default_factory=dict)
    answered: dict[str, Actor] = field(default_factory=dict)
    under_way: list[Actor] = field(default_factory=list)
    late: list[Actor] = field(default_factory=list)
    on_late: Callable[[Actor], None] | None = None
    holds_up_the_next_create: bool = False
    trouble: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    clients: dict[ProviderName, BatchProvider] = field(default_factory=dict)
    alone: psycopg.Connection[Any] = None  # type: ignore[assignment]

    # -- processes

    @contextmanager
    def process(
        self, actor: Actor, release: Release
    ) -> Iterator[tuple[Store, Callable[[ProviderName], BatchProvider]]]:
        """A process of a release, with a connection of its own; the clients are all processes', as it takes long to make one."""
        watch = Watch(self, actor)
        _HERE.watch, _HERE.release = watch, release

        def provider_for(name: ProviderName) -> Any:
            if name not in self.clients:
                url = getattr(self.emulator, f"{name}_url")
                self.clients[name] = build(name, api_key=f"emu-{self.account}", base_url=url)
            return _Provider(self.clients[name], watch)

        try:
            named = f"actor {uuid.uuid4().hex[:12]}"
            with psycopg.connect(
                self.through or self.dsn,
                autocommit=True,
                client_encoding="utf8",
                application_name=named,
                prepare_threshold=None,
            ) as connection:
                actor.connection = named
                life._watch_statements(connection, watch.reach)
                yield _Store(connection, watch), provider_for
        finally:
            del _HERE.watch, _HERE.release

    def take(self, actor: Actor) -> None:
        """Somebody alone, to the end."""
        actor.run()
        self.story.append(f"{actor.name}: {actor.ended}")
        if actor.finding:
            self.trouble.append(actor.finding)
        self.settle_down()

    def hold_up(self, method: str, url: str, headers: dict[str, str], body: bytes) -> None:
        """A request that arrives as somebody else's move."""

        def arrive(actor: Actor) -> None:
            with suppress(httpx.TransportError):  # nobody waits for its answer
                self.http.request(method, url, headers=headers, content=body)

        actor = Actor("the create that was held up", arrive)
        self.late.append(actor)
        if self.on_late:
            self.on_late(actor)

    # -- the ledger

    def rows(self, query: str, *values: Any) -> list[Any]:
        """The rows of a query, bare where they have one column."""
        found = self.alone.execute(query, values).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def attempts(self, *states: str) -> list[int]:
        """Ids, the oldest first; of all states if none is named."""
        return self.rows(
            "SELECT id FROM nightbatch.batch WHERE %s = '{}' OR state = ANY (%s) ORDER BY id", [*states], [*states]
        )

    def insert(self, provider: str, headline: str, *, urgent: bool) -> int:
        """A job, by plain SQL; an urgent one cannot wait for a batch."""
        (job,) = self.rows(
            "INSERT INTO nightbatch.job (job_type, provider, input, fallback, deadline)"
            " VALUES ('creative_scoring', %s, %s, %s, CASE WHEN %s THEN now() + interval '1 hour' END) RETURNING id",
            provider, json.dumps({"headline": headline}), urgent, urgent,
        )  # fmt: skip
        return int(job)

    # -- the provider

    def emulated(self, query: str, *values: Any) -> list[Any]:
        """What the provider knows; no fault changes that."""
        return self.state.execute(query, values).fetchall()

    def settle_down(self, _: Actor | None = None) -> None:
        """Until the provider has looked at what it was sent, so that nothing hangs on how quick it is."""
        self._until_there_is_none("account = ? AND checked_at IS NULL AND outcome IS NULL", self.account)

    def running(self) -> list[str]:
        """The provider's open batches, the oldest first."""
        query = "SELECT id FROM batch WHERE account = ? AND outcome IS NULL ORDER BY seq"
        return [row[0] for row in self.emulated(query, self.account)]

    def end(self, batch_id: str, outcome: str) -> None:
        """The provider is done with it."""
        self.control("POST", f"batches/{batch_id}/end", {"as": outcome})
        self._until_there_is_none("id = ? AND outcome IS NULL", batch_id)

    def _until_there_is_none(self, where: str, value: str) -> None:
        while self.emulated(f"SELECT 1 FROM batch WHERE {where}", value):
            time.sleep(0.001)

    def control(self, method: str, path: str, body: Any) -> None:
        """Something that only a test can ask of a provider."""
        self.http.request(method, f"{self.emulator.url}/control/{path}", json=body).raise_for_status()

    def console(self, batch_id: int) -> str | None:
        """The provider's id of the batch that holds this attempt's requests, as a person finds it in its console.

        Requests of another ledger bear another name.
        """
        for found, path in self.emulated(
            "SELECT id, input_path FROM batch WHERE account = ? ORDER BY seq", self.account
        ):
            with suppress(FileNotFoundError):  # done, and so on the bill
                if self._names(Path(path).read_text(), batch_id):
                    return str(found)
        for found, name in self.emulated("SELECT batch_id, custom_id FROM billing WHERE account = ?", self.account):
            if name and self._names(name, batch_id):
                return str(found)
        return None

    # -- the bill

    def read_realtime_bill(self, custom_id: str) -> None:
        """The provider's newest realtime charges are this request's: only one process moves at a time."""
        ((charged,),) = self.emulated(
            "SELECT count(*) FROM billing WHERE account = ? AND batch_id IS NULL", self.account
        )
        if new := charged - sum(self.paid.values()):
            self.paid[custom_id] = self.paid.get(custom_id, 0) + new

    def bill(self) -> list[tuple[str, Decimal]]:
        """``custom_id`` and USD of every charge."""
        asked = iter([name for name, count in self.paid.items() for _ in range(count)])
        charges = self.emulated(
            "SELECT custom_id, batch_id, cost_usd FROM billing WHERE account = ? ORDER BY seq", self.account
        )
        found = [(name if batch else next(asked), Decimal(usd)) for name, batch, usd in charges]
        return [(name, usd) for name, usd in found if f"_{self.installation}" in name]

    def _names(self, text: str, batch_id: int) -> bool:
        return any(
            int(match[2]) == batch_id
            and (not self.installation or text.startswith(f"_{self.installation}", match.end()))
            for match in _CUSTOM_ID.finditer(text)
        )


def job_and_attempt(custom_id: str) -> tuple[int, int]:
    """What a ``custom_id`` of ours names."""
    match = _CUSTOM_ID.match(custom_id)
    assert match, custom_id
    return int(match[1]), int(match[2])

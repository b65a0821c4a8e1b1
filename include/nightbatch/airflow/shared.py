"""Share one client per provider, one list that answers for many, and one read of the ledger among a triggerer's waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from nightbatch.airflow.hooks import provider_for, store
from nightbatch.core.errors import AccountRefused, Transient
from nightbatch.core.ledger import Batch
from nightbatch.core.models import ProviderName, ProviderState
from nightbatch.core.polling import list_pages
from nightbatch.core.provider import BatchProvider

log = logging.getLogger("nightbatch")

LOOKS_AT_ONCE = 20
"""Per provider. A triggerer that restarts looks at all its batches at once; the provider need not notice."""

ANSWER_WITHIN = 60.0
"""Seconds for one look, the SDK's own retries included."""

LIST_WITHIN = 180.0
"""Seconds for all pages of a list."""

READ_AFTER = 0.02
"""Seconds that a read of the ledger waits for others: a triggerer that starts has a thousand at once."""

_EARLIER = timedelta(hours=1)  # the provider's clock, and how long a create may have taken


@dataclass(eq=False)
class _Wait:
    """One batch whose state somebody waits for."""

    provider_batch_id: str
    sent_at: datetime
    state: asyncio.Future[ProviderState] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Account:
    """One provider's client in one event loop, made when first needed, and all that wait for batches of it."""

    def __init__(self, name: ProviderName) -> None:
        self.name = name
        self._making: asyncio.Task[BatchProvider] | None = None
        self._turns = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._list_turn = asyncio.Lock()
        self._waits: set[_Wait] = set()
        self._due: list[_Wait] = []
        self._work: set[asyncio.Task[None]] = set()

    async def state(
        self,
        provider_batch_id: str,
        sent_at: datetime,
        *,
        after: float = 0.0,
        company: float = 0.0,
        alone: bool = False,
    ) -> ProviderState:
        """Return where a batch stands in ``after`` seconds; or before, if a list shows it that was read for others.

        ``company``: for how many more seconds a look may be put off, to be made together with others; ``alone``: never.
        Raises as `BatchProvider.get_state`, and `ConfigurationError` without a connection.
        """
        wait = _Wait(provider_batch_id, sent_at)
        if not alone:
            self._waits.add(wait)
        try:
            await asyncio.wait([wait.state], timeout=after)
            if alone:
                self._start(self._look(wait))
            elif not wait.state.done():
                self._is_due(wait, company)
            return await wait.state
        finally:
            self._waits.discard(wait)

    def _is_due(self, wait: _Wait, company: float) -> None:
        self._due.append(wait)
        if len(self._due) == 1:
            alone = not list_pages(len(self._waits), len(self._waits))
            self._start(self._look_at_the_due(0.0 if alone else company))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)  # the loop itself keeps tasks by weak references only
        task.add_done_callback(self._work.discard)

    async def _look_at_the_due(self, company: float) -> None:
        await asyncio.sleep(company)
        due, self._due = self._due, []
        async with self._list_turn:
            left = [wait for wait in due if not wait.state.done()]
            if pages := list_pages(len(left), len(self._waits)):
                await self._read_list(pages)
        for wait in due:
            if not wait.state.done():
                self._start(self._look(wait))

    async def _read_list(self, pages: int) -> None:
        """Read a list that answers all that wait, due or not.

        A list that cannot be read, as with a key that may not list, says nothing.
        """
        ids = {wait.provider_batch_id for wait in self._waits}
        since = min(wait.sent_at for wait in self._waits) - _EARLIER
        try:
            provider = await self._provider()
            async with asyncio.timeout(LIST_WITHIN):
                shown = await provider.list_states(ids, since=since, pages=pages)
        except Exception as error:  # noqa: BLE001 — each look then tells for itself
            log.info("The list of %s's batches could not be read: %s", self.name, str(error) or type(error).__name__)
            return
        for wait in self._waits:
            if wait.provider_batch_id in shown and not wait.state.done():
                wait.state.set_result(replace(shown[wait.provider_batch_id], listed=True))

    async def _look(self, wait: _Wait) -> None:
        try:
            async with self._turns:
                state = await self._state(wait.provider_batch_id)
        except Exception as error:  # noqa: BLE001 — it is raised where it is waited for
            if not wait.state.done():
                wait.state.set_exception(error)
        else:
            if not wait.state.done():
                wait.state.set_result(state)

    async def _state(self, provider_batch_id: str) -> ProviderState:
        provider = await self._provider()
        try:
            return await _answer(provider, provider_batch_id)
        except AccountRefused:
            # The client may be older than the key: read the connection once more before believing it.
            return await _answer(await self._provider(instead_of=provider), provider_batch_id)

    async def _provider(self, *, instead_of: BatchProvider | None = None) -> BatchProvider:
        making = self._making
        if making is None or (making.done() and (making.exception() or making.result() is instead_of)):
            # In a thread: reading a connection may ask a secrets backend.
            making = self._making = asyncio.create_task(asyncio.to_thread(provider_for, self.name))
        # Shielded: the wait that happened to come first may be cancelled, the others need the client.
        return await asyncio.shield(making)


async def _answer(provider: BatchProvider, provider_batch_id: str) -> ProviderState:
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            return await provider.get_state(provider_batch_id)
    except TimeoutError:
        raise Transient(f"{provider.name} did not answer within {ANSWER_WITHIN:g} seconds") from None


class Ledger:
    """Reads batches for all who ask within a moment, over one connection."""

    def __init__(self) -> None:
        self._reading: asyncio.Task[dict[int, Batch]] | None = None
        self._asked: set[int] = set()

    async def batch(self, batch_id: int) -> Batch:
        """Return a batch as `Store.batch` does, also in what it raises."""
        self._asked.add(batch_id)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        found = await asyncio.shield(self._reading)
        if batch_id not in found:
            raise LookupError(f"There is no batch {batch_id} in the ledger.")
        return found[batch_id]

    async def _read(self) -> dict[int, Batch]:
        await asyncio.sleep(READ_AFTER)
        asked, self._asked, self._reading = self._asked, set(), None
        return await asyncio.to_thread(read_batches, asked)


def read_batches(ids: set[int]) -> dict[int, Batch]:
    """Read those of the batches that are in the ledger."""
    with store() as ledger:
        return {batch.id: batch for batch in ledger.batches(ids)}


class Shared:
    """What the waits of one event loop share; an async client cannot be used by another (``dag.test`` has one per trigger)."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._accounts: dict[ProviderName, Account] = {}

    def account(self, name: ProviderName) -> Account:
        """Return the account of a provider, made when it is first asked for."""
        if name not in self._accounts:
            self._accounts[name] = Account(name)
        return self._accounts[name]


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Shared] = WeakKeyDictionary()


def shared() -> Shared:
    """Return the state shared by all waits of the running event loop."""
    return _of_loop.setdefault(asyncio.get_running_loop(), Shared())

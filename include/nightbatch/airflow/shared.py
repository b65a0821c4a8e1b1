"""One client per provider for all the waits of a triggerer, however many batches it watches."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from nightbatch.airflow.hooks import provider_for
from nightbatch.errors import AccountRefused, Transient
from nightbatch.models import ProviderName, ProviderState
from nightbatch.provider import BatchProvider

LOOKS_AT_ONCE = 20
"""Per provider. A triggerer that restarts looks at all its batches at once; the provider need not notice."""

ANSWER_WITHIN = 60.0
"""Seconds for one look, the SDK's own retries included."""


class Accounts:
    """The providers' clients of one event loop, made when first needed."""

    def __init__(self) -> None:
        self._making: dict[ProviderName, asyncio.Task[BatchProvider]] = {}
        self._turns: dict[ProviderName, asyncio.Semaphore] = {}

    async def state(self, name: ProviderName, provider_batch_id: str) -> ProviderState:
        """Where a batch stands. Raises as `BatchProvider.get_state`, and `ConfigurationError` without a connection."""
        async with self._turns.setdefault(name, asyncio.Semaphore(LOOKS_AT_ONCE)):
            provider = await self._provider(name)
            try:
                return await _look(provider, provider_batch_id)
            except AccountRefused:
                # The client may be older than the key: read the connection once more before believing it.
                return await _look(await self._provider(name, instead_of=provider), provider_batch_id)

    async def _provider(self, name: ProviderName, *, instead_of: BatchProvider | None = None) -> BatchProvider:
        making = self._making.get(name)
        if making is None or (making.done() and (making.exception() or making.result() is instead_of)):
            # In a thread: reading a connection may ask a secrets backend.
            making = self._making[name] = asyncio.create_task(asyncio.to_thread(provider_for, name))
        # Shielded: the wait that happened to come first may be cancelled, the others need the client.
        return await asyncio.shield(making)


async def _look(provider: BatchProvider, provider_batch_id: str) -> ProviderState:
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            return await provider.get_state(provider_batch_id)
    except TimeoutError:
        raise Transient(f"{provider.name} did not answer within {ANSWER_WITHIN:g} seconds") from None


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Accounts] = WeakKeyDictionary()


def accounts() -> Accounts:
    """The clients of the running loop; an async client cannot be used by another (``dag.test`` has one per trigger)."""
    return _of_loop.setdefault(asyncio.get_running_loop(), Accounts())

"""What tests of faults have in common."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from nightbatch.batches import recovery
from nightbatch.core.provider import BatchProvider
from nightbatch.job_types import job_types
from tests.use_cases.conftest import World


def planned(world: World, provider: str, count: int = 3, **columns: Any) -> int:
    world.insert(provider, count, **columns)
    (batch,) = world.plan()
    return batch.id


def sent(world: World, provider: str, count: int = 3, **columns: Any) -> int:
    batch_id = planned(world, provider, count, **columns)
    assert world.submit_until_certain(batch_id) == batch_id
    return batch_id


def at_provider(world: World, batch_id: int) -> str:
    found = world.store.batch(batch_id).provider_batch_id
    assert found is not None
    return found


def phase(world: World, batch_id: int, provider: BatchProvider | None = None) -> str:
    provider = provider or world.provider(world.store.batch(batch_id).provider)
    return asyncio.run(provider.get_state(at_provider(world, batch_id))).phase


def wait_for_end(world: World, batch_id: int, provider: BatchProvider | None = None) -> None:
    deadline = time.monotonic() + 30
    while phase(world, batch_id, provider) == "running":
        assert time.monotonic() < deadline, "the batch does not end"
        time.sleep(0.05)


def end_unfinished(world: World, batch_id: int) -> None:
    """Send a batch and have it end before any of its requests was done: all of its jobs are queued again."""
    world.emulator.control("POST", "turnaround", {"seconds": 30})
    try:
        assert world.submit_until_certain(batch_id) == batch_id
        world.emulator.control(
            "POST", f"batches/{at_provider(world, batch_id)}/end", {"as": "cancelled", "finished": 0}
        )
    finally:
        world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    world.load(batch_id)


def until_all_succeed(world: World) -> None:
    """Recover every hour, so to speak."""
    deadline = time.monotonic() + 30
    while set(world.states().values()) != {"succeeded"}:
        told = recover(world)
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def alerts(world: World) -> list[str]:
    return sorted(alert.kind for alert in world.store.open_alerts())


def recover(world: World) -> list[str]:
    return recovery.recover(world.store, world.provider, job_types(), world.settings)

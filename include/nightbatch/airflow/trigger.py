"""Wait for one batch, thin on purpose: this looks, sleeps and tells; `nightbatch.core.polling` decides."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from nightbatch.airflow.shared import shared
from nightbatch.core.errors import NightbatchError
from nightbatch.core.ledger import Batch
from nightbatch.core.models import ProviderState
from nightbatch.core.polling import Done, GiveUp, KeepWaiting, Pace, Watch, next_step
from nightbatch.core.settings import Settings


class BatchTrigger(BaseTrigger):
    """Wait until a provider has ended a batch.

    ``batch_id`` is the ledger's id, ``deadline`` seconds since the epoch: nothing else is stored in Airflow's database.
    It has neither an ``on_kill`` nor a ``cleanup``: the batch is paid for, so it lives on whatever happens to its wait.
    """

    def __init__(self, batch_id: int, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch_id = batch_id
        self.deadline = deadline
        self._batch: Batch | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments, from which any triggerer can take the wait over."""
        return "nightbatch.airflow.trigger.BatchTrigger", {
            "batch_id": self.batch_id,
            "deadline": self.deadline,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: ``{"batch_id", "outcome": "ended" | "gave_up", "says"}``."""
        settings = Settings.from_env()
        pace = Pace(first=settings.poll_seconds, longest=settings.poll_max_seconds)
        watch = Watch(datetime.fromtimestamp(self.deadline, UTC))
        pause, alone = 0.0, False
        while True:
            seen = await self._look(pause, pace, alone=alone)
            decision = next_step(seen, watch, datetime.now(UTC), pace, random.random())
            match decision:
                case KeepWaiting():
                    if decision.warning:
                        self.log.warning("Batch %s: %s", self.batch_id, decision.warning)
                    watch, pause, alone = decision.watch, decision.seconds, decision.alone
                case Done():
                    yield self._event("ended", decision.status)
                    return
                case GiveUp():
                    yield self._event("gave_up", decision.reason)
                    return

    async def _look(self, pause: float, pace: Pace, *, alone: bool) -> ProviderState | NightbatchError:
        """Look after the pause, unless another's look brings the answer before."""
        try:
            if self._batch is None:
                await asyncio.sleep(pause)  # of a ledger that could not be read
                self._batch, pause = await shared().ledger.batch(self.batch_id), 0.0
            batch = self._batch
            if batch.provider_batch_id is None:
                return NightbatchError(f"the ledger says {batch.state!r}: no provider has it.")
            sent_at = batch.intent_at or batch.planned_at
            account = shared().account(batch.provider)
            return await account.state(batch.provider_batch_id, sent_at, after=pause, company=pace.company, alone=alone)
        except NightbatchError as error:
            return error

    def _event(self, outcome: str, says: str) -> TriggerEvent:
        return TriggerEvent({"batch_id": self.batch_id, "outcome": outcome, "says": says})  # type: ignore[no-untyped-call]

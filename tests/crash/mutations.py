"""The protocol with one of its parts taken out: the proof has to turn red for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import openai

from nightbatch.core.ledger import Batch
from nightbatch.postgres.queries import queries
from nightbatch.postgres.store import Store
from nightbatch.providers.openai import OpenAIBatches
from tests.crash import life


def without_the_intent() -> None:
    """Nothing is written down before the create is sent."""
    record_submission = Store.record_submission

    def no_intent(_: Store, batch: Batch) -> Batch:
        return replace(batch, state="submitting", epoch=batch.epoch + 1, intent_at=datetime.now(UTC))

    def record_both(
        self: Store, batch_id: int, provider_batch_id: str, created_at: datetime | None = None
    ) -> Batch | None:
        self.connection.execute(
            b"-- late_intent:\nUPDATE nightbatch.batch SET state = 'submitting', intent_at = now() WHERE id = %s",
            (batch_id,),
        )
        return record_submission(self, batch_id, provider_batch_id, created_at)

    _set(Store, "record_intent", no_intent)
    _set(Store, "record_submission", record_both)


def without_the_fence() -> None:
    """The input stays where it is while its absence from the list is waited for."""
    _set(OpenAIBatches, "fence", lambda *_: True)


def without_the_settle_wait() -> None:
    """One look is enough."""
    life.settle_for(1e-9)
    vars(life)["settle_for"] = lambda _: None


def with_the_sdks_retries() -> None:
    """The SDK sends a create again by itself."""
    with_options: Any = openai.OpenAI.with_options  # type: ignore[misc]  # the class's own, not an instance's

    def keep_retries(self: openai.OpenAI, **options: Any) -> openai.OpenAI:
        client: openai.OpenAI = with_options(self, **(options | {"max_retries": 2}))
        return client

    _set(openai.OpenAI, "with_options", keep_retries)


def without_the_epoch() -> None:
    """Whoever comes may send."""
    _edit("store", "record_intent", b" AND state = 'uploaded' AND epoch = %(epoch)s", b"")
    _edit(
        "store",
        "record_upload",
        b" AND state = %(state)s AND state IN ('planned', 'uploaded') AND epoch = %(epoch)s",
        b"",
    )
    _edit("store", "record_submission", b" AND provider_batch_id IS NULL", b"")


def without_the_loads_key() -> None:
    """A load does not look whether it was done before, and nothing in the schema stops it."""
    lock_batch = Store.lock_batch

    def unlocked(self: Store, batch_id: int) -> Batch:
        for table in ("nightbatch.result", "nightbatch_report.batch_rollup"):
            name = table.partition(".")[2]
            self.connection.execute(f"-- unlock:\nALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}_pkey".encode())
        found = lock_batch(self, batch_id)
        return replace(found, state="submitted") if found.state == "loaded" else found

    _set(Store, "lock_batch", unlocked)
    _edit("load", "date_submission", b" AND state = 'submitted'", b"")
    # The first load deletes the provider's files, which would stop the second one by chance.
    _set(OpenAIBatches, "delete_files", lambda *_: None)


def _set(owner: type, name: str, value: Any) -> None:
    setattr(owner, name, value)


def _edit(file: str, name: str, old: bytes, new: bytes) -> None:
    assert old in queries(file)[name], f"{name} no longer holds what the mutation takes out"
    queries(file)[name] = queries(file)[name].replace(old, new)


MUTATIONS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        without_the_intent,
        without_the_fence,
        without_the_settle_wait,
        with_the_sdks_retries,
        without_the_epoch,
        without_the_loads_key,
    )
}

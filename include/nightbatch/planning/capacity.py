"""Keep a big night within an account's queue: it goes in waves instead of being refused.

https://platform.openai.com/docs/guides/rate-limits: batches are limited by the input tokens that are enqueued per model.
Gemini has the same, Anthropic a limit for all models of a workspace together.
"""

from __future__ import annotations

import re

from nightbatch.core.errors import Throttled
from nightbatch.core.ledger import Batch
from nightbatch.postgres import plans
from nightbatch.postgres.store import Store

_FULL = re.compile(r"enqueued.{0,10}token|token.?limit.?exceeded|batch.{0,20}queue", re.IGNORECASE)
_NAMED = re.compile(r"limit\D{0,40}?(\d[\d,._]*\d)\s*(?:enqueued|tokens)", re.IGNORECASE)


def is_full(message: str) -> bool:
    """Say whether a provider's refusal speaks of its queue, not of the rate of calls."""
    return _FULL.search(message) is not None


def require_room(store: Store, batch: Batch) -> None:
    """Raise `Throttled` while the account's other batches leave no room for this one; nothing was sent then.

    An attempt that would fill the whole queue by itself goes when the queue is empty: the provider has the last word.
    """
    limit, held, needed = plans.room(store, batch)
    if limit is not None and held and held + needed > limit:
        plans.lack_room(store, batch.id)
        raise Throttled(
            f"Batch {batch.id} waits: about {held:,} of {limit:,} input tokens are in {batch.provider}'s queue, and it has"
            f" about {needed:,}.",
            retry_after=0,
        )


def learn(store: Store, batch: Batch, message: str) -> bool:
    """Learn a limit from a refusal: what was in the queue, with this attempt, was too much. Return False for other refusals."""
    if not is_full(message):
        return False
    _, held, needed = plans.room(store, batch)
    # Alone in the queue and still too large: half of it, until it fits.
    least = held + needed - 1 if held else needed // 2
    named = _NAMED.search(message)
    if named:
        least = min(least, int(re.sub(r"\D", "", named[1])))
    plans.learn_limit(store, batch, max(least, 1), message[:300])
    plans.lack_room(store, batch.id)
    return True

"""What an account's list has that the ledger does not: read once after each night, since something on the way may send twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Literal

from nightbatch import doubt, troubles
from nightbatch.errors import Refused
from nightbatch.ledger import Batch
from nightbatch.models import FoundBatch, ListedBatch, ProviderName, RequestId, ResultLine, parse_custom_id
from nightbatch.postgres import walks
from nightbatch.postgres.store import Store
from nightbatch.provider import BatchProvider

_SKEW = timedelta(minutes=2)  # between the database's clock and the provider's


def walk_after_nights(store: Store, provider_for: Callable[[ProviderName], BatchProvider]) -> list[str]:
    """Walk the list of each account whose night is over; sentences about what the ledger did not have."""
    told: list[str] = []
    for provider_name, account, since in walks.due(store):
        with troubles.kept_apart(store, "not_walked", account, since) as kept:
            provider = provider_for(provider_name)
            if provider.account == account:
                told += _walk(store, provider, since)
        if kept.error is not None:
            told.append(f"The list of {provider_name}'s batches was not read: {troubles.in_words(kept.error)}")
    return told


def _walk(store: Store, provider: BatchProvider, since: datetime) -> list[str]:
    """Book what stands beside the ledger's own. A list with untagged batches that still run is walked again."""
    began, told, undecided = store.now(), [], False
    listed = list(provider.list_batches(since - _SKEW))
    known = store.known_provider_ids(provider.name, [batch.provider_batch_id for batch in listed])
    for batch in listed:
        if batch.provider_batch_id in known:
            continue
        attempt = _attempt_of(store, provider, batch)
        if attempt == "undecided":
            undecided = True
        elif attempt == "unknown":
            told.append(_tell_unknown(store, provider, batch))
        elif attempt is not None and attempt.state not in ("submitting", "held"):  # those are still looked for
            told.append(doubt.record_duplicate(store, attempt, _found(batch)))
    if not undecided:
        walks.walked(store, provider, began)
    return told


def _found(batch: ListedBatch) -> FoundBatch:
    return FoundBatch(batch.provider_batch_id, certain=True, created_at=batch.created_at)


def _attempt_of(
    store: Store, provider: BatchProvider, batch: ListedBatch
) -> Batch | Literal["unknown", "undecided"] | None:
    """Return whose it is: an attempt, None for somebody else, ``unknown`` for ours that the ledger never heard of.

    ``undecided`` while only the results can tell, and there are none yet.
    """
    if batch.tag is not None:
        found = walks.of_tag(store, batch.tag)
        if found is not None and found.intent_at is not None:
            return found
        return "unknown" if found is not None or walks.is_ours(store, batch.tag) else None
    candidates = walks.of_size(store, provider, batch)
    if not candidates:
        return None
    if not batch.ended:
        return "undecided"
    request = _first_request(provider, batch)
    return next((one for one in candidates if request and (one.id, one.nonce) == request[1:]), None)


def _first_request(provider: BatchProvider, batch: ListedBatch) -> RequestId | None:
    lines: Iterator[object] = provider.iter_results(batch.provider_batch_id)
    try:
        return next((parse_custom_id(line.custom_id) for line in lines if isinstance(line, ResultLine)), None)
    except Refused:  # results that are gone say nothing any more
        return None


def _tell_unknown(store: Store, provider: BatchProvider, batch: ListedBatch) -> str:
    message = (
        f"{provider.name} has {batch.provider_batch_id}, sent by this installation, and the ledger does not know it. Was the"
        " database restored from a backup, or copied? Its jobs may look queued here, and would be paid for again: look at it"
        " in the provider's console before the next night."
    )
    store.raise_alert("unknown_to_ledger", batch.provider_batch_id, message)
    return message

"""Find what an account's list has and the ledger has not: before the first create of a night, and once after it.

Something on the way may send a create twice, and a ledger that was put back to an earlier moment knows less than its providers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Literal

from nightbatch.batches import accounts, in_doubt, troubles
from nightbatch.core.errors import ConfigurationError, Refused
from nightbatch.core.ledger import Batch
from nightbatch.core.models import FoundBatch, ListedBatch, ProviderName, RequestId, ResultLine, parse_custom_id
from nightbatch.core.provider import BatchProvider
from nightbatch.postgres import homes, walks
from nightbatch.postgres.store import Store

_SKEW = timedelta(minutes=2)  # between the database's clock and the provider's


def before_first_create(store: Store, provider: BatchProvider, run_id: str) -> None:
    """Doubt the ledger where the account's list has batches of ours that it does not know; once in a run.

    Raises the provider's errors when the list cannot be read: nothing is sent then.
    """
    account = accounts.of(store, provider)
    since = walks.not_looked_since(store, provider.name, account, run_id)
    if since is None:
        return
    found = unknown(store, provider, account, since)
    for batch in found:
        _tell_unknown(store, provider, batch)
    if not found:
        walks.looked(store, provider.name, account)


def unknown(
    store: Store, provider: BatchProvider, account: str, since: datetime, *, running_until: datetime | None = None
) -> list[ListedBatch]:
    """Return the batches of this installation in an account's list that the ledger does not know.

    On Anthropic only results tell whose a batch is. With ``running_until`` those without any that were created until then, and
    so may be ours, are among them.
    """
    return [
        batch
        for batch in _beside_the_ledger(store, provider, since)
        if _attempt_of(store, provider, account, batch) == "unknown" or _may_be_ours(batch, running_until)
    ]


def _may_be_ours(batch: ListedBatch, until: datetime | None) -> bool:
    if until is None or batch.tag is not None or batch.ended:
        return False
    return batch.created_at is None or batch.created_at <= until


def walk_after_nights(store: Store, provider_for: Callable[[ProviderName], BatchProvider]) -> list[str]:
    """Walk the list of each account whose night is over; return sentences about what the ledger did not have."""
    told: list[str] = []
    for provider_name, account, since in walks.due(store):
        with troubles.kept_apart(store, "not_walked", account, since) as kept:
            provider = provider_for(provider_name)
            if not accounts.reaches(store, provider, account):
                raise ConfigurationError(
                    f"it is {provider_name}'s, and has no key any more. A batch that was sent twice by something on the way stays"
                    " unseen: put the key back, or look into the provider's console."
                )
            told += _walk(store, provider, account, since)
        if kept.error is not None:
            told.append(f"The list of {provider_name}'s batches was not read: {troubles.in_words(kept.error)}")
    return told


def _walk(store: Store, provider: BatchProvider, account: str, since: datetime) -> list[str]:
    """Book what the list has besides the ledger's batches. A list with untagged batches that still run is walked again."""
    began, told, undecided = store.now(), [], False
    for batch in _beside_the_ledger(store, provider, since):
        attempt = _attempt_of(store, provider, account, batch)
        if attempt == "undecided":
            undecided = True
        elif attempt == "unknown":
            told.append(_tell_unknown(store, provider, batch))
        elif attempt is not None and attempt.state not in ("submitting", "held"):  # those are still looked for
            told.append(in_doubt.record_duplicate(store, attempt, _found(batch)))
    if not undecided:
        walks.walked(store, provider.name, account, began)
    return told


def _beside_the_ledger(store: Store, provider: BatchProvider, since: datetime) -> list[ListedBatch]:
    listed = list(provider.list_batches(since - _SKEW))
    known = store.known_provider_ids(provider.name, [batch.provider_batch_id for batch in listed])
    return [batch for batch in listed if batch.provider_batch_id not in known]


def _found(batch: ListedBatch) -> FoundBatch:
    return FoundBatch(batch.provider_batch_id, certain=True, created_at=batch.created_at)


def _attempt_of(
    store: Store, provider: BatchProvider, account: str, batch: ListedBatch
) -> Batch | Literal["unknown", "undecided"] | None:
    """Return whose a batch is: an attempt, None for somebody else's, ``unknown`` for ours that the ledger never heard of.

    It is ``undecided`` while only the results can tell, and there are none yet.
    """
    if batch.tag is not None:
        found = walks.of_tag(store, batch.tag)
        if found is not None:
            return "unknown" if found.unsent else found
        return "unknown" if walks.is_ours(store, batch.tag) else None
    candidates = walks.of_size(store, provider.name, account, batch)
    if not batch.ended:
        return "undecided" if candidates else None
    request = _first_request(provider, batch)
    if request is None:
        return None
    attempt = next((one for one in candidates if (one.id, one.nonce) == request[1:]), None)
    if attempt is not None:
        return "unknown" if attempt.unsent else attempt
    if request.nonce is None:
        return None
    ours = walks.is_ours(store, f"nb-{request.nonce[:8]}-")
    return "unknown" if ours and not walks.has_nonce(store, request.nonce) else None


def _first_request(provider: BatchProvider, batch: ListedBatch) -> RequestId | None:
    lines: Iterator[object] = provider.iter_results(batch.provider_batch_id)
    try:
        return next((parse_custom_id(line.custom_id) for line in lines if isinstance(line, ResultLine)), None)
    except Refused:  # results that are gone say nothing any more
        return None


def _tell_unknown(store: Store, provider: BatchProvider, batch: ListedBatch) -> str:
    message = (
        f"{provider.name} has {batch.provider_batch_id}, sent by this installation, and the ledger does not know it"
    )
    homes.doubt(store, message)
    return f"{message}."

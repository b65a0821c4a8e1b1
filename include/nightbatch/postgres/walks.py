"""Which accounts' lists are to be walked, and whose a listed batch may be."""

from __future__ import annotations

from datetime import datetime

from nightbatch.core.ledger import Batch
from nightbatch.core.models import ListedBatch, ProviderName
from nightbatch.postgres.store import Store

_FILE = "walks"


def due(store: Store) -> list[tuple[ProviderName, str, datetime]]:
    """Return provider, account and the first intent since the last walk, of each account whose night is over."""
    return store.run("due", file=_FILE).fetchall()


def walked(store: Store, provider: ProviderName, account: str, at: datetime) -> None:
    """Write down that an account's list was read to its end; ``at`` is before it was asked for."""
    values = {"provider": provider, "account": account, "walked_at": at}
    store.run("walked", values, file=_FILE)


def of_tag(store: Store, tag: str) -> Batch | None:
    """Return the attempt that a tag belongs to, None without one."""
    found = store.batches_of("of_tag", file=_FILE, tag=tag)
    return found[0] if found else None


def is_ours(store: Store, tag: str) -> bool:
    """Return whether this installation made the tag, whatever became of its row."""
    return bool(store.run("is_ours", {"tag": tag}, file=_FILE).fetchone()[0])  # type: ignore[index]


def of_size(store: Store, provider: ProviderName, account: str, batch: ListedBatch) -> list[Batch]:
    """Return the attempts that an untagged batch of this size and time may be."""
    return store.batches_of(
        "of_size", file=_FILE, provider=provider, account=account, requests=batch.requests,
        created_at=batch.created_at,
    )  # fmt: skip


def has_nonce(store: Store, nonce: str) -> bool:
    """Return whether the ledger knows an attempt that sent requests with this nonce."""
    return bool(store.run("has_nonce", {"nonce": nonce}, file=_FILE).fetchone()[0])  # type: ignore[index]


def not_looked_since(store: Store, provider: ProviderName, account: str, run_id: str) -> datetime | None:
    """Return since when an account's list may hold something unknown; None where it was looked at in this run."""
    values = {"provider": provider, "account": account, "run_id": run_id}
    row = store.run("not_looked_since", values, file=_FILE).fetchone()
    return row[0] if row else None


def looked(store: Store, provider: ProviderName, account: str) -> None:
    """Write down that an account's list was looked at before something was sent."""
    store.run("looked", {"provider": provider, "account": account}, file=_FILE)

"""What the ledger knows of a provider's connection: whether it shows tags, and how long it has been silent."""

from __future__ import annotations

from nightbatch.postgres.store import Store
from nightbatch.provider import BatchProvider


def record_tags(store: Store, provider: BatchProvider) -> None:
    """Note that answers of this connection carry our tags."""
    store.run("record_tags", _key(provider), file="connections")


def shows_tags(store: Store, provider: BatchProvider) -> bool:
    """Return whether a batch that the connection's lists leave out is not there."""
    row = store.run("shows_tags", _key(provider), file="connections").fetchone()
    return bool(row and row[0])


def count_silent(store: Store, provider: BatchProvider) -> int:
    """Return how many tries in a row were without a sign from the provider, with this one."""
    row = store.run("count_silent", _key(provider), file="connections").fetchone()
    assert row is not None  # an upsert without a condition
    return int(row[0])


def heard(store: Store, provider: BatchProvider) -> bool:
    """Note a sign from the provider. Return whether it had been silent."""
    return store.run("heard", _key(provider), file="connections").fetchone() is not None


def _key(provider: BatchProvider) -> dict[str, str]:
    return {"provider": provider.name, "account": provider.account}

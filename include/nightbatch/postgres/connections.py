"""What the ledger knows of a provider's connection: whether it shows tags, and how long it has been silent."""

from __future__ import annotations

from nightbatch.core.models import ProviderName
from nightbatch.core.provider import BatchProvider
from nightbatch.postgres.store import Store


def record_tags(store: Store, provider: BatchProvider) -> None:
    """Note that answers of this connection carry our tags."""
    store.run("record_tags", _key(provider), file="connections")


def shows_tags(store: Store, provider: BatchProvider) -> bool:
    """Return whether the connection has shown tags: then a batch that its lists leave out is not there."""
    row = store.run("shows_tags", _key(provider), file="connections").fetchone()
    return bool(row and row[0])


def count_silent(store: Store, provider: BatchProvider) -> int:
    """Count a try without a sign from the provider; return how many there were in a row, with this one."""
    row = store.run("count_silent", _key(provider), file="connections").fetchone()
    assert row is not None  # an upsert without a condition
    return int(row[0])


def heard(store: Store, provider: BatchProvider) -> bool:
    """Note a sign from the provider. Return whether it had been silent."""
    return store.run("heard", _key(provider), file="connections").fetchone() is not None


def account_of(store: Store, provider: ProviderName, account: str) -> str:
    """Return the account that a key belongs to, as far as that was found out."""
    row = store.run("account_of", {"provider": provider, "account": account}, file="connections").fetchone()
    assert row is not None  # one expression
    return str(row[0])


def is_known(store: Store, provider: BatchProvider) -> bool:
    """Return whether something was sent through the connection, or its key was found to be another's successor."""
    return store.run("is_known", _key(provider), file="connections").fetchone() == (True,)


def lately_used(store: Store, provider: BatchProvider) -> list[str]:
    """Return the provider's accounts of the last month, the newest first."""
    return [account for (account,) in store.run("lately_used", _key(provider), file="connections")]


def sent_through(store: Store, provider: ProviderName, account: str) -> list[str]:
    """Return the newest batches of an account, by the provider's ids."""
    values = {"provider": provider, "account": account}
    return [provider_batch_id for (provider_batch_id,) in store.run("sent_through", values, file="connections")]


def record_same(store: Store, provider: BatchProvider, account: str) -> None:
    """Note that the connection's key is of this account."""
    store.run("record_same", _key(provider) | {"same_as": account}, file="connections")


def _key(provider: BatchProvider) -> dict[str, str]:
    return {"provider": provider.name, "account": provider.account}

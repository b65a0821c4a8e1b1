"""Find the account that a connection's key belongs to; a rotated key is taken over once it has proven itself."""

from __future__ import annotations

import asyncio

from nightbatch.core.errors import Absent
from nightbatch.core.provider import BatchProvider
from nightbatch.postgres import connections
from nightbatch.postgres.store import Store


def of(store: Store, provider: BatchProvider) -> str:
    """Return the account that attempts sent through this connection are bound to.

    A key that the ledger does not know is first compared with the accounts that it knows: it may be the new key of one of them.
    Raises the provider's errors when that cannot be found out.
    """
    if not connections.is_known(store, provider):
        for account in connections.lately_used(store, provider):
            if reaches(store, provider, account):
                break
    return connections.account_of(store, provider.name, provider.account)


def reaches(store: Store, provider: BatchProvider, account: str) -> bool:
    """Return whether the connection's key belongs to this account: it always did, or it can see a batch that the account sent.

    Raises the provider's errors when that cannot be found out.
    """
    mine = connections.account_of(store, provider.name, provider.account)
    theirs = connections.account_of(store, provider.name, account)
    if mine == theirs:
        return True
    for provider_batch_id in connections.sent_through(store, provider.name, account):
        try:
            seen = asyncio.run(provider.get_state(provider_batch_id))
        except Absent:
            continue
        if seen.provider_batch_id == provider_batch_id:  # and not what somebody answers to whatever is asked
            connections.record_same(store, provider, theirs)
            return True
    return False

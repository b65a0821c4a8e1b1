"""Which account a connection's key belongs to, as the ledger knows it: a rotated key is taken over once it has proven itself."""

from __future__ import annotations

import asyncio

from nightbatch.core.errors import Absent
from nightbatch.core.provider import BatchProvider
from nightbatch.postgres import connections
from nightbatch.postgres.store import Store


def of(store: Store, provider: BatchProvider) -> str:
    """Return the account that attempts sent through this connection are bound to.

    A key that the ledger does not know is compared with the accounts that it knows first: it may be the successor of one's.
    Raises the provider's errors when that cannot be found out.
    """
    if not connections.is_known(store, provider):
        for account in connections.lately_used(store, provider):
            if reaches(store, provider, account):
                break
    return connections.account_of(store, provider.name, provider.account)


def reaches(store: Store, provider: BatchProvider, account: str) -> bool:
    """Return whether the connection's key is of this account: it always was, or it can see a batch that was sent through it.

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

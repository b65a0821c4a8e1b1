"""All waits of a triggerer share one client per provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nightbatch.airflow import shared
from nightbatch.airflow.shared import Accounts, accounts
from nightbatch.errors import AccountRefused, ConfigurationError, Transient
from nightbatch.models import ProviderState

RUNNING = ProviderState(provider_batch_id="batch_1", phase="running", status="in_progress")


class Client:
    """Answers each look as it is told, and counts how many are under way."""

    name = "openai"
    under_way = most = 0

    def __init__(self, answer: Callable[[], ProviderState]) -> None:
        self.answer = answer

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.001)
        self.under_way -= 1
        return self.answer()


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The clients that connections lead to, one after the other; the last one stays."""
    to_come: list[Any] = []

    def provider_for(name: str) -> Any:
        client = to_come.pop(0) if len(to_come) > 1 else to_come[0]
        if isinstance(client, Exception):
            raise client
        return client

    monkeypatch.setattr(shared, "provider_for", provider_for)
    return to_come


def refuse() -> ProviderState:
    raise AccountRefused("401", status=401)


async def look(times: int = 1, accounts: Accounts | None = None) -> list[Any]:
    shared_accounts = accounts or Accounts()
    looks = (shared_accounts.state("openai", f"batch_{number}") for number in range(times))
    return await asyncio.gather(*looks, return_exceptions=True)


def test_two_hundred_first_looks_make_one_client_and_come_twenty_at_a_time(clients: list[Any]) -> None:
    first, second = Client(lambda: RUNNING), Client(refuse)
    clients[:] = [first, second]
    assert asyncio.run(look(200)) == [RUNNING] * 200
    assert first.most == shared.LOOKS_AT_ONCE
    assert clients == [second]


def test_a_rotated_key_is_read_again_before_it_is_called_bad(clients: list[Any]) -> None:
    clients[:] = [Client(refuse), Client(lambda: RUNNING)]
    assert asyncio.run(look(3)) == [RUNNING] * 3


def test_a_key_that_stays_bad_is_told(clients: list[Any]) -> None:
    clients[:] = [Client(refuse)]
    assert [type(found) for found in asyncio.run(look(2))] == [AccountRefused, AccountRefused]


def test_a_connection_that_was_missing_is_looked_for_again(clients: list[Any]) -> None:
    clients[:] = [ConfigurationError("there is no connection"), Client(lambda: RUNNING)]

    async def twice() -> list[Any]:
        accounts = Accounts()
        return await look(1, accounts) + await look(1, accounts)

    missing, found = asyncio.run(twice())
    assert isinstance(missing, ConfigurationError)
    assert found == RUNNING


def test_a_cancelled_wait_leaves_the_client_to_the_others(clients: list[Any]) -> None:
    clients[:] = [Client(lambda: RUNNING), Client(refuse)]

    async def cancel_the_first() -> list[Any]:
        accounts = Accounts()
        first = asyncio.create_task(look(1, accounts))
        await asyncio.sleep(0)
        first.cancel()
        return await look(1, accounts)

    assert asyncio.run(cancel_the_first()) == [RUNNING]


def test_a_look_without_an_answer_counts_as_failed(clients: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Client):
        async def get_state(self, provider_batch_id: str) -> ProviderState:
            await asyncio.sleep(30)
            return RUNNING

    monkeypatch.setattr(shared, "ANSWER_WITHIN", 0.05)
    clients[:] = [Silent(lambda: RUNNING)]
    (missed,) = asyncio.run(look())
    assert isinstance(missed, Transient)
    assert str(missed) == "openai did not answer within 0.05 seconds"


def test_every_event_loop_has_its_own_clients() -> None:
    async def mine() -> tuple[Accounts, bool]:
        return accounts(), accounts() is accounts()

    (one, same), (other, _) = asyncio.run(mine()), asyncio.run(mine())
    assert same
    assert one is not other

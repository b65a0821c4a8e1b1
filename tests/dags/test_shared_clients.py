"""All waits of a triggerer share one client per provider, its list of batches, and the reads of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nightbatch.airflow import shared
from nightbatch.airflow.shared import Account, Ledger, Shared
from nightbatch.core.errors import AccountRefused, ConfigurationError, Transient
from nightbatch.core.models import ProviderState

SENT_AT = datetime(2026, 11, 23, 2, tzinfo=UTC)
RUNNING = ProviderState(provider_batch_id="batch_1", phase="running", status="in_progress")
ENDED = ProviderState(provider_batch_id="batch_1", phase="ended", status="completed")


Listing = Callable[[], Collection[str]]


def unlisted() -> Collection[str]:
    raise Transient("this key may not list")


class Client:
    """Answers each look, and each list with the ids that it is told, and counts how many looks are under way."""

    name = "openai"
    under_way = most = looks = 0

    def __init__(self, answer: Callable[[], ProviderState], listing: Listing = unlisted) -> None:
        self.answer = answer
        self.listing = listing
        self.lists: list[tuple[int, datetime, int]] = []

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        self.looks += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.001)
        self.under_way -= 1
        return self.answer()

    async def list_states(self, ids: Collection[str], *, since: datetime, pages: int) -> dict[str, ProviderState]:
        self.lists.append((len(ids), since, pages))
        await asyncio.sleep(0.001)
        return {shown: replace(ENDED, provider_batch_id=shown) for shown in self.listing() if shown in ids}


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


async def look(times: int = 1, account: Account | None = None) -> list[Any]:
    asked = account or Account("openai")
    looks = (asked.state(f"batch_{number}", SENT_AT) for number in range(times))
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
        account = Account("openai")
        return await look(1, account) + await look(1, account)

    missing, found = asyncio.run(twice())
    assert isinstance(missing, ConfigurationError)
    assert found == RUNNING


def test_a_cancelled_wait_leaves_the_client_to_the_others(clients: list[Any]) -> None:
    clients[:] = [Client(lambda: RUNNING), Client(refuse)]

    async def cancel_the_first() -> list[Any]:
        account = Account("openai")
        first = asyncio.create_task(look(1, account))
        await asyncio.sleep(0)
        first.cancel()
        return await look(1, account)

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
    async def mine() -> tuple[Shared, bool]:
        return shared.shared(), shared.shared() is shared.shared()

    (one, same), (other, _) = asyncio.run(mine()), asyncio.run(mine())
    assert same
    assert one is not other


def names(count: int) -> list[str]:
    return [f"batch_{number}" for number in range(count)]


async def wait_for(account: Account, count: int, *, not_due: int = 0) -> list[ProviderState]:
    """So many waits, the last of which are due in an hour."""
    due = count - not_due
    waits = (
        account.state(name, SENT_AT + timedelta(minutes=number), after=0 if number < due else 3600, company=0.02)
        for number, name in enumerate(names(count))
    )
    async with asyncio.timeout(10):
        return await asyncio.gather(*waits)


def test_one_list_answers_for_all_that_wait_whether_they_are_due_or_not(clients: list[Any]) -> None:
    client = Client(lambda: RUNNING, lambda: names(60))
    clients[:] = [client]
    seen = asyncio.run(wait_for(Account("openai"), 60, not_due=30))
    assert seen == [replace(ENDED, provider_batch_id=name, listed=True) for name in names(60)]
    assert (client.looks, client.lists) == (0, [(60, SENT_AT - timedelta(hours=1), 10)])


def test_what_the_list_leaves_out_is_looked_at_by_itself(clients: list[Any]) -> None:
    client = Client(lambda: RUNNING, lambda: names(40)[:-2])
    clients[:] = [client]
    seen = asyncio.run(wait_for(Account("openai"), 40))
    assert [state.phase for state in seen] == ["ended"] * 38 + ["running"] * 2
    assert (client.looks, len(client.lists)) == (2, 1)


def test_a_look_that_is_to_be_made_alone_is(clients: list[Any]) -> None:
    client = Client(lambda: RUNNING, lambda: names(41))
    clients[:] = [client]

    async def one_alone() -> tuple[ProviderState, list[ProviderState]]:
        account = Account("openai")
        return await asyncio.gather(account.state("batch_40", SENT_AT, after=0.05, alone=True), wait_for(account, 40))

    alone, others = asyncio.run(one_alone())
    assert alone == RUNNING
    assert {state.phase for state in others} == {"ended"}
    assert client.looks == 1


def test_a_few_waits_are_not_worth_a_list(clients: list[Any]) -> None:
    client = Client(lambda: RUNNING, lambda: names(2))
    clients[:] = [client]
    assert asyncio.run(wait_for(Account("openai"), 2)) == [RUNNING] * 2
    assert (client.looks, client.lists) == (2, [])


@pytest.mark.parametrize("trouble", [Transient("503"), AccountRefused("403", status=403), TypeError("a bug")])
def test_a_list_that_cannot_be_read_says_nothing_about_a_batch(clients: list[Any], trouble: Exception) -> None:
    def refuse_the_list() -> Collection[str]:
        raise trouble

    client = Client(lambda: RUNNING, refuse_the_list)
    clients[:] = [client]
    assert asyncio.run(wait_for(Account("openai"), 40)) == [RUNNING] * 40
    assert (client.looks, len(client.lists)) == (40, 1)


def test_a_wait_that_goes_away_takes_nobody_along(clients: list[Any]) -> None:
    client = Client(lambda: RUNNING, lambda: names(40))
    clients[:] = [client]

    async def one_less() -> list[ProviderState]:
        account = Account("openai")
        gone = asyncio.create_task(account.state("batch_0", SENT_AT, company=0.02))
        others = asyncio.create_task(wait_for(account, 40))
        await asyncio.sleep(0.005)
        gone.cancel()
        return await others

    assert {state.phase for state in asyncio.run(one_less())} == {"ended"}


def test_the_ledger_is_read_once_for_all_who_ask_together(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[set[int]] = []

    def read_batches(ids: set[int]) -> dict[int, Any]:
        reads.append(ids)
        return {batch_id: f"batch {batch_id}" for batch_id in ids if batch_id != 7}

    monkeypatch.setattr(shared, "read_batches", read_batches)

    async def ask(*ids: int) -> list[Any]:
        ledger = Ledger()
        together = await asyncio.gather(*map(ledger.batch, ids), return_exceptions=True)
        return [*together, await ledger.batch(1)]

    *found, missing, again = asyncio.run(ask(*range(7), 7))
    assert [*found, again] == [*(f"batch {batch_id}" for batch_id in range(7)), "batch 1"]
    assert isinstance(missing, LookupError)
    assert reads == [set(range(8)), {1}]

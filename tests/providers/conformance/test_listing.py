"""States of many batches, read off the provider's list."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nightbatch.core.errors import AccountRefused, Transient
from nightbatch.core.models import ProviderState
from nightbatch.core.provider import BatchProvider
from tests.providers.bodies import Json, ended, list_of
from tests.providers.lab import Lab, texts
from tests.providers.loopback import Reply, Wire

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
CREATED = datetime(2026, 11, 20, tzinfo=UTC)


def listed(
    provider: BatchProvider, ids: Collection[str], *, since: datetime = LONG_AGO, pages: int = 10
) -> dict[str, ProviderState]:
    return asyncio.run(provider.list_states(ids, since=since, pages=pages))


def test_a_list_says_of_each_batch_what_a_look_at_it_says(lab: Lab) -> None:
    sent = [lab.send(*texts(2)) for _ in range(4)]
    lab.end(sent[0])
    lab.end(sent[1], "expired")
    lab.end(sent[2], "failed" if lab.name != "anthropic" else "cancelled")
    assert listed(lab.provider, sent) == {batch_id: lab.state(batch_id) for batch_id in sent}
    assert listed(lab.provider, sent[:1]).keys() == {sent[0]}


def test_a_list_that_lags_leaves_a_batch_out_and_says_nothing_of_it(lab: Lab) -> None:
    old = lab.send(*texts(1))
    lab.fault("batch_list", "list_lag", delay_seconds=3600, times=None)
    assert listed(lab.provider, [old]) == {}
    lab.emulator.control("DELETE", "faults")
    assert listed(lab.provider, [old, "batches/unheard-of"]).keys() == {old}


@pytest.mark.fault(25)
def test_a_status_nobody_knows_is_running_in_a_list_too(wire: Wire) -> None:
    shown = ended(wire.name, wire.server.url)
    if wire.name == "gemini":
        shown["metadata"]["state"], shown["done"] = "BATCH_STATE_UNHEARD_OF", False
    else:
        shown["status" if wire.name == "openai" else "processing_status"] = "unheard_of"
    wire.server.say(Reply(list_of(wire.name, shown)))
    state = listed(wire.provider, ["batches/1"])["batches/1"]
    assert (state.phase, state.unknown) == ("running", True)


@pytest.mark.fault(23)
def test_a_list_for_a_refused_key_is_refused(lab: Lab) -> None:
    key = f"emu-{lab.account}.rotated"
    provider = lab.adapter(key)
    lab.emulator.control("POST", "keys/revoke", {"key": key})
    with pytest.raises(AccountRefused):
        listed(provider, ["batches/1"])


@pytest.mark.parametrize("body", [b"<h1>Log in</h1>", None, {"object": "list", "data": None, "operations": 1}])
def test_a_list_in_other_words_is_no_list(wire: Wire, body: Any) -> None:
    wire.server.say(Reply(body))
    with pytest.raises(Transient):
        listed(wire.provider, ["batches/1"])


def test_a_list_whose_second_page_is_lost_is_not_read(wire: Wire) -> None:
    wire.server.say(pages_of(wire, 1, more=True), Reply({}, status=503))
    with pytest.raises(Transient):
        listed(wire.provider, ["batches/1", "batches/2"])


def pages_of(wire: Wire, number: int, *, more: bool, created: datetime = CREATED) -> Reply:
    """A page with the batch of this number on it."""
    shown: Json = ended(wire.name, wire.server.url)
    if wire.name == "gemini":
        shown |= {"name": f"batches/{number}"}
        return Reply(list_of(wire.name, shown) | ({"nextPageToken": f"after-{number}"} if more else {}))
    at: Any = int(created.timestamp()) if wire.name == "openai" else created.isoformat()
    shown |= {"id": f"batches/{number}", "created_at": at}
    return Reply(list_of(wire.name, shown) | {"has_more": more, "last_id": f"batches/{number}"})


def test_pages_are_read_until_all_are_found(wire: Wire) -> None:
    wire.server.say(*(pages_of(wire, number, more=True) for number in (1, 2, 3, 4)))
    assert listed(wire.provider, ["batches/1", "batches/3"]).keys() == {"batches/1", "batches/3"}
    paths = [asked.path for asked in wire.server.seen]
    assert len(paths) == 3
    marks = {"openai": "after=batches/", "anthropic": "after_id=batches/", "gemini": "pageToken=after-"}
    assert [f"{marks[wire.name]}{number}" in path.replace("%2F", "/") for number, path in enumerate(paths)][1:] == [
        True,
        True,
    ]


def test_no_more_pages_are_read_than_the_looks_would_cost(wire: Wire) -> None:
    wire.server.say(*(pages_of(wire, number, more=True) for number in range(1, 9)))
    assert listed(wire.provider, ["batches/2", "batches/8"], pages=3).keys() == {"batches/2"}
    assert len(wire.server.seen) == 3


def test_the_last_page_ends_the_list(wire: Wire) -> None:
    wire.server.say(pages_of(wire, 1, more=True), pages_of(wire, 2, more=False))
    assert listed(wire.provider, ["batches/2", "batches/9"]).keys() == {"batches/2"}
    assert len(wire.server.seen) == 2


def test_a_page_from_before_ends_the_list_where_the_newest_come_first(wire: Wire) -> None:
    wire.server.say(pages_of(wire, 1, more=True), pages_of(wire, 2, more=True), pages_of(wire, 3, more=False))
    found = listed(wire.provider, ["batches/1", "batches/9"], since=CREATED + timedelta(hours=1))
    assert found.keys() == {"batches/1"}
    assert len(wire.server.seen) == (3 if wire.name == "gemini" else 1)

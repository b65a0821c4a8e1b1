"""A read with status 200 that is wrong somewhere: a value of the protocol's, or `Transient`, and nothing else."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightbatch.core.errors import Transient
from nightbatch.core.models import FoundBatch, ProviderState
from tests.providers.bodies import Json, ended, full, list_of
from tests.providers.loopback import HTML, KEY, Reply, Server, Wire

_settings = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
    | st.just([]) | st.just({}) | st.just([None]) | st.sampled_from([10**12, 10**20, -1, "2026-13-01T00:00:00Z", "-5"])
)  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from places(inner, (*at, key))


def spoil(whole: Json, data: st.DataObject) -> Json:
    """A copy with one value replaced or taken away."""
    answer = copy.deepcopy(whole)
    *way, last = data.draw(st.sampled_from(list(places(answer))))
    holder: Any = answer
    for step in way:
        holder = holder[step]
    if isinstance(holder, dict) and data.draw(st.booleans()):
        del holder[last]
    else:
        holder[last] = data.draw(_VALUES)
    return answer


@_settings
@given(data=st.data())
def test_a_state_is_a_state_or_could_not_be_read(wire: Wire, data: st.DataObject) -> None:
    try:
        state = wire.state(spoil(full(wire.name), data))
    except Transient:
        return
    assert isinstance(state, ProviderState)
    assert isinstance(state.status, str) and isinstance(state.provider_batch_id, str)
    assert state.error is None or isinstance(state.error, str)
    if state.counts:
        assert all(type(count) is int for count in (state.counts.total, state.counts.succeeded, state.counts.errored))


@_settings
@given(data=st.data())
def test_a_list_is_a_list_or_could_not_be_read(wire: Wire, data: st.DataObject) -> None:
    spoilt = spoil(list_of(wire.name, full(wire.name)), data)
    try:
        found = wire.find(Reply(spoilt), Reply({} if wire.name == "gemini" else list_of(wire.name)))
    except Transient:
        return
    assert all(isinstance(one, FoundBatch) and isinstance(one.provider_batch_id, str) for one in found)


@pytest.mark.fault(21)
@pytest.mark.filterwarnings("ignore:.* is not a valid JobState")
@_settings
@given(data=st.data())
def test_a_create_has_an_id_or_is_in_doubt(wire: Wire, data: st.DataObject) -> None:
    submission, path = wire.submission()
    wire.server.say(Reply(spoil(full(wire.name), data)))
    try:
        batch_id = wire.provider.submit(submission, path)
    except Transient as error:
        assert type(error) is Transient
    else:
        assert isinstance(batch_id, str) and batch_id
    assert wire.server.posts() == 1


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"{", b"[]", b"null", b'"text"', b"{}"])
def test_an_ok_with_something_else_in_it_is_no_state_and_no_list(wire: Wire, body: bytes) -> None:
    wire.server.say(Reply(body, headers=HTML if body.startswith(b"<") else {}))
    attempts: list[Callable[[], object]] = [lambda: asyncio.run(wire.provider.get_state("batches/1"))]
    attempts.append(lambda: list(wire.provider.iter_results("batches/1")))
    if wire.name != "gemini" or body != b"{}":  # which is how Gemini shows an empty list
        attempts.append(lambda: wire.provider.find_submission(wire.submission()[0]))
    for attempt in attempts:
        with pytest.raises(Transient):
            attempt()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_takes_the_key_to_another_host(wire: Wire, elsewhere: Server, status: int) -> None:
    away = Reply(b"", status, {"location": f"{elsewhere.url}/there"})
    elsewhere.say(Reply(b"", headers={"content-type": "text/plain"}))
    provider, (submission, _) = wire.provider, wire.submission()

    def download(method: str, path: str) -> Reply:
        a_batch = not any(word in path for word in ("content", "results", "download"))
        return Reply(ended(wire.name, wire.server.url)) if a_batch else away

    reads: list[tuple[Callable[[str, str], Reply], Callable[[], object]]] = [
        (lambda method, path: away, lambda: asyncio.run(provider.get_state("batches/1"))),
        (lambda method, path: away, lambda: provider.find_submission(submission)),
        (lambda method, path: away, lambda: provider.cancel("batches/1")),
        (lambda method, path: away, provider.check),
        (download, lambda: list(provider.iter_results("batches/1"))),
    ]
    for route, read in reads:
        wire.server.say(route)
        with suppress(Transient):
            read()
        assert any(KEY in asked.headers for asked in wire.server.seen)
    assert [asked for asked in elsewhere.seen if KEY in asked.headers + asked.path] == []

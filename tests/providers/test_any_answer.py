"""An answer with status 200 that is wrong somewhere: a value of the protocol's, or `Transient`, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightbatch.errors import Transient
from nightbatch.models import FoundBatch, ProviderName, ProviderState
from tests.providers.bodies import Json, ended
from tests.providers.loopback import Reply, Wire, a_submission

_settings = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def batch(name: ProviderName) -> Json:
    shown = ended(name, "http://127.0.0.1")
    if name == "openai":
        counts = {"total": 2, "completed": 1, "failed": 1}
        error = {"code": "server_error", "line": 1, "message": "no", "param": None}
        times = {"completed_at": 1_795_000_100, "expires_at": 1_795_086_400, "errors": {"data": [error]}}
        return shown | times | {"request_counts": counts, "metadata": {"nightbatch_tag": "nb-1-a"}}
    if name == "gemini":
        times = {"createTime": "2026-11-20T00:00:00.123456789Z", "endTime": "2026-11-20T01:00:00Z"}
        shown["metadata"] |= times | {"displayName": "nb-1-a"}
        return shown | {"error": {"code": 13, "message": "no"}}
    return shown


@_settings
@given(data=st.data())
def test_a_state_is_a_state_or_could_not_be_read(wire: Wire, data: st.DataObject) -> None:
    try:
        state = wire.state(spoil(batch(wire.name), data))
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
    page: Json = {"object": "list", "data": [batch(wire.name)], "has_more": False, "first_id": "b", "last_id": "b"}
    if wire.name == "gemini":
        page = {"operations": [batch("gemini")]}
    replies = [Reply(spoil(page, data))]
    last: Json = {} if wire.name == "gemini" else page | {"data": []}
    try:
        found = wire.find(lambda method, path: replies.pop() if replies else Reply(last))
    except Transient:
        return
    assert all(isinstance(one, FoundBatch) and isinstance(one.provider_batch_id, str) for one in found)


@_settings
@given(data=st.data())
def test_a_create_has_an_id_or_is_in_doubt(wire: Wire, data: st.DataObject) -> None:
    submission, path = a_submission(wire.name, wire.folder)
    wire.server.say(Reply(spoil(batch(wire.name), data)))
    try:
        batch_id = wire.provider.submit(submission, path)
    except Transient as error:
        assert type(error) is Transient
    else:
        assert isinstance(batch_id, str) and batch_id
    assert wire.server.posts() == 1


@pytest.mark.parametrize("client", ["httpx", "httpx2", "auto"])
def test_gemini_sends_one_create_with_either_http_client(
    wires: dict[ProviderName, Wire], monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    from nightbatch.providers.gemini import GeminiBatches

    monkeypatch.setenv("GOOGLE_GENAI_HTTP_CLIENT", client)
    wire = wires["gemini"]
    fresh = Wire("gemini", wire.server, GeminiBatches(api_key="k", base_url=wire.server.url), wire.folder)
    error = fresh.submit(Reply({"error": {"code": 503, "message": "no", "status": "UNAVAILABLE"}}, 503))
    assert (type(error), error.status) == (Transient, 503)

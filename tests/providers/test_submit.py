"""Exactly one create for one `submit`, and a definite refusal only where the provider itself has said no."""

from __future__ import annotations

from typing import Any

import pytest

from nightbatch.errors import AccountRefused, ProviderError, Rejected, Throttled, Transient
from nightbatch.models import ProviderName, ResultLine
from tests.providers.bodies import error_body
from tests.providers.desk import Desk
from tests.providers.loopback import Reply, Wire

HTML = {"content-type": "text/html"}


def indefinite(error: ProviderError) -> bool:
    return type(error) is Transient


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_the_providers_own_no_is_definite(wire: Wire, status: int) -> None:
    error = wire.submit(Reply(error_body(wire.name, status, kind="INVALID_ARGUMENT"), status))
    assert (type(error), error.status) == (Rejected, status)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_account_is_definite(wire: Wire, status: int) -> None:
    error = wire.submit(Reply(error_body(wire.name, status, kind="permission_error"), status))
    assert (type(error), error.status) == (AccountRefused, status)


def test_a_rate_limit_says_when_to_come_back(wire: Wire) -> None:
    reply = Reply(error_body(wire.name, 429, kind="rate_limit_error"), 429, {"retry-after": "17"})
    error = wire.submit(reply)
    assert isinstance(error, Throttled)
    assert (error.status, error.retry_after) == (429, 17.0)


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
def test_no_word_of_the_server_says_that_a_create_was_not_done(wire: Wire, status: int) -> None:
    error = wire.submit(Reply(error_body(wire.name, status, kind="api_error"), status, {"retry-after": "1"}))
    assert indefinite(error)
    assert error.status == status


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 429, 502])
@pytest.mark.parametrize("body", [b"<h1>Blocked</h1>", {"message": "Blocked by policy"}, {"error": "no"}, [], None])
def test_an_answer_that_is_not_the_providers_is_never_definite(wire: Wire, status: int, body: Any) -> None:
    """A proxy may turn an answer away after the provider has done what it was asked for."""
    assert indefinite(wire.submit(Reply(body, status, HTML if isinstance(body, bytes) else {})))


@pytest.mark.parametrize("body", [b"", b"<h1>Log in</h1>", b"{", b"\xff", {}, [], None, 5, {"id": None, "name": None}])
def test_success_without_a_batch_id_is_in_doubt(wire: Wire, body: Any) -> None:
    assert indefinite(wire.submit(Reply(body)))
    assert indefinite(wire.submit(Reply(body, headers=HTML)))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(wire: Wire, status: int) -> None:
    """307 and 308 would send the create again, and to whomever the answer names."""
    assert indefinite(wire.submit(Reply(b"", status, {"location": f"{wire.server.url}/elsewhere"})))


@pytest.mark.parametrize("status", [202, 204, 304])
def test_any_other_status_is_in_doubt(wire: Wire, status: int) -> None:
    assert indefinite(wire.submit(Reply(b"", status)))


@pytest.mark.parametrize(
    ("fault", "kind", "done"),
    [
        ({"fault": "refuse", "status": 400}, Rejected, False),
        ({"fault": "refuse", "status": 401}, AccountRefused, False),
        ({"fault": "rate_limit", "retry_after": 5}, Throttled, False),
        ({"fault": "refuse", "status": 500}, Transient, False),
        ({"fault": "refuse", "status": 503}, Transient, False),
        ({"fault": "reset"}, Transient, False),
        ({"fault": "lose_answer"}, Transient, True),
        ({"fault": "error_after"}, Transient, True),
        ({"fault": "truncate"}, Transient, True),
    ],
)
def test_one_create_for_one_submit_and_it_is_found_if_it_was_done(
    desk: Desk, fault: dict[str, Any], kind: type[ProviderError], done: bool
) -> None:
    submission, path = desk.ready("one", "two")
    desk.fault("batch_create", **fault, times=None)
    with pytest.raises(ProviderError) as caught:
        desk.provider.submit(submission, path)
    assert type(caught.value) is kind
    assert desk.requests("batch_create") == 1
    assert len(desk.provider.find_submission(submission)) == done


def test_a_fence_that_could_not_be_raised_says_so(desk: Desk) -> None:
    if desk.name == "anthropic":
        return
    submission, _ = desk.ready("one")
    desk.fault("file_delete", "refuse", status=500, times=None)
    with pytest.raises(Transient):
        desk.provider.fence(submission)


@pytest.mark.parametrize("body", [b"<h1>Log in</h1>", {"status": "log in"}, [], None, {"data": None}])
def test_a_list_in_other_words_is_not_an_empty_list(wire: Wire, body: Any) -> None:
    with pytest.raises(Transient):
        wire.find(Reply(body))


def test_a_list_that_leaves_something_out_is_not_read_to_its_end(wire: Wire) -> None:
    """OpenAI and Anthropic end with has_more false; Google names what it could not reach."""
    whole = (
        {"operations": [], "unreachable": ["somewhere"]} if wire.name == "gemini" else {"object": "list", "data": []}
    )
    with pytest.raises(Transient):
        wire.find(Reply(whole))


def test_an_upload_that_broke_off_can_be_repeated(desk: Desk) -> None:
    if desk.name == "anthropic":
        return
    submission, path = desk.prepare("one")
    # Gemini's second request goes to an upload URL, without a key; OpenAI's SDK tries again by itself.
    after = 1 if desk.name == "gemini" else 0
    desk.emulator.fault(desk.name, "file_upload", "lose_answer", after_matches=after)
    if desk.name == "gemini":
        with pytest.raises(Transient):
            desk.provider.upload(submission, path)
    submission, path = desk.ready("one")
    batch_id = desk.provider.submit(submission, path)
    desk.end(batch_id)
    (line,) = desk.provider.iter_results(batch_id)
    assert isinstance(line, ResultLine) and line.custom_id == "j1_a1"


def test_a_body_too_large_is_refused_by_whoever_stands_in_front(wires: dict[ProviderName, Wire]) -> None:
    assert isinstance(wires["anthropic"].submit(Reply(b"<h1>Too large</h1>", 413, HTML)), Rejected)

"""Exactly one create for one `submit`, and a definite refusal only where the provider itself has said no."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest

from nightbatch.core.errors import AccountRefused, ProviderError, Refused, Throttled, Transient
from tests.providers.bodies import error_body
from tests.providers.lab import Lab
from tests.providers.loopback import HTML, KEY, Reply, Wire


def answered(wire: Wire, status: int) -> ProviderError:
    """What a create raises that the provider refuses in its own words, after one POST."""
    body = error_body(wire.name, status, "the reason", kind="some_error")
    error = wire.submit(Reply(body, status, {"retry-after": "1"}))
    assert error.status == status and "the reason" in str(error)
    return error


def in_doubt(error: ProviderError) -> bool:
    return type(error) is Transient


@pytest.mark.fault(22, 64)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_that_names_no_request_is_definite_and_blames_no_job(wire: Wire, status: int) -> None:
    assert type(answered(wire, status)) is Refused


@pytest.mark.fault(23)
@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_account_is_definite(wire: Wire, status: int) -> None:
    assert type(answered(wire, status)) is AccountRefused


@pytest.mark.fault(21)
@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
def test_no_word_of_the_server_says_that_a_create_was_not_done(wire: Wire, status: int) -> None:
    assert in_doubt(answered(wire, status))


@pytest.mark.fault(20)
def test_a_rate_limit_says_when_to_come_back(wire: Wire) -> None:
    def wait(value: str) -> float | None:
        error = wire.submit(Reply(error_body(wire.name, 429, "slow"), 429, {"retry-after": value}))
        assert isinstance(error, Throttled) and error.status == 429
        return error.retry_after

    assert [wait("12"), wait("1.5"), wait("-3"), wait("soon"), wait("nan")] == [12, 1.5, 0, None, None]
    in_a_minute = wait(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert in_a_minute and 30 < in_a_minute <= 60


@pytest.mark.fault(21)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 429, 502])
def test_an_answer_that_is_not_the_providers_is_never_definite(wire: Wire, status: int) -> None:
    """A proxy may turn an answer away after the provider has done what it was asked for."""
    bodies: list[Any] = [b"<h1>canary</h1>", b"\xff\xfe", {"message": "canary"}, {"error": "canary"}, [], None]
    for body in bodies:
        error = wire.submit(Reply(body, status, HTML if isinstance(body, bytes) else {}))
        assert in_doubt(error) and "canary" not in str(error), body


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    "body", [b"", b"<h1>Log in</h1>", b"{", b"\xff", b'"text"', {}, [], None, 5, {"id": None, "name": None}]
)
def test_success_without_a_batch_id_is_in_doubt(wire: Wire, body: Any) -> None:
    assert in_doubt(wire.submit(Reply(body)))
    assert in_doubt(wire.submit(Reply(body, headers=HTML)))


@pytest.mark.fault(21)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_does_not_send_the_create_again(wire: Wire, status: int) -> None:
    """307 and 308 would, and to whomever the answer names."""
    assert in_doubt(wire.submit(Reply(b"", status, {"location": f"{wire.server.url}/elsewhere"})))
    assert in_doubt(wire.submit(Reply(b"", status, {"location": "/elsewhere"})))


@pytest.mark.fault(21)
@pytest.mark.parametrize("status", [202, 204, 304])
def test_any_other_status_is_in_doubt(wire: Wire, status: int) -> None:
    assert in_doubt(wire.submit(Reply(b"", status)))


def test_a_message_is_cut_and_never_shows_the_key(wire: Wire) -> None:
    error = wire.submit(Reply(error_body(wire.name, 400, f"No {KEY}!\n" + "x" * 5_000, "some_error"), 400))
    assert KEY not in str(error) and "[key]" in str(error) and "\n" not in str(error)
    assert len(str(error)) == 300


@pytest.mark.fault(20, 21, 22, 23)
@pytest.mark.parametrize(
    ("fault", "kind", "done"),
    [
        ({"fault": "refuse", "status": 400}, Refused, False),
        ({"fault": "refuse", "status": 413}, Refused, False),
        ({"fault": "refuse", "status": 401}, AccountRefused, False),
        ({"fault": "rate_limit", "retry_after": 7}, Throttled, False),
        ({"fault": "refuse", "status": 409}, Transient, False),
        ({"fault": "refuse", "status": 500}, Transient, False),
        ({"fault": "reset"}, Transient, False),
        ({"fault": "lose_answer"}, Transient, True),
        ({"fault": "error_after"}, Transient, True),
        ({"fault": "truncate"}, Transient, True),
    ],
    ids=lambda value: str(value.get("status", value["fault"])) if isinstance(value, dict) else None,
)
def test_one_create_for_one_submit_and_it_is_found_if_it_was_done(
    lab: Lab, fault: dict[str, Any], kind: type[ProviderError], done: bool
) -> None:
    submission, path = lab.uploaded()
    lab.fault("batch_create", **fault, times=None)
    with pytest.raises(ProviderError) as caught:
        lab.provider.submit(submission, path)
    assert type(caught.value) is kind
    assert getattr(caught.value, "retry_after", None) == fault.get("retry_after")
    if fault["fault"] in ("reset", "lose_answer"):
        assert caught.value.status is None
    assert len(lab.posts()) == 1
    assert len(lab.provider.find_submission(submission)) == done


@pytest.mark.fault(21)
def test_a_create_is_sent_once_when_the_answer_takes_too_long(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"nightbatch.providers.{lab.name}"
    monkeypatch.setattr("nightbatch.providers.http.TIMEOUT", httpx2.Timeout(0.4))
    if lab.name == "gemini":
        monkeypatch.setattr(f"{module}._SDK_TIMEOUT_MS", 400)
    submission, path = lab.uploaded()
    lab.fault("batch_create", "delay_after", delay_seconds=0.7, times=None)
    with pytest.raises(Transient):
        lab.adapter().submit(submission, path)
    deadline = time.monotonic() + 30
    while not lab.posts():  # the log tells of a request once it has been answered
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(lab.posts()) == 1
    assert len(lab.provider.find_submission(submission)) == 1

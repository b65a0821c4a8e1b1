"""What an answer means, told by a server that says anything; and what never gets into a message or a log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from nightbatch.errors import AccountRefused, ProviderError, Rejected, Throttled, Transient
from nightbatch.models import ProviderName
from tests.providers.conformance.kit import Canned, Lab, adapter_for, canned, plain_submission

KEY = "sk-canary-key"
OWN: dict[ProviderName, Any] = {
    "openai": lambda message: {"error": {"message": message, "type": "some_error", "param": None, "code": None}},
    "anthropic": lambda message: {"type": "error", "error": {"type": "some_error", "message": message}},
    "gemini": lambda message: {"error": {"code": 1, "message": message, "status": "SOME_ERROR"}},
}
HTML = {"Content-Type": "text/html"}


def refused_create(name: ProviderName, folder: Path, answer: Canned) -> ProviderError:
    with canned(answer) as server:
        with pytest.raises(ProviderError) as caught:
            adapter_for(name, server, KEY).submit(*plain_submission(name, folder))
        assert server.posts() == 1
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected), (401, AccountRefused), (402, AccountRefused), (403, AccountRefused), (404, Rejected),
        (408, Transient), (409, Transient), (413, Rejected), (422, Rejected), (429, Throttled), (500, Transient),
        (502, Transient), (503, Transient), (504, Transient), (529, Transient),
    ],
)  # fmt: skip
def test_a_status_in_the_providers_own_words(
    name: ProviderName, tmp_path: Path, status: int, kind: type[ProviderError]
) -> None:
    error = refused_create(name, tmp_path, Canned(status, OWN[name]("the reason")))
    assert (type(error), error.status) == (kind, status)
    assert "the reason" in str(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Transient),
        (401, Transient),
        (403, Transient),
        (404, Transient),
        (413, Rejected),
        (429, Transient),
        (502, Transient),
    ],
)
@pytest.mark.parametrize("body", [b"<html>canary of some proxy</html>", b'{"message": "canary"}', b"[]", b"\xff\xfe"])
def test_a_status_from_something_on_the_way_decides_nothing(
    name: ProviderName, tmp_path: Path, status: int, kind: type[ProviderError], body: bytes
) -> None:
    headers = HTML if body.startswith(b"<") else {}
    error = refused_create(name, tmp_path, Canned(status, body, headers))
    assert type(error) is kind
    assert "canary" not in str(error)


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"{", b"[]", b"null", b'"text"', b"{}"])
def test_an_ok_with_something_else_in_it_leaves_the_create_in_doubt(
    name: ProviderName, tmp_path: Path, body: bytes
) -> None:
    headers = HTML if body.startswith(b"<") else {}
    assert type(refused_create(name, tmp_path, Canned(200, body, headers))) is Transient


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"{", b"[]", b"null", b'"text"', b"{}"])
def test_an_ok_with_something_else_in_it_is_no_state_and_no_list(
    name: ProviderName, tmp_path: Path, body: bytes
) -> None:
    with canned(Canned(200, body, HTML if body.startswith(b"<") else {})) as server:
        provider = adapter_for(name, server)
        attempts: list[Callable[[], object]] = [lambda: asyncio.run(provider.get_state("batches/1"))]
        attempts.append(lambda: list(provider.iter_results("batches/1")))
        if name != "gemini" or body != b"{}":  # which is how Gemini shows an empty list
            attempts.append(lambda: provider.find_submission(plain_submission(name, tmp_path)[0]))
        for attempt in attempts:
            with pytest.raises(Transient):
                attempt()


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("openai", 429, {"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}}),
        ("openai", 400, {"error": {"message": "m", "type": "x", "code": "billing_hard_limit_reached"}}),
        ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error",
         "message": "Your credit balance is too low to access the Anthropic API."}}),
        ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error",
         "message": "You have reached your specified API usage limits."}}),
        ("gemini", 400, {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
         "status": "INVALID_ARGUMENT"}}),
        ("gemini", 400, {"error": {"code": 400, "message": "Please enable billing on your project.",
         "status": "FAILED_PRECONDITION"}}),
    ],
    indirect=["name"],
)  # fmt: skip
def test_trouble_with_the_account_stops_everything(name: ProviderName, tmp_path: Path, status: int, body: Any) -> None:
    assert type(refused_create(name, tmp_path, Canned(status, body))) is AccountRefused


def test_the_wait_that_the_provider_asks_for_is_passed_on(name: ProviderName, tmp_path: Path) -> None:
    def wait(value: str) -> float | None:
        error = refused_create(name, tmp_path, Canned(429, OWN[name]("slow"), {"Retry-After": value}))
        assert isinstance(error, Throttled)
        return error.retry_after

    assert [wait("12"), wait("1.5"), wait("-3"), wait("soon"), wait("nan")] == [12, 1.5, 0, None, None]
    in_a_minute = wait(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert in_a_minute and 50 < in_a_minute <= 60


def test_a_message_is_cut_and_never_shows_the_key(name: ProviderName, tmp_path: Path) -> None:
    error = refused_create(name, tmp_path, Canned(400, OWN[name](f"No {KEY}!\n" + "x" * 5_000)))
    assert KEY not in str(error) and "[key]" in str(error) and "\n" not in str(error)
    assert len(str(error)) == 300


def test_no_log_shows_a_prompt_or_a_key(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    for logger in ("openai", "anthropic", "google_genai", "httpx2", "httpcore2"):
        logging.getLogger(logger).setLevel(logging.DEBUG)  # as OPENAI_LOG=debug does
    caplog.set_level(logging.DEBUG)
    lab.provider = lab.adapter()
    canary = "canary-in-the-prompt"
    batch_id = lab.send(f"{canary} one", f"{canary} [[emulator:error=400]]")
    lab.end(batch_id)
    lab.lines(batch_id)
    lab.fault("batch_create", "refuse", status=500)
    with pytest.raises(Transient) as caught:
        lab.send(canary)
    assert canary not in caplog.text + str(caught.value)
    assert lab.account not in caplog.text


def test_an_account_is_named_or_made_from_what_pays(name: ProviderName) -> None:
    from nightbatch.providers import build

    made = build(name, api_key=KEY).account
    assert made == build(name, api_key=KEY).account and len(made) == 16 and KEY not in made
    others = {build(name, api_key="other").account, build(name, api_key=KEY, base_url="http://127.0.0.1:1").account}
    assert len({made, *others}) == 3
    assert {build(name, api_key=key, account="night shift").account for key in (KEY, "rotated")} == {"night shift"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_does_not_send_the_create_again(name: ProviderName, tmp_path: Path, status: int) -> None:
    with canned(Canned(status, b"", {"Location": "/elsewhere"})) as server, pytest.raises(Transient):
        try:
            adapter_for(name, server).submit(*plain_submission(name, tmp_path))
        finally:
            assert len(server.seen) == 1

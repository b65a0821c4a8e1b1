"""What is certain of a create or a call: by the bytes of the answer, and by how far the request has come."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from nightbatch.core import certainty
from nightbatch.core.errors import AccountRefused, ProviderError, Refused, Rejected, Throttled, Transient, Unreachable
from nightbatch.core.models import Prompt, ProviderName
from nightbatch.core.provider import BatchProvider
from nightbatch.providers import build
from tests.providers.bodies import MODELS, Json, error_body, list_of
from tests.providers.loopback import HTML, Reply, Server, Wire

STATUSES = [408, 409, 421, 425, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530, 529]


def asked(wire: Wire, reply: Reply, call: str) -> ProviderError:
    """What one create or realtime call raises for an answer; proves that it was one POST."""
    if call == "create":
        return wire.submit(reply)
    wire.server.say(reply)
    with pytest.raises(ProviderError) as caught:
        wire.provider.ask("j1_a1", MODELS[wire.name], "chat", Prompt("Hello."))
    assert wire.server.posts() == len(wire.server.seen) == 1
    return caught.value


@pytest.mark.fault(59)
@pytest.mark.parametrize("call", ["create", "ask"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_gateway_that_answers_in_the_providers_words_proves_nothing(wire: Wire, status: int, call: str) -> None:
    error = asked(wire, Reply(error_body(wire.name, status, "Overloaded", "overloaded_error"), status), call)
    assert certainty.of(error) == "in_doubt"


def cut(name: ProviderName, status: int) -> Iterator[Reply]:
    """The provider's own refusal, each time not as the provider sends it."""
    whole = Reply(error_body(name, status)).raw()
    yield Reply(whole[:-2], status)
    yield Reply(whole, status, short=3)
    yield Reply(whole, status, {"content-encoding": "gzip"})
    yield Reply(whole + b"<!-- proxy -->", status)
    yield Reply(b"", status)
    yield Reply({"detail": error_body(name, status)}, status)
    yield Reply(error_body(name, status) | {"proxy": "canary"}, status)
    yield Reply(error_body(name, status)["error"], status)


@pytest.mark.fault(59)
@pytest.mark.parametrize("call", ["create", "ask"])
@pytest.mark.parametrize("status", [400, 401, 404, 413, 429])
def test_a_refusal_that_is_not_whole_is_none(wire: Wire, status: int, call: str) -> None:
    for reply in cut(wire.name, status):
        assert certainty.of(asked(wire, reply, call)) == "in_doubt", reply


@pytest.mark.fault(59)
def test_the_status_in_a_gemini_refusal_is_that_of_the_answer() -> None:
    from nightbatch.providers.gemini import _said

    assert _said({"error": {"code": 400, "message": "no", "status": "X"}}, 400)
    assert _said({"error": {"code": 503, "message": "no", "status": "X"}}, 400) is None


@pytest.mark.fault(59)
def test_a_body_too_large_is_certain_at_the_upload_only(wire: Wire) -> None:
    assert certainty.of(wire.submit(Reply(b"<h1>413</h1>", 413, HTML))) == "in_doubt"
    if wire.name != "anthropic":
        submission, path = wire.submission()
        wire.server.say(Reply(b"<h1>413</h1>", 413, HTML))
        with pytest.raises(Refused) as caught:
            wire.provider.upload(submission, path)
        assert type(caught.value) is Refused and caught.value.status == 413


@pytest.mark.parametrize("status", [503, 529])
def test_an_overloaded_provider_itself_is_believed_of_a_call_only(
    monkeypatch: pytest.MonkeyPatch, name: ProviderName, server: Server, tmp_path: Any, status: int
) -> None:
    monkeypatch.setattr(f"nightbatch.providers.{name}.is_own_host", lambda url: True)
    wire = Wire(name, server, build(name, api_key="k", base_url=server.url), tmp_path)
    reply = Reply(error_body(name, status, "Overloaded", "overloaded_error"), status)
    assert type(asked(wire, reply, "ask")) is Throttled
    assert certainty.of(asked(wire, reply, "create")) == "in_doubt"
    assert certainty.of(asked(wire, Reply(b"upstream connect error", status, HTML), "ask")) == "in_doubt"


def attempts(provider: BatchProvider, wire: Wire) -> Iterator[ProviderError]:
    """What a create and a realtime call raise."""
    submission, path = wire.submission()
    with pytest.raises(ProviderError) as caught:
        provider.submit(submission, path)
    yield caught.value
    with pytest.raises(ProviderError) as caught:
        provider.ask("j1_a1", MODELS[wire.name], "chat", Prompt("Hello."))
    yield caught.value


@pytest.mark.fault(70)
def test_a_connection_that_is_refused_is_not_sent(wire: Wire) -> None:
    for error in attempts(build(wire.name, api_key="k", base_url="http://127.0.0.1:1"), wire):
        assert certainty.of(error) == "not_sent", error


@pytest.mark.fault(70)
def test_tls_that_fails_is_not_sent(wire: Wire) -> None:
    """The loopback server speaks none."""
    address = wire.server.url.replace("http:", "https:")
    wire.server.say(Reply())
    for error in attempts(build(wire.name, api_key="k", base_url=address), wire):
        assert type(error) is Unreachable
    assert wire.server.posts() == 0


@pytest.mark.fault(70)
def test_a_header_that_cannot_be_written_is_not_sent(wire: Wire) -> None:
    provider = build(wire.name, api_key="k", base_url=wire.server.url)
    wire.server.say(Reply())
    clients: Any = provider
    if wire.name == "gemini":
        clients._http.headers["x-goog-api-key"] = "a\nb"
        clients._client._api_client._http_options.headers["x-goog-api-key"] = "a\nb"
    else:
        (clients._once if wire.name == "openai" else clients._client).api_key = "a\nb"
    for error in attempts(provider, wire):
        assert type(error) is Unreachable
    assert wire.server.posts() == 0


@pytest.mark.fault(21)
def test_a_server_that_hangs_up_after_the_first_byte_leaves_it_in_doubt(wire: Wire) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            for _ in range(2):
                taken, _ = listening.accept()
                taken.recv(1)
                taken.close()

        threading.Thread(target=hang_up, daemon=True).start()
        provider = build(wire.name, api_key="k", base_url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        for error in attempts(provider, wire):
            assert type(error) is Transient


def account(name: ProviderName) -> Iterator[tuple[int, Json]]:
    """Trouble of the account, the address or the region, as each provider tells it."""

    def google(status: int, word: str, message: str, *details: Json) -> tuple[int, Json]:
        return status, {"error": {"code": status, "message": message, "status": word, "details": list(details)}}

    def claude(status: int, kind: str, message: str, code: str | None = None) -> tuple[int, Json]:
        details = {"details": {"error_code": code}} if code else {}
        return status, {"type": "error", "error": {"type": kind, "message": message} | details, "request_id": "r"}

    def openai(status: int, kind: str, code: str | None, message: str = "m") -> tuple[int, Json]:
        return status, {"error": {"message": message, "type": kind, "param": None, "code": code}}

    if name == "openai":
        yield openai(404, "invalid_request_error", None, "Invalid URL (POST /batches)")
        yield openai(400, "invalid_request_error", "billing_hard_limit_reached")
        yield openai(403, "request_forbidden", "unsupported_country_region_territory")
        yield openai(429, "insufficient_quota", "insufficient_quota")
        yield openai(429, "insufficient_quota", None)
    elif name == "anthropic":
        yield claude(400, "invalid_request_error", "This organization has been disabled.")
        yield claude(400, "invalid_request_error", "No.", "organization_on_hold")
        yield claude(400, "invalid_request_error", "Your credit balance is too low to access the API.")
        yield claude(429, "rate_limit_error", "Your organization has reached the spend limit.")
        yield claude(429, "rate_limit_error", "No.", "enforced_spend_limit_reached")
        yield claude(429, "rate_limit_error", "No.", "contract_spend_limit_reached")
        yield claude(402, "billing_error", "spend limit", "linked_organization_spend_limit_reached")
        yield claude(404, "not_found_error", "Not found.")
    else:
        yield google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
        yield google(400, "INVALID_ARGUMENT", "No.", {"reason": "API_KEY_INVALID"})
        yield google(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")
        yield google(400, "FAILED_PRECONDITION", "The free tier is not available. Please enable billing.")
        yield google(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key.")
        yield google(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its monthly spending cap.")


@pytest.mark.fault(64)
@pytest.mark.parametrize("call", ["create", "ask"])
def test_trouble_of_the_account_blames_no_job(wire: Wire, call: str) -> None:
    for status, body in account(wire.name):
        error = asked(wire, Reply(body, status), call)
        assert type(error) is AccountRefused, (body, error)


@pytest.mark.fault(64)
@pytest.mark.parametrize("status", [404, 405, 401, 403])
def test_a_base_url_behind_which_there_is_no_such_api_is_told_before_anything_is_sent(wire: Wire, status: int) -> None:
    submission, path = wire.submission()
    for body in (b"<h1>Not Found</h1>", {"detail": "Not Found"}):
        wire.server.say(Reply(body, status))
        with pytest.raises(AccountRefused):
            wire.provider.check()
        if wire.name != "anthropic":
            with pytest.raises(AccountRefused):
                wire.provider.upload(submission, path)


@pytest.mark.parametrize("name", ["anthropic"])
def test_a_rate_limit_is_none_of_the_account(wire: Wire) -> None:
    """Its words speak of the organisation too; a code goes before them."""
    words = "This request would exceed your organization's rate limit."
    for details in ({}, {"details": {"error_code": "ramp_limit_exceeded"}}):
        body = {"type": "error", "error": {"type": "rate_limit_error", "message": words} | details}
        assert type(wire.submit(Reply(body, 429))) is Throttled


@pytest.mark.parametrize("name", ["gemini"])
def test_a_name_that_is_none_of_a_model_costs_its_own_jobs(wire: Wire) -> None:
    for model in ("a?b", "../models/x", "a&b", "a#b", "a\nb"):
        with pytest.raises(Rejected):
            wire.provider.render("j1_a1", model, "chat", Prompt("Hello."))


HELD: list[dict[str, str]] = [
    {"Age": "1"},
    {"Age": "soon"},
    {"X-Cache": "HIT"},
    {"X-Cache": "Hit from cloudfront"},
    {"CF-Cache-Status": "HIT"},
    {"Cache-Status": "edge; hit; ttl=30"},
    {"Warning": '110 - "Response is Stale"'},
]


@pytest.mark.fault(21)
@pytest.mark.parametrize("held", HELD, ids=str)
def test_what_a_cache_has_held_proves_no_absence(wire: Wire, held: dict[str, str]) -> None:
    with pytest.raises(Transient, match="cache"):
        wire.find(Reply(list_of(wire.name), headers=held))
    assert {"no-cache"} == {
        line.partition(":")[2].strip()
        for seen in wire.server.seen
        for line in seen.headers.splitlines()
        if line.lower().startswith(("cache-control:", "pragma:"))
    }
    assert wire.find(Reply(list_of(wire.name), headers={"Age": "0", "X-Cache": "MISS"})) == []


@pytest.mark.fault(21)
def test_a_list_from_before_the_fence_proves_no_absence(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    old = format_datetime(datetime.now(UTC) - timedelta(seconds=100), usegmt=True)
    monkeypatch.setattr("http.server.BaseHTTPRequestHandler.date_time_string", lambda self, timestamp=None: old)
    with pytest.raises(Transient, match=r"Date: 10\d seconds ago"):
        wire.find(Reply(list_of(wire.name)))

"""Where requests and keys go: to the connection's own host, at the address that was looked at, and nowhere else."""

from __future__ import annotations

import gzip
import json
import socket
from typing import Any

import httpx2
import pytest

from nightbatch.core.errors import ConfigurationError, Transient, Unreachable
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import profile
from nightbatch.providers import build, http
from tests.providers.bodies import ended
from tests.providers.loopback import KEY, Reply, Server, Wire

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A name server of our own: each look takes the next address of a name, and the last one for ever."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name in known:
            host = known[name].pop(0) if len(known[name]) > 1 else known[name][0]
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


# -- addresses in answers


@pytest.mark.fault(73)
@pytest.mark.parametrize("prefix", ["", "/gateway/anthropic"])
def test_results_come_from_the_connections_host_whatever_the_answer_names(
    server: Server, elsewhere: Server, prefix: str
) -> None:
    line = b'{"custom_id": "j1_a7", "result": {"type": "canceled"}}\n'
    provider = build("anthropic", api_key=KEY, base_url=server.url + prefix)
    server.say(lambda method, path: Reply(line if path.endswith("results") else ended("anthropic", elsewhere.url)))
    elsewhere.say(Reply(line))
    assert [found.raw for found in provider.iter_results("batches/1")] == [line.strip()]
    assert elsewhere.seen == []
    assert server.seen[-1].path == f"{prefix}/v1/messages/batches/1/results"
    assert f"host: {httpx2.URL(server.url).netloc.decode()}" in server.seen[-1].headers.lower()


@pytest.mark.fault(73)
@pytest.mark.parametrize(
    "told", ["https://evil.example/a?b=c", "//evil.example/a?b=c", "http://user:pw@10.0.0.1:1/a?b=c"]
)
def test_another_hosts_address_gives_a_path_only(told: str) -> None:
    home = http.home_of("openai", "https://gateway.example:8443/v1/", None)
    assert str(home.at_home(httpx2.URL("https://gateway.example:8443/v1/").join(told))) == (
        "https://gateway.example:8443/v1/a?b=c"
    )


# -- sizes


@pytest.mark.fault(73)
@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
def test_a_line_that_unpacks_without_an_end_is_given_up(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setattr("nightbatch.providers.wire.MAX_BYTES", 1 << 20)
    body = b"a" * (64 << 20)
    for _ in encoding.split(","):
        body = gzip.compress(body, 1)
    with pytest.raises(Transient, match="more than 1,048,576 bytes"):
        wire.results(Reply(body, headers={"content-type": "text/plain", "content-encoding": encoding}))


@pytest.mark.fault(73)
def test_an_answer_that_unpacks_without_an_end_is_given_up(
    name: ProviderName, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_BYTES", 1 << 20)
    bomb = gzip.compress(json.dumps({"data": "a" * (64 << 20)}).encode(), 1)
    server.say(Reply(bomb, headers={"content-encoding": "gzip"}))
    with pytest.raises(Transient, match="more than 1,048,576 bytes"):
        build(name, api_key=KEY, base_url=server.url).check()


# -- the address that was looked at


@pytest.mark.fault(73)
def test_a_name_that_changes_its_address_is_not_called(
    name: ProviderName, server: Server, names: dict[str, list[str]]
) -> None:
    names["rebind.example"] = ["93.184.215.14", "127.0.0.1"]
    server.say(Reply())
    url = f"https://rebind.example:{httpx2.URL(server.url).port}"
    provider = build(name, api_key=KEY, base_url=url, allowed=frozenset())
    with pytest.raises(Unreachable, match="private or local address"):
        provider.check()
    assert server.seen == []


@pytest.mark.fault(73)
def test_the_call_goes_to_the_address_and_the_certificate_stays_the_names(names: dict[str, list[str]]) -> None:
    names["gateway.example"] = ["93.184.215.14"]
    home = http.home_of("openai", "https://gateway.example:8443/v1", frozenset())
    made = home.request(httpx2.Request("GET", "https://gateway.example:8443/v1/batches?limit=1"))
    assert str(made.url) == "https://93.184.215.14:8443/v1/batches?limit=1"
    assert made.headers["host"] == "gateway.example:8443"
    assert made.extensions["sni_hostname"] == "gateway.example"


def test_an_allowed_host_in_the_own_network_is_called_over_http(
    name: ProviderName, server: Server, names: dict[str, list[str]]
) -> None:
    names["gateway.lan"] = ["127.0.0.1"]
    server.say(Reply({"object": "list", "data": [], "has_more": False} if name != "gemini" else {}))
    url = f"http://gateway.lan:{httpx2.URL(server.url).port}"
    build(name, api_key=KEY, base_url=url, allowed={"gateway.lan"}).check()
    assert f"host: gateway.lan:{httpx2.URL(server.url).port}" in server.seen[0].headers.lower()
    names["gateway.lan"] = ["93.184.215.14"]  # over http, an allowed host is private or not called
    with pytest.raises(Unreachable, match="must begin with https"):
        build(name, api_key=KEY, base_url=url, allowed={"gateway.lan"}).check()


def test_the_base_url_of_the_environment_is_checked_too(name: ProviderName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(profile(name).base_url_variable, "https://127.0.0.1/v1")
    with pytest.raises(ConfigurationError, match="private or local address"):
        build(name, api_key=KEY, allowed=frozenset())


# -- proxies


def test_behind_a_proxy_the_proxy_looks_for_the_address_and_the_name_is_checked(
    name: ProviderName, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", server.url)
    server.say(Reply(status=502))  # no tunnel here: what was asked for is what counts
    build_and_check(name, "https://gateway-that-is-nowhere.example/v1")
    assert {asked.path for asked in server.seen} == {"gateway-that-is-nowhere.example:443"}
    for url in (
        "https://localhost/v1",
        "https://127.1/v1",
        "https://169.254.169.254/v1",
        "https://metadata.internal/v1",
    ):
        with pytest.raises(ConfigurationError, match="private or local address"):
            build(name, api_key=KEY, base_url=url, allowed=frozenset())


def build_and_check(name: ProviderName, url: str) -> None:
    with pytest.raises(Transient):
        build(name, api_key=KEY, base_url=url, allowed=frozenset()).check()


def test_a_host_of_no_proxy_is_called_without_it(name: ProviderName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", ".example,10.0.0.1")
    assert http.home_of(name, "https://gateway.example/v1", None).proxy is None
    assert http.home_of(name, "https://gateway.elsewhere/v1", None).proxy == "http://127.0.0.1:1"


# -- keys


@pytest.mark.fault(70)
@pytest.mark.parametrize("around", ["\n", "\r\n", " ", "\t", "\u200b", "\ufeff", "\xa0"])
def test_what_stands_around_a_key_is_no_part_of_it(name: ProviderName, server: Server, around: str) -> None:
    server.say(Reply({"object": "list", "data": [], "has_more": False} if name != "gemini" else {}))
    provider = build(name, api_key=f"{around}{KEY}{around}", base_url=server.url)
    provider.check()
    assert KEY in server.seen[0].headers
    assert provider.account == build(name, api_key=KEY, base_url=server.url).account


@pytest.mark.fault(70)
@pytest.mark.parametrize("inside", ["\n", "\r", " ", "\0", "\u200b", "ü", "…", "\x7f"])
def test_a_key_that_no_header_may_hold_is_refused_before_anything_is_sent(name: ProviderName, inside: str) -> None:
    with pytest.raises(ConfigurationError, match=f"key of {name} holds a character.*copy the key again") as refused:
        build(name, api_key=f"sk-canary{inside}secret")
    assert "canary" not in str(refused.value) and "secret" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="is empty"):
        build(name, api_key=" \n")

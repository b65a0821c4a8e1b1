"""A URL leads out into the world, or nowhere, unless its host was allowed by name."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import pytest

from nightbatch.core import allowed_hosts
from nightbatch.core.errors import ConfigurationError, Transient


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "224.0.0.1", "255.255.255.255",
        "169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "fec0::1",
        "fd00:ec2::254", "ff02::1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_private_local_and_metadata_addresses_are_not_public(address: str) -> None:
    assert not allowed_hosts.is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_world_are_public(address: str) -> None:
    assert allowed_hosts.is_public(ip_address(address))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A name server of our own; it also counts: a name that was looked up gets an entry ``looked:<name>``."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def look_up(host: str, port: int, **options: Any) -> Any:
        known.setdefault(f"looked:{host}", []).append("once")
        if host not in known:
            return real(host, port, flags=socket.AI_NUMERICHOST, **options)
        return [answer for one in known[host] for answer in real(one, port, flags=socket.AI_NUMERICHOST, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/v1", "http://[::1]/v1", "http://2130706433/", "http://0x7f.1/", "http://127.1/",
        "http://169.254.169.254/latest/meta-data/", "https://inside.example/", "https://both.example/",
        "https://user:password@inside.example/", "https://api.openai.com.inside.example/", "https://openai.com@127.0.0.1/",
    ],
)  # fmt: skip
def test_a_base_url_into_the_own_network_is_refused(names: dict[str, list[str]], url: str) -> None:
    names |= {host: ["10.0.0.1"] for host in ("inside.example", "api.openai.com.inside.example")}
    names["both.example"] = ["8.8.8.8", "10.0.0.1"]
    with pytest.raises(ConfigurationError, match=r"private or local address.*NIGHTBATCH_ALLOWED_HOSTS") as refused:
        allowed_hosts.check_base_url(url, frozenset())
    assert "password" not in str(refused.value)


@pytest.mark.fault(73)
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1\\@api.openai.com", "http://127.0.0.1%2f.api.openai.com", "http://127.0.0.1%00.api.openai.com",
        "http://127.0.0.1;.api.openai.com", "http://127.0.0.1\t.api.openai.com", "http://169.254.169.254\\.api.openai.com/",
        "http://①②⑦.0.0.1", "http://127。0。0。1", "http://[fe80::1%25eth0]", "file:///etc/passwd", "gopher://127.0.0.1",
        "//127.0.0.1", "http://:80", "https://", "https://a@b@127.0.0.1", "https://example.com:99999", "https://exämple.com",
        "https://example.com/a b", "api.openai.com",
    ],
)  # fmt: skip
def test_a_url_that_two_parsers_could_read_in_two_ways_is_none(url: str) -> None:
    for proxied in (False, True):
        with pytest.raises(ConfigurationError, match="must be a whole one"):
            allowed_hosts.check_base_url(url, frozenset(), proxied=proxied)


@pytest.mark.fault(73)
@pytest.mark.parametrize("host", ["api.openai.com", "eu.api.openai.com", "example.com", "8.8.8.8", "gateway.internal"])
def test_over_http_only_allowed_hosts_at_private_addresses_are_called(names: dict[str, list[str]], host: str) -> None:
    names |= {"gateway.internal": ["10.0.0.1"], "example.com": ["93.184.215.14"], "api.openai.com": ["93.184.215.14"]}
    with pytest.raises(ConfigurationError, match="must begin with https"):
        allowed_hosts.check_base_url(f"http://{host}/v1", frozenset())
    if host == "gateway.internal":
        allowed_hosts.check_base_url(f"http://{host}/v1", {host})
        assert allowed_hosts.to_call(f"http://{host}/v1", {host}) == "10.0.0.1"
    elif host in names or host == "8.8.8.8":
        with pytest.raises(ConfigurationError, match="must begin with https"):
            allowed_hosts.to_call(f"http://{host}/v1", {host})


def test_an_allowed_host_may_be_anywhere_and_is_not_looked_up(names: dict[str, list[str]]) -> None:
    allowed = allowed_hosts.hosts(" 127.0.0.1, Gateway.internal ,::1,")
    assert allowed == {"127.0.0.1", "gateway.internal", "::1"}
    for url in ("http://127.0.0.1:1/v1", "https://GATEWAY.internal./x", "http://[::1]:8080"):
        allowed_hosts.check_base_url(url, allowed)
    assert names == {}
    with pytest.raises(ConfigurationError):
        allowed_hosts.check_base_url("http://127.0.0.2:1/v1", allowed)


def test_the_providers_own_hosts_are_not_looked_up(names: dict[str, list[str]]) -> None:
    for host in ("api.openai.com", "eu.api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com"):
        allowed_hosts.check_base_url(f"https://{host}/v1", frozenset())
    assert names == {}


def test_a_public_host_is_looked_up_and_passes(names: dict[str, list[str]]) -> None:
    names["llm.example"] = ["8.8.8.8"]
    allowed_hosts.check_base_url("https://llm.example/v1", frozenset())
    assert names["looked:llm.example"] == ["once"]


def test_the_address_to_connect_to_comes_from_the_one_look_up(names: dict[str, list[str]]) -> None:
    names["gateway.internal"] = ["127.0.0.9"]
    assert allowed_hosts.connectable("gateway.internal", 443, {"gateway.internal"}) == "127.0.0.9"
    assert names["looked:gateway.internal"] == ["once"]


def test_a_name_without_an_address_may_have_one_later(names: dict[str, list[str]]) -> None:
    with pytest.raises(Transient, match=r"'nowhere\.example' cannot be resolved"):
        allowed_hosts.check_base_url("https://nowhere.example", frozenset())


@pytest.mark.parametrize(
    "url", ["", "localhost:8080/v1", "file:///etc/passwd", "https://", "http://[::1", "http://h:99999"]
)
def test_what_is_no_url_is_said_to_be_none_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must be a whole one, like https://api\.example\.com/v1\.$"):
        allowed_hosts.check_base_url(url, frozenset())

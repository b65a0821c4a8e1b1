"""What a connection adds to its requests, and the way that they go: extra headers, proxies, certificates."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from nightbatch.core.errors import ConfigurationError, Transient, Unreachable
from nightbatch.core.models import Prompt, ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.core.provider import BatchProvider
from nightbatch.providers import build, way
from nightbatch.providers.extras import Wire, read_extras, read_webhook
from nightbatch_local.emulator.process import EmulatorProcess
from tests.providers.bodies import list_of
from tests.providers.certificates import Authority, authority
from tests.providers.lab import Lab
from tests.providers.loopback import KEY, Reply, Server, serve
from tests.providers.proxies import Proxy, proxying

VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
BETA = "output-300k-2026-03-24"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


@pytest.fixture(params=["http", "socks5"])
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    with proxying(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"), "gateway.example")


@pytest.fixture
def gateway(ca: Authority) -> Iterator[Server]:
    """Of a host that only proxies know, with a certificate of our own CA."""
    with serve(ca.server) as server:
        server.say(lambda method, path: Reply(list_of("gemini" if "v1beta" in path else "openai")))
        server.url = server.url.replace("127.0.0.1", "gateway.example")
        yield server


def kind_of(proxy: Proxy, request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["proxy"])


# -- headers


class Through(Lab):
    """An adapter whose every request goes through a proxy that can read it."""

    wire = Wire()

    def adapter(self, key: str | None = None) -> BatchProvider:
        url = str(getattr(self.emulator, f"{self.name}_url"))
        return build(self.name, api_key=key or f"emu-{self.account}", base_url=url, wire=self.wire)


def every_call(lab: Lab) -> None:
    """A whole life, with all that an adapter can ask."""
    provider = lab.provider
    provider.check()
    submission, path = lab.uploaded()
    batch_id = provider.submit(submission, path)
    provider.find_submission(submission)
    since = datetime.now(UTC) - timedelta(days=1)
    assert list(provider.list_batches(since))
    asyncio.run(provider.list_states([batch_id], since=since, pages=1))
    lab.end(batch_id)
    assert len(list(provider.iter_results(batch_id))) == 2
    provider.ask("j1_a7", submission.model, "chat", Prompt("One."))
    provider.delete_files(submission, batch_id)
    provider.cancel(lab.send("Three."))
    provider.fence(submission)


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_every_request_of_an_adapter_carries_its_headers_and_goes_through_its_proxy(
    name: ProviderName, emulator: EmulatorProcess, tmp_path: Path, kind: str
) -> None:
    with proxying(kind) as proxy:
        lab = Through.__new__(Through)
        extra = {"headers": {"X-Gateway-Team": "search", "anthropic-beta": BETA}, "proxy": f"{kind}://{proxy.host}"}
        if name == "openai":
            extra |= {"organization": "org-1", "project": "proj-1"}
        lab.wire = read_extras(name, "c", json.dumps(extra)).wire
        Lab.__init__(lab, emulator, name, tmp_path)
        every_call(lab)
        heads = proxy.heads()
        reached = [seen for seen in emulator.log(lab.account) if seen["operation"]]
    assert (
        len(heads) >= len(reached) >= 12
    )  # pieces of Gemini's uploads carry no key, so the log does not know whose they are
    for head in heads:
        assert "x-gateway-team: search\r\n" in head and f"anthropic-beta: {BETA}\r\n" in head
        if name == "openai":
            assert "openai-organization: org-1\r\n" in head and "openai-project: proj-1\r\n" in head
    assert "x-gateway" not in repr(lab.wire) and proxy.host not in repr(lab.wire), "they may be secrets"


# -- who pays


def test_the_account_of_a_connection_without_extras_is_what_it_always_was() -> None:
    made = {name: build(name, api_key="k").account for name in BUILT_IN}
    assert made == {"openai": "2899db27a96796bb", "anthropic": "ec369f9df92eacc4", "gemini": "3654345a19f6882d"}
    wire = Wire(headers={"anthropic-beta": BETA, "x-team": "search"}, proxy="http://127.0.0.1:1")
    assert {name: build(name, api_key="k", wire=wire).account for name in BUILT_IN} == made


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("openai", {"organization": "org-1"}),
        ("openai", {"project": "proj-1"}),
        ("openai", {"openai_client_kwargs": {"project": "proj-1", "organization": "org-1"}}),
        ("anthropic", {"headers": {"Anthropic-Workspace-Id": "wrkspc_1"}}),
        ("gemini", {"default_headers": {"X-Goog-User-Project": "project-1"}}),
    ],
)
def test_what_decides_who_pays_is_a_part_of_the_account(name: ProviderName, extra: dict[str, Any]) -> None:
    wire = read_extras(name, "c", json.dumps(extra)).wire
    assert build(name, api_key="k", wire=wire).account != build(name, api_key="k").account
    assert build(name, api_key="k", wire=wire, account="ours").account == "ours"


def test_the_environment_names_openais_organization_and_project_and_a_connection_goes_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_connection = build("openai", api_key="k", wire=Wire("org-1", "proj-1")).account
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    assert build("openai", api_key="k").account == by_connection
    assert build("openai", api_key="k", wire=Wire("org-2", "proj-2")).account != by_connection
    by_header = {"headers": {"OpenAI-Organization": "org-1", "openai-project": "proj-1"}}
    assert read_extras("openai", "c", json.dumps(by_header)).wire == Wire("org-1", "proj-1")


# -- extras that are refused


@pytest.mark.parametrize(
    ("name", "extra", "words"),
    [
        ("openai", "no json", "extra of the connection 'c' is no JSON object"),
        ("openai", ["account"], "is no JSON object"),
        ("openai", {"organisation": "o"}, "'organisation' of the connection 'c' is not known: is 'organization' meant"),
        ("openai", {"openai_client_kwargs": {"default_query": {}}}, "'openai_client_kwargs.default_query'"),
        ("openai", {"openai_client_kwargs": "{"}, "'openai_client_kwargs' .* is no JSON object"),
        ("openai", {"auth_type": "workload_identity"}, "'auth_type' .* names another way in"),
        ("openai", {"organization": "o", "headers": {"OpenAI-Organization": "p"}}, "'organization' .* given twice"),
        ("openai", {"project": "a\nb"}, "'project' .* line break"),
        ("openai", {"project": 7}, "'project' .* must be text"),
        ("anthropic", {"project": "p"}, "'project' .* is not known"),
        ("anthropic", {"platform": "bedrock"}, "'platform' .* names another way in"),
        ("anthropic", {"header": {}}, "is 'headers' meant"),
        ("gemini", {"gemini_client_kwargs": {"vertexai": True}}, "'gemini_client_kwargs.vertexai' .* is not known"),
        ("gemini", {"account": 7}, "'account' .* must be text"),
        ("gemini", {"headers": "a: b"}, "'headers' .* is no JSON object"),
        ("gemini", {"headers": {"x-a": "v\r\nx-goog-api-key: k"}}, "'headers.x-a' .* line break"),
        ("gemini", {"headers": {"x-a": "ü"}}, "'headers.x-a'"),
        ("gemini", {"headers": {"x-a": 1}}, "'headers.x-a' .* must be text"),
        ("gemini", {"headers": {"x-a": ""}}, "'headers.x-a' .* is empty"),
        ("gemini", {"headers": {"x a": "v"}}, "'headers' .* a name that no header may have"),
        ("gemini", {"headers": {"x-a": "1"}, "default_headers": {"X-A": "2"}}, "given twice, with different values"),
        ("gemini", {"verify": False}, "'verify' .* would believe any certificate"),
        ("gemini", {"verify": "false"}, "'verify' .* would believe any certificate"),
        ("gemini", {"verify": "/a", "ca_file": "/b"}, "'ca_file' .* given twice"),
        ("gemini", {"proxy": 3128}, "'proxy' .* must be text"),
        *(
            ("openai", {"headers": {header: "canary"}}, f"'headers.{header}' .* may not be set")
            for header in (
                *("Authorization", "X-Api-Key", "x-goog-api-key", "api-key", "Host", "Content-Length", "Content-Type"),
                *("Cookie", "Transfer-Encoding", "Connection", "Proxy-Authorization", "Idempotency-Key", "Range", "TE"),
            )
        ),
    ],
)
def test_an_extra_that_cannot_be_meant_is_refused_in_words(name: ProviderName, extra: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as refused:
        read_extras(name, "c", extra if isinstance(extra, str) else json.dumps(extra))
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "extra", [None, "", " ", "{}", '{"account": null, "headers": null, "proxy": "", "ca_file": ""}']
)
def test_an_empty_extra_says_nothing(name: ProviderName, extra: str | None) -> None:
    assert read_extras(name, "c", extra).wire == Wire()


def test_extras_as_airflows_own_providers_forms_and_uris_give_them() -> None:
    openai = {
        "auth_type": "api_key",
        "openai_client_kwargs": {
            "api_key": "k", "base_url": "https://a", "timeout": 30, "max_retries": 5, "project": "p",
            "default_headers": {"X-Team": "a"},
        },
    }  # fmt: skip
    read = read_extras("openai", "c", json.dumps(openai))
    assert (read.api_key, read.base_url, read.wire) == ("k", "https://a", Wire(None, "p", {"x-team": "a"}))
    anthropic = {
        "platform": "anthropic",
        "model": "claude-x",
        "region": None,
        "headers": '{"x-team": "a"}',
        "verify": "true",
    }
    assert read_extras("anthropic", "c", json.dumps(anthropic)).wire == Wire(headers={"x-team": "a"})
    old = {"extra__gemini__account": "ours", "verify": "/ca.pem"}
    read = read_extras("gemini", "c", json.dumps(old))
    assert (read.account, read.wire) == ("ours", Wire(ca_file="/ca.pem"))


def test_a_webhook_may_have_a_key_in_a_header_and_no_account() -> None:
    assert read_webhook("c", '{"headers": {"Authorization": "Bearer a"}}').headers == {"authorization": "Bearer a"}
    refused: list[dict[str, Any]] = [{"account": "a"}, {"headers": {"webhook-id": "1"}}, {"header": {}}]
    for extra in refused:
        with pytest.raises(ConfigurationError, match="connection 'c'"):
            read_webhook("c", json.dumps(extra))


# -- proxies


@pytest.mark.parametrize(
    ("no_proxy", "direct", "proxied"),
    [
        ("gateway.example", ("gateway.example", "GATEWAY.example.", "a.gateway.example"), ("agateway.example",)),
        (".example.com", ("example.com", "a.example.com"), ("notexample.com",)),
        ("*.example.com", ("a.example.com",), ("example.com", "b.com")),
        ("a.com b.com,  c.com", ("a.com", "b.com", "c.com"), ("d.com",)),
        ("*", ("anything.example", "10.0.0.1", "[::1]"), ()),
        ("localhost,*", ("anything.example",), ()),
        ("a.com:8443", ("a.com:8443", "b.a.com:8443"), ("a.com", "a.com:444")),
        ("a.com:443", ("a.com", "a.com:443"), ("a.com:8443",)),
        ("https://a.com/", ("a.com",), ("b.com",)),
        ("10.0.0.0/8", ("10.1.2.3", "10.1.2.3:8443", "[::ffff:10.0.0.1]"), ("11.0.0.1", "ten.example", "[fd00::1]")),
        ("10.1.2.3/8", ("10.9.9.9",), ("11.0.0.1",)),
        ("10.0.0.0/8:8443", ("10.1.2.3:8443",), ("10.1.2.3",)),
        ("fd00::/8", ("[fd12:3456::1]",), ("[fe80::1]", "10.0.0.1")),
        ("[fd00::]/8", ("[fd12:3456::1]",), ("[fe80::1]",)),
        ("::1", ("[::1]", "[0:0:0:0:0:0:0:1]", "[::1]:8443"), ("[::2]",)),
        ("[::1]", ("[::1]",), ("[::2]",)),
        ("[::1]:8443", ("[::1]:8443",), ("[::1]",)),
        ("10.0.0.1", ("10.0.0.1",), ("10.0.0.10", "110.0.0.1")),
        ("192.168.*", ("192.168.1.1",), ("192.16.8.1",)),
        (",, ,.", (), ("a.com",)),
    ],
)  # fmt: skip
def test_no_proxy_names_hosts_suffixes_ports_addresses_and_networks(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, direct: tuple[str, ...], proxied: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, no_proxy)
        found = {host: way.proxy_to(httpx2.URL(f"https://{host}/v1")) for host in (*direct, *proxied)}
        assert [host for host in found if found[host] is None] == list(direct)
        monkeypatch.delenv(variable)


def test_a_network_that_is_none_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    for entry in ("10.0.0.0/99", "fd00::/200", "a.com/8"):
        monkeypatch.setenv("NO_PROXY", entry)
        with pytest.raises(ConfigurationError, match=f"NO_PROXY holds '{entry}', which is no network"):
            way.proxy_to(httpx2.URL("https://10.0.0.1/v1"))


def test_the_proxy_is_the_connections_else_the_schemes_else_all(monkeypatch: pytest.MonkeyPatch) -> None:
    url = httpx2.URL("https://api.example/v1")
    monkeypatch.setenv("HTTP_PROXY", "http://plain:1")
    assert way.proxy_to(url) is None
    monkeypatch.setenv("ALL_PROXY", "socks://all:1")
    assert way.proxy_to(url) == "socks5://all:1"
    monkeypatch.setenv("https_proxy", "secure:1")
    assert way.proxy_to(url) == "http://secure:1"
    monkeypatch.setenv("NO_PROXY", "*")
    assert way.proxy_to(url) is None
    assert way.proxy_to(url, given="socks5h://own:1") == "socks5h://own:1"


@pytest.mark.parametrize(
    "told",
    ["socks4://h:1", "ftp://h:1", "http://", "http://:3128", "socks5://u:p#canary@h:1", "http://h:99999", "://h"],
)
def test_a_proxy_that_cannot_be_used_is_refused_in_words(
    name: ProviderName, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"proxy of the connection \(extra proxy\) cannot be used") as refused:
        build(name, api_key=KEY, wire=Wire(proxy=told))
    monkeypatch.setenv("ALL_PROXY", told)
    with pytest.raises(ConfigurationError, match=r"proxy of the environment.*cannot be used"):
        build(name, api_key=KEY)
    assert "canary" not in str(refused.value)


def test_a_connection_leads_to_no_private_proxy_unless_it_is_allowed(name: ProviderName) -> None:
    wire = Wire(proxy="http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"'127\.0\.0\.1' leads to a private"):
        build(name, api_key=KEY, allowed=frozenset(), wire=wire)
    build(name, api_key=KEY, allowed={"127.0.0.1"}, wire=wire)


def test_a_proxy_gets_the_user_and_password_of_its_url_from_the_sync_and_the_async_client(
    name: ProviderName, proxy: Proxy, gateway: Server, ca: Authority, request: pytest.FixtureRequest
) -> None:
    port = httpx2.URL(gateway.url).port
    told = f"{kind_of(proxy, request)}://an%40user:p%3Aw@{proxy.host}"
    wire = Wire(ca_file=str(ca.ca_file), proxy=told)
    provider = build(name, api_key=KEY, base_url=gateway.url, allowed={"127.0.0.1"}, wire=wire)
    provider.check()
    asyncio.run(provider.list_states(["b"], since=datetime.now(UTC), pages=1))
    assert proxy.asked == [f"gateway.example:{port}"] * 2
    assert proxy.logins == ["an@user:p:w"] * 2
    assert len(gateway.seen) == 2 and proxy.heads() == [], "what goes through is encrypted to the host"


def test_a_proxy_that_refuses_is_quoted_and_nothing_was_sent(name: ProviderName) -> None:
    for kind, answer, words in (
        ("http", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication Required"),
        ("socks5", b"HTTP/1.1 400 What?\r\n\r\n", "proxy on the way says"),
        ("socks5", b"\x05\xff", "proxy on the way says"),
        ("socks5", b"\x05", "does not speak SOCKS 5"),
        ("socks5", b"", "was not reached"),
    ):
        with proxying(kind) as proxy:
            proxy.answer = answer or b"\x00"
            provider = build(
                name, api_key=KEY, base_url="https://a.example/v1", wire=Wire(proxy=f"{kind}://{proxy.host}")
            )
            with pytest.raises(Unreachable, match=words):
                provider.check()


# -- certificates


@pytest.mark.parametrize("variable", [None, "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_ca_of_ones_own_is_believed_where_it_is_named_and_nowhere_else(
    name: ProviderName, gateway: Server, ca: Authority, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    with proxying("http") as proxy:  # which knows the name
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        stranger = build(name, api_key=KEY, base_url=gateway.url)
        with pytest.raises(Unreachable, match="its certificate is not one that is believed here"):
            stranger.check()
        with pytest.raises(Transient, match="its certificate is not one that is believed here"):
            asyncio.run(stranger.list_states(["b"], since=datetime.now(UTC), pages=1))
        assert gateway.seen == []
        if variable:
            monkeypatch.setenv(variable, str(ca.ca_file))
        provider = build(
            name, api_key=KEY, base_url=gateway.url, wire=Wire(ca_file=None if variable else str(ca.ca_file))
        )
        provider.check()
        asyncio.run(provider.list_states(["b"], since=datetime.now(UTC), pages=1))
        assert len(gateway.seen) == 2


def test_a_file_without_certificates_is_refused_in_words(
    name: ProviderName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")
    for path, why in ((empty, "there is none in it"), (tmp_path / "nowhere.pem", "No such file")):
        with pytest.raises(ConfigurationError, match=f"extra ca_file names no certificates.*{why}"):
            build(name, api_key=KEY, wire=Wire(ca_file=str(path)))
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(ConfigurationError, match=f"SSL_CERT_FILE names no certificates.*{why}"):
            build(name, api_key=KEY)
        monkeypatch.delenv("SSL_CERT_FILE")


def test_an_error_after_the_handshake_is_not_taken_for_the_proxy_s() -> None:
    """Else a create that was sent would count as not sent, and be sent again."""
    with pytest.raises(ValueError, match="later"), way.through_proxy("socks5://127.0.0.1:1"):
        raise ValueError("later")

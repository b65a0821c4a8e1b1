"""Which hosts may be called: a URL must not lead into the network that the workers stand in, or to a cloud's metadata."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from nightbatch.core.errors import ConfigurationError, Transient
from nightbatch.core.profiles import profiles

Address = IPv4Address | IPv6Address

WHOLE_URL = "A base URL must be a whole one, like https://api.example.com/v1."
_PLAIN = (
    "A base URL must begin with https://. With http:// only a host at a private or local address is called, if it is in"
    " NIGHTBATCH_ALLOWED_HOSTS: key and prompts could be read on the way to any other."
)
_SHAPE = re.compile(
    r"(?P<scheme>https?)://(?:[^@/?#\\\s]*@)?(?P<host>[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?(?:[/?#][^\\\s]*)?",
    re.ASCII | re.IGNORECASE,
)

_UNICAST = IPv6Network("2000::/3")  # all that is ever routed: iana.org/assignments/ipv6-address-space
_NAT64 = IPv6Network("64:ff9b::/96")
_INSIDE = [
    # Azure's platform address, which answers inside every machine there, and looks like a public one:
    # learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16
    ip_network("168.63.129.16/32"),
    # Special by iana.org/assignments/iana-ipv4-special-registry, and public to Python before 3.11.10 (gh-113171):
    ip_network("192.0.0.0/24"),
    # 6to4 leads to whatever IPv4 address it holds, and is public to the same Pythons: RFC 3056
    ip_network("2002::/16"),
]


def hosts(setting: str) -> frozenset[str]:
    """Return the hosts in ``NIGHTBATCH_ALLOWED_HOSTS``: names or addresses with commas between them."""
    return frozenset(_plain(host) for host in setting.split(",") if host.strip())


def is_public(address: Address) -> bool:
    """Return whether an address can be reached from everywhere, not only from the same network."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:  # how a network without IPv4 reaches the rest of the world
            return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
        if address not in _UNICAST:
            return False
    elif address.is_multicast:
        return False
    return address.is_global and not any(address in network for network in _INSIDE)


def check_base_url(url: str, allowed: Collection[str], *, proxied: bool = False) -> None:
    """Raise `ConfigurationError` for a provider's URL whose address is not public and whose host is not ``allowed``.

    Over http:// only allowed hosts at private addresses are called: key and prompts could be read on the way. The provider's
    own hosts and allowed ones are not looked up, nor is any name where a proxy does that (``proxied``). Raises `Transient`
    for a name that cannot be resolved.
    """
    scheme, host, port = _parts(url)
    if scheme == "http":
        number = _number(host)
        if host not in allowed or (number is not None and is_public(number)):
            raise ConfigurationError(_PLAIN)
    elif not _is_trusted(host, allowed):
        if proxied:
            check_name(host, allowed)
        else:
            connectable(host, port, allowed)


def check_name(host: str, allowed: Collection[str]) -> None:
    """Raise `ConfigurationError` for a host whose name or number is private and not ``allowed``; a proxy looks the name up."""
    host = _plain(host)
    number = _number(host)
    if host not in allowed and (_is_local(host) if number is None else not is_public(number)):
        raise _private(host)


def to_call(url: str, allowed: Collection[str]) -> str | None:
    """Return the address at which the host of a base URL may be called in this moment; None if it may be called by name.

    Raises `ConfigurationError` as `check_base_url` does, and `Transient`.
    """
    scheme, host, port = _parts(url)
    if scheme == "https":
        return None if _is_trusted(host, allowed) else connectable(host, port, allowed)
    found = _looked_up(host, port)
    if host not in allowed or any(is_public(address) for address in found):
        raise ConfigurationError(_PLAIN)
    return str(found[0])


def is_own_host(url: str) -> bool:
    """Return whether a URL leads to the provider itself: nobody on the way can answer in its place, as a gateway would."""
    try:
        scheme, host, _ = _parts(url)
    except ConfigurationError:
        return False
    return scheme == "https" and _is_official(host)


def _is_official(host: str) -> bool:
    """Return whether a host is a provider's own, as eu.api.openai.com: it is called without a look at its address."""
    return any(is_at(host, facts.own_host) for facts in profiles().values())


def is_at(host: str, own: str) -> bool:
    """Return whether a host is another one, or a subdomain of it."""
    return host == own or host.endswith(f".{own}")


def connectable(host: str, port: int, allowed: Collection[str]) -> str:
    """Return the address to connect to for a host. Connect to no other: a second look-up may give another one.

    Raises `ConfigurationError` unless every address of the host is public or the host is ``allowed``, and `Transient` if it
    has none.
    """
    found = _looked_up(host, port)
    if _plain(host) not in allowed and not all(is_public(address) for address in found):
        raise _private(host)
    return str(found[0])


def _looked_up(host: str, port: int) -> list[Address]:
    try:
        return [ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise Transient(f"The host {host!r} cannot be resolved.") from None


def _private(host: str) -> ConfigurationError:
    return ConfigurationError(
        f"The host {host!r} leads to a private or local address, and is not called. If that is what you want, add it to"
        " NIGHTBATCH_ALLOWED_HOSTS (names with commas between them)."
    )


def _is_trusted(host: str, allowed: Collection[str]) -> bool:
    return host in allowed or _is_official(host)


def _is_local(name: str) -> bool:
    """Return whether a name has a meaning only inside one's own network."""
    return "." not in name or name.endswith((".localhost", ".local", ".internal", ".lan", ".home.arpa"))


def _number(host: str) -> Address | None:
    """Return the address that a host already is, also if written as 127.1 or 0x7f000001; None for a name."""
    try:
        return ip_address(host) if ":" in host else ip_address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _parts(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL. Raises `ConfigurationError`, without the URL: a secret may stand in it.

    Only what every parser takes for the same host is accepted: the client that calls uses another parser.
    """
    shape = _SHAPE.fullmatch(url.strip())
    if shape is None or int(shape["port"] or 1) not in range(1, 65536):
        raise ConfigurationError(WHOLE_URL)
    scheme = shape["scheme"].lower()
    return scheme, _plain(shape["host"]), int(shape["port"] or {"http": 80, "https": 443}[scheme])


def _plain(host: str) -> str:
    return host.strip().strip("[]").rstrip(".").lower()

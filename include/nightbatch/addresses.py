"""Which hosts may be called: a URL must not lead into the network that the workers stand in, or to a cloud's metadata."""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from nightbatch.errors import ConfigurationError, Transient

Address = IPv4Address | IPv6Address

_OFFICIAL = ("api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com")
"""The providers' own, subdomains included (eu.api.openai.com): they are called without a look at their addresses."""

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
    """``NIGHTBATCH_ALLOWED_HOSTS``, names or addresses with commas between them."""
    return frozenset(_plain(host) for host in setting.split(",") if host.strip())


def is_public(address: Address) -> bool:
    """Whether anybody could be asked at this address, not only who stands in the same network."""
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


def check_base_url(url: str, allowed: Collection[str]) -> None:
    """Raises `ConfigurationError` for a provider's URL that leads to an address which is not public, and is not ``allowed``.

    The provider's own hosts and allowed ones are not looked up. Raises `Transient` for a name that cannot be resolved.
    """
    host, port = _parts(url)
    if not _is_official(host) and host not in allowed:
        connectable(host, port, allowed)


def is_own_host(url: str) -> bool:
    """Whether a URL leads to the provider itself: nobody on the way can answer in its place, as a gateway would."""
    parts = urlsplit(url)
    return parts.scheme == "https" and _is_official(_plain(parts.hostname or ""))


def _is_official(host: str) -> bool:
    return any(host == own or host.endswith(f".{own}") for own in _OFFICIAL)


def connectable(host: str, port: int, allowed: Collection[str]) -> str:
    """The address to connect to for this host: connect to it and to no other, or a second look-up may say otherwise.

    Raises `ConfigurationError` unless every address of the host is public or the host is ``allowed``, and `Transient` if it
    has none.
    """
    try:
        found = [ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise Transient(f"The host {host!r} cannot be resolved.") from None
    if _plain(host) not in allowed and not all(is_public(address) for address in found):
        raise ConfigurationError(
            f"The host {host!r} leads to a private or local address, and is not called. If that is what you want, add it to"
            " NIGHTBATCH_ALLOWED_HOSTS (names with commas between them)."
        )
    return str(found[0])


def _parts(url: str) -> tuple[str, int]:
    """Host and port of a URL. Raises `ConfigurationError`, without the URL: a secret may stand in it."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        if not parts.hostname:
            raise ValueError
    except (ValueError, KeyError):
        raise ConfigurationError("A base URL must be a whole one, like https://api.example.com/v1.") from None
    return _plain(parts.hostname), port


def _plain(host: str) -> str:
    return host.strip().strip("[]").rstrip(".").lower()

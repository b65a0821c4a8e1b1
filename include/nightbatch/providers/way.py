"""The way to a host: through which proxy, and whose certificates are believed.

Providers and the webhook of alerts go the same way. No message holds the URL of a proxy: a password may stand in it.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from traceback import extract_tb
from typing import Any
from urllib.request import getproxies

import httpx
import httpx2
from socksio import SOCKSError

from nightbatch.core import allowed_hosts
from nightbatch.core.errors import ConfigurationError

# Desktops set ALL_PROXY=socks://… for what speaks version 5, and browsers take it for that.
_SCHEMES = {"http": "http", "https": "https", "socks": "socks5", "socks5": "socks5", "socks5h": "socks5h"}
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def proxy_to(url: httpx2.URL, *, given: str | None = None, allowed: Collection[str] | None = None) -> str | None:
    """Return the proxy on the way: the one ``given`` by a connection, else the environment's unless ``NO_PROXY`` names the host.

    Whoever edits a connection must not be able to lead into the workers' network by it: a given proxy has to stand at a public
    address, or be ``allowed``. Raises `ConfigurationError` for one that cannot be used, and `Transient` for one that cannot be
    resolved.
    """
    if given:
        proxy = _usable(given, "the connection (extra proxy)")
        if allowed is not None:
            parts = httpx2.URL(proxy)
            allowed_hosts.connectable(parts.host, parts.port or _PORTS[parts.scheme], allowed)
        return proxy
    proxies = getproxies()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found or _is_direct(url, proxies.get("no", "")):
        return None
    return _usable(found, "the environment (HTTPS_PROXY or ALL_PROXY)")


def _usable(told: str, whose: str) -> str:
    scheme, _, rest = (told if "://" in told else f"http://{told}").strip().partition("://")
    proxy = f"{_SCHEMES.get(scheme.lower(), '')}://{rest}"
    try:
        url = httpx2.URL(proxy)
        if url.scheme in _PORTS and url.host and (url.port or 1) in range(1, 65536):
            return proxy
    except httpx2.InvalidURL:
        pass
    raise ConfigurationError(
        f"The proxy of {whose} cannot be used: it must be a URL that begins with http://, https://, socks5:// or socks5h://, with"
        " a host and a port; signs like @ : / # in its user and password are written as %40 %3A %2F %23. NO_PROXY names"
        " hosts that are called without the environment's."
    )


def _is_direct(url: httpx2.URL, no_proxy: str) -> bool:
    return any(_names(entry.lower(), url) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _names(entry: str, url: httpx2.URL) -> bool:
    """Return whether an entry of NO_PROXY names this host: by name, suffix, ``*``, address or network, of all ports or one.

    As everywhere, names are not resolved: an address or a network is compared with a host that is one itself.
    """
    name, port = _host_and_port(entry)
    if port is not None and port != (url.port or _PORTS[url.scheme]):
        return False
    host = url.host.lower().rstrip(".")
    address = _address(host)
    if "/" in name:
        try:
            return address is not None and address in ip_network(name, strict=False)
        except ValueError:
            raise ConfigurationError(
                f"NO_PROXY holds {entry!r}, which is no network: write it as 10.0.0.0/8 or fd00::/8."
            ) from None
    if address is not None and (other := _address(name)) is not None:
        return address == other
    if "*" in name:
        return fnmatchcase(host, name)
    name = name.strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _host_and_port(entry: str) -> tuple[str, int | None]:
    """Return host and port of ``example.com:8443``, ``[::1]:8443``, ``::1`` or ``[fd00::]/8``; or of a URL, as some write it."""
    text = entry.rpartition("://")[2].rstrip("/")
    if text.startswith("["):
        inside, _, after = text[1:].partition("]")
        port = after.removeprefix(":")
        return (inside, int(port)) if after != port and port.isdigit() else (inside + after, None)
    host, _, port = text.rpartition(":")
    return (host, int(port)) if host and ":" not in host and port.isdigit() else (text, None)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def tls(ca_file: str | None = None) -> ssl.SSLContext:
    """Return a TLS context that believes the CAs of this file or folder alone, else the environment's, else the system's.

    Raises `ConfigurationError` for a file that holds none.
    """
    if ca_file:
        return _context("The extra ca_file", ca_file)
    return next((_context(name, os.environ[name]) for name in _AUTHORITIES if os.environ.get(name)), _system())


@cache
def _system() -> ssl.SSLContext:
    """Return the system's TLS context, one for all clients: reading the certificates takes longer than a request."""
    return httpx2.create_ssl_context(trust_env=False)


@cache
def _context(whose: str, path: str) -> ssl.SSLContext:
    try:
        if Path(path).is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:  # ValueError: a null byte
        why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
        raise ConfigurationError(
            f"{whose} names no certificates that can be read ({why or 'there is none in it'}): give the path of a file with the"
            " CA's certificate in PEM, on every machine that sends."
        ) from None


def transport_options(proxy: str | None, ca_file: str | None) -> dict[str, Any]:
    """Return the options of an httpx2 transport for this way."""
    context = tls(ca_file)
    through = proxy and httpx2.Proxy(proxy, ssl_context=context if proxy.startswith("https") else None)
    return {"verify": context, "proxy": through or None}


@contextmanager
def through_proxy(proxy: str | None) -> Iterator[None]:
    """Raise `httpx2.ProxyError` where a SOCKS proxy answers with something else: the client lets it fall through.

    Only for an error of the handshake: one that comes later says nothing of whether the request was sent.
    """
    try:
        yield
    except (AssertionError, ValueError, SOCKSError) as error:
        handshake = any(frame.name.endswith("_init_socks5_connection") for frame in extract_tb(error.__traceback__))
        if proxy is None or not handshake or isinstance(error, httpx2.HTTPError):
            raise
        raise httpx2.ProxyError("The proxy does not speak SOCKS 5.") from None


def in_words(error: BaseException | None) -> str:
    """Say why a host was not reached, as far as a person can mend it, without anything of a URL."""
    if isinstance(error, (httpx.ProxyError, httpx2.ProxyError)):
        return f"the proxy on the way says: {' '.join(str(error).split())[:100]}"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            "its certificate is not one that is believed here. If its CA is your own, give the CA's file in the"
            " connection's extra ca_file, or in SSL_CERT_FILE"
        )
    return type(error).__name__

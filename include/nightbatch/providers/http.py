"""The clients that the adapters and their SDKs ask with: they call the connection's own host and no other.

Whatever an answer says, the key and the requests go to no other host: redirects are not followed, and an address in an answer
gives a path only. The address that was looked at is the one that is called; behind a proxy the proxy looks, and the name is
checked.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

from nightbatch.core import allowed_hosts
from nightbatch.core.errors import ConfigurationError, NightbatchError
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import profile
from nightbatch.providers.extras import PLAIN, Wire
from nightbatch.providers.way import proxy_to, through_proxy, transport_options

# Seconds. Long enough to read for 200 MB on a slow line; a create that takes longer is in doubt, not lost.
TIMEOUT = httpx2.Timeout(600.0, connect=10.0)

MAX_BYTES = 256 << 20
"""The most bytes of an answer that is read whole, or of one line of a file, unpacked. The largest are 2,048 embeddings."""

# Routers and gateways forget a connection on which nothing is said: a create may be thought about for minutes.
_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), seconds) for name, seconds in
      (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5)) if hasattr(socket, name)),
]  # fmt: skip


class NotCalled(httpx2.ConnectError):
    """The host may not be called, or its proxy not be used; the message says why. Nothing was sent."""


class TooLarge(httpx2.DecodingError):
    """An answer unpacks to more than any answer holds."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a connection's requests go.

    ``allowed`` are the hosts at private addresses that may be called; None where the caller answers for the address, as a
    person with a base URL in the environment of a command does.
    """

    url: httpx2.URL
    allowed: Collection[str] | None
    proxy: str | None = field(repr=False)
    """The proxy, if one stands between; it looks for the address then."""
    ca_file: str | None = None

    def client(self, *, whole: bool = True, **options: Any) -> httpx2.Client:
        """Return a client that calls this host only. Not ``whole``: for what is read line by line, and may be of any size."""
        transport = _Transport(self, max_bytes=MAX_BYTES if whole else None, **self._way())
        return httpx2.Client(transport=transport, timeout=TIMEOUT, follow_redirects=False, **options)

    def async_client(self, **options: Any) -> httpx2.AsyncClient:
        """Return an async client that calls this host only.

        It keeps no idle connection, which would outlive the event loop that opened it, so that nobody could close it.
        """
        limits = httpx2.Limits(max_keepalive_connections=0)
        transport = _AsyncTransport(self, max_bytes=MAX_BYTES, limits=limits, **self._way())
        return httpx2.AsyncClient(transport=transport, timeout=TIMEOUT, follow_redirects=False, **options)

    def _way(self) -> dict[str, Any]:
        return transport_options(self.proxy, self.ca_file) | {"socket_options": _ALIVE}

    def request(self, request: httpx2.Request) -> httpx2.Request:
        """Return the same request to this host, at an address that was looked at. Raises `NotCalled`."""
        url = self.at_home(request.url)
        headers = httpx2.Headers(request.headers)
        if url != request.url:
            headers["host"] = url.netloc.decode("ascii")
        extensions = dict(request.extensions)
        if self.allowed is not None and self.proxy is None:
            try:
                address = allowed_hosts.to_call(str(self.url), self.allowed)
            except NightbatchError as error:
                raise NotCalled(str(error), request=request) from None
            if address is not None:  # the certificate has to be the name's all the same
                extensions["sni_hostname"] = url.host
                url = url.copy_with(host=address)
        return httpx2.Request(request.method, url, headers=headers, stream=request.stream, extensions=extensions)

    def at_home(self, told: httpx2.URL) -> httpx2.URL:
        """Return an address of this host; of another host's address only the path counts, below the one of the base URL."""
        if told.origin == self.url.origin:
            return told
        path = self.url.raw_path.partition(b"?")[0].rstrip(b"/") + told.raw_path
        return self.url.copy_with(raw_path=path, fragment=None)


def home_of(name: ProviderName, base_url: str | None, allowed: Collection[str] | None, wire: Wire = PLAIN) -> Home:
    """Return the host of a connection: its base URL, the environment's, or the provider's own.

    Raises `ConfigurationError` for a host that may not be called or a proxy that cannot be used, and `Transient` where a name
    cannot be resolved.
    """
    facts = profile(name)
    told = (base_url or os.environ.get(facts.base_url_variable) or facts.base_url).strip()
    try:
        url = httpx2.URL(told)
    except httpx2.InvalidURL:
        raise ConfigurationError(allowed_hosts.WHOLE_URL) from None
    proxy = proxy_to(url, given=wire.proxy, allowed=allowed)
    if allowed is not None:
        allowed_hosts.check_base_url(told, allowed, proxied=proxy is not None)
    return Home(url, allowed, proxy, wire.ca_file)


def checked_key(name: ProviderName, key: str) -> str:
    """Return the key without white space around it, as a file's line break. Raises `ConfigurationError`, without the key."""
    trimmed = key.strip(_AROUND)
    for place, character in enumerate(trimmed, start=1):
        if not "!" <= character <= "~":
            raise ConfigurationError(
                f"The key of {name} holds a character that no HTTP header may hold (U+{ord(character):04X}, the {place}. of"
                f" {len(trimmed)}): copy the key again."
            )
    if not trimmed:
        raise ConfigurationError(f"The key of {name} is empty.")
    return trimmed


# White space, and what is copied along unseen: zero-width spaces and joiners, the word joiner, the byte order mark.
_AROUND = " \t\r\n\f\v\0\x85\xa0\u2028\u2029\u200b\u200c\u200d\u2060\ufeff"


class _Response(httpx2.Response):
    """An answer that ends with an error where it unpacks to more than any answer holds."""

    max_bytes: int | None = None

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        size = 0
        for chunk in super().iter_bytes(chunk_size):
            size += len(chunk)
            self._check(size)
            yield chunk

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncGenerator[bytes]:
        size = 0
        async for chunk in super().aiter_bytes(chunk_size):
            size += len(chunk)
            self._check(size)
            yield chunk

    def _check(self, size: int) -> None:
        if self.max_bytes is not None and size > self.max_bytes:
            raise TooLarge(
                f"An answer with more than {self.max_bytes:,} bytes came, as there is none: not read.",
                request=self.request,
            )


def _bounded(answer: httpx2.Response, max_bytes: int | None) -> httpx2.Response:
    made = _Response(answer.status_code, headers=answer.headers, stream=answer.stream, extensions=answer.extensions)
    made.max_bytes = max_bytes
    return made


class _Transport(httpx2.HTTPTransport):
    def __init__(self, home: Home, *, max_bytes: int | None, **way: Any) -> None:
        super().__init__(**way)
        self._home, self._max_bytes = home, max_bytes

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        pinned = self._home.request(request)
        with through_proxy(self._home.proxy):
            answer = super().handle_request(pinned)
        return _bounded(answer, self._max_bytes)


class _AsyncTransport(httpx2.AsyncHTTPTransport):
    def __init__(self, home: Home, *, max_bytes: int | None, **way: Any) -> None:
        super().__init__(**way)
        self._home, self._max_bytes = home, max_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        pinned = await asyncio.to_thread(self._home.request, request)  # a name server may take its time
        with through_proxy(self._home.proxy):
            answer = await super().handle_async_request(pinned)
        return _bounded(answer, self._max_bytes)

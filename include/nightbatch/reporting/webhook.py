"""Send a signed POST as the Standard Webhooks ask for it (github.com/standard-webhooks/standard-webhooks/blob/main/spec).

A receiver verifies it with any of their libraries, and drops what it has seen before by ``webhook-id``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Collection

import httpx2

from nightbatch.core import allowed_hosts
from nightbatch.core.errors import ConfigurationError, Transient
from nightbatch.providers.extras import PLAIN, Wire
from nightbatch.providers.way import in_words, proxy_to, through_proxy, transport_options
from nightbatch.providers.wire import quiet

TIMEOUT = httpx2.Timeout(15.0, connect=10.0)
"""Seconds; the spec gives a receiver 15 to answer."""


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature``. ``secret`` is ``whsec_`` and base64, or any text.

    Raises `ConfigurationError` for a secret that begins like base64 and is none.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), content, hashlib.sha256)).decode()


def deliver(
    url: str, secret: str, *, message_id: str, body: bytes, allowed: Collection[str], wire: Wire = PLAIN
) -> None:
    """POST ``body``, which is JSON, to a public address or an ``allowed`` host; over TLS, unless the host is allowed.

    It goes to the address that was looked at, or through the proxy on the way, and no redirect is followed. ``wire`` is what the
    connection adds. Raises `ConfigurationError` for a URL, a secret or a way that a person has to mend, and `Transient` when the
    receiver did not take it. No message holds the URL, which may be a secret of its own.
    """
    quiet()  # the client would log the URL
    target = _target(url, allowed)
    proxy = proxy_to(target, given=wire.proxy, allowed=allowed)
    way = transport_options(proxy, wire.ca_file)
    timestamp = int(time.time())
    headers = {
        **wire.headers,
        "host": target.netloc.decode("ascii"),
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, message_id, timestamp, body),
    }
    # The certificate has to be the name's, though the connection goes to its address.
    extensions = {"sni_hostname": target.host}
    there = _address(target, allowed, proxied=proxy is not None)
    try:
        with (
            through_proxy(proxy),
            httpx2.Client(trust_env=False, follow_redirects=False, timeout=TIMEOUT, **way) as client,
            client.stream("POST", there, headers=headers, content=body, extensions=extensions) as answer,
        ):
            status = answer.status_code
    except httpx2.HTTPError as error:
        raise Transient(f"the receiver did not answer: {in_words(error)}") from None
    if not 200 <= status < 300:
        raise Transient(
            f"the receiver answered {status}" + (", and redirects are not followed" if status < 400 else "")
        )


def _address(target: httpx2.URL, allowed: Collection[str], *, proxied: bool) -> httpx2.URL:
    """Return the URL with the address that was looked at; with its name where a proxy looks."""
    if proxied:
        allowed_hosts.check_name(target.host, allowed)
        return target
    port = target.port or {"http": 80, "https": 443}[target.scheme]
    return target.copy_with(host=allowed_hosts.connectable(target.host, port, allowed))


def _target(url: str, allowed: Collection[str]) -> httpx2.URL:
    try:
        target = httpx2.URL(url)
    except httpx2.InvalidURL:
        target = httpx2.URL("")
    if not target.host or target.scheme not in ("http", "https"):
        raise ConfigurationError("the host of its connection must be a whole URL, like https://example.com/alerts")
    if target.scheme == "http" and target.host.lower() not in allowed:
        raise ConfigurationError("its URL must begin with https://, unless its host is in NIGHTBATCH_ALLOWED_HOSTS")
    return target


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ConfigurationError("its secret begins with whsec_, but what follows is not base64") from None

"""The extras of an Airflow connection: read strictly, so that nothing of them is silently left out.

Nothing heavy is imported here: the Dag files read connections. No message holds a value: it may be a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from typing import Any, NoReturn

from nightbatch.core.errors import ConfigurationError
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import profile


@dataclass(frozen=True, slots=True)
class Wire:
    """What a connection adds to each of its requests, and the way that they go."""

    organization: str | None = None
    project: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: str | None = None
    proxy: str | None = field(default=None, repr=False)

    def payers(self) -> list[str]:
        """Return the headers that decide who pays beside the key, as a part of the account's fingerprint."""
        told = {name.lower(): value for name, value in self.headers.items()}
        return [f"{name}: {told[name]}" for name in _WHO_PAYS if name in told]


PLAIN = Wire()


@dataclass(frozen=True, slots=True)
class Extras:
    """What the extras of a connection say; None where they do not."""

    wire: Wire = PLAIN
    account: str | None = None
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None


_WHO_PAYS = ("anthropic-workspace-id", "x-goog-user-project")
_OURS = ("account", "headers", "default_headers", "ca_file", "verify", "proxy")
_CLIENT = ("api_key", "base_url", "default_headers")
_CLIENT_WITHOUT_EFFECT = ("timeout", "max_retries", "webhook_secret", "webhook_key", "websocket_base_url")

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_KEYS = frozenset({"authorization", "x-api-key", "x-goog-api-key", "api-key"})
_SET_BY_US = {
    *("accept", "accept-encoding", "cache-control", "connection", "cookie", "expect", "host", "if-range", "keep-alive"),
    *("pragma", "range", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade"),
    "idempotency-key",  # one for all requests would make one of all creates
}
_OF_EACH_REQUEST = ("content-", "if-", "proxy-", "webhook-", "x-goog-upload-")


def read_extras(name: ProviderName, conn_id: str, extra: str | None) -> Extras:
    """Read the extra of a provider's connection, JSON text as Airflow keeps it.

    Raises `ConfigurationError` that names the connection and the extra, for an unknown name and for a value that cannot be meant.
    """
    asked = _Asked(conn_id)
    prefix = f"extra__{name}__"  # as the forms of older Airflows kept them
    given = {key.removeprefix(prefix): value for key, value in asked.parsed(extra).items()}
    facts = profile(name)
    payers = facts.payer_extras
    kwargs = f"{name}_client_kwargs"
    asked.known(given, (*_OURS, *payers, kwargs), facts.connection_extras)
    asked.one_way_in(facts.ways_in, given)
    client = asked.mapping(given, kwargs) or {}
    asked.known(client, (*_CLIENT, *payers), _CLIENT_WITHOUT_EFFECT, within=f"{kwargs}.")
    headers = asked.headers(given, client)
    who = {
        key: asked.one(
            key, asked.header_text(client, key), asked.header_text(given, key), headers.pop(f"openai-{key}", None)
        )
        for key in payers
    }
    return Extras(
        Wire(**who, headers=headers, ca_file=asked.ca_file(given), proxy=asked.text(given, "proxy")),
        account=asked.text(given, "account"),
        api_key=asked.text(client, "api_key"),
        base_url=asked.text(client, "base_url"),
    )


def read_webhook(conn_id: str, extra: str | None) -> Wire:
    """Read the extra of a webhook's connection. Raises as `read_extras`; but a header may hold a key there."""
    asked = _Asked(conn_id, keys=frozenset())
    given = asked.parsed(extra)
    asked.known(given, tuple(name for name in _OURS if name != "account"), ())
    return Wire(headers=asked.headers(given), ca_file=asked.ca_file(given), proxy=asked.text(given, "proxy"))


@dataclass(frozen=True, slots=True)
class _Asked:
    """One connection, whose name stands in each refusal."""

    conn_id: str
    keys: frozenset[str] = _KEYS

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise `ConfigurationError` that names the extra and the connection."""
        raise ConfigurationError(f"The extra {name!r} of the connection {self.conn_id!r} {why}.")

    def parsed(self, extra: str | None) -> dict[str, Any]:
        """Return the extra as a JSON object.

        Raises `ConfigurationError` for anything else, which Airflow itself takes for an empty one.
        """
        try:
            found = json.loads(extra) if extra and extra.strip() else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ConfigurationError(f"The extra of the connection {self.conn_id!r} is no JSON object.")
        return found

    def known(self, given: Mapping[str, Any], ours: tuple[str, ...], others: tuple[str, ...], within: str = "") -> None:
        """Refuse a name that is none of ``ours`` or of ``others``, and say which may be meant."""
        for name in given:
            if name not in ours and name not in others:
                near = get_close_matches(name.lower(), ours, 1)
                meant = f": is {near[0]!r} meant?" if near else "."
                self.refuse(f"{within}{name}", f"is not known{meant} There are {', '.join(ours)}")

    def one_way_in(self, ways: Mapping[str, str | None], given: Mapping[str, Any]) -> None:
        """Refuse Airflow's ways to the same model elsewhere, or without a key."""
        for key, meant in ways.items():
            if given.get(key) not in (None, "", {}, meant):
                self.refuse(key, "names another way in: nightbatch goes to the provider itself, with a key")

    def mapping(self, given: Mapping[str, Any], name: str) -> dict[str, Any] | None:
        """Return an extra that is an object, also one that is JSON text, as a form or a connection's URI gives it."""
        value = given.get(name)
        if isinstance(value, str):
            try:
                value = json.loads(value or "null")
            except ValueError:
                self.refuse(name, "is no JSON object")
        if value is not None and not isinstance(value, dict):
            self.refuse(name, "is no JSON object")
        return value

    def text(self, given: Mapping[str, Any], name: str, told: str = "") -> str | None:
        value = given.get(name)
        if value is not None and not isinstance(value, str):
            self.refuse(told or name, "must be text")
        return value or None

    def header_text(self, given: Mapping[str, Any], name: str, told: str = "") -> str | None:
        value = (self.text(given, name, told) or "").strip()
        if not _VALUE.fullmatch(value):
            self.refuse(told or name, "holds a line break or another sign that no header may hold")
        return value or None

    def one(self, name: str, *given: str | None) -> str | None:
        """Return the one value that is given, be it in several places. Refuse different ones."""
        found = {value for value in given if value}
        if len(found) > 1:
            self.refuse(name, "is given twice, with different values")
        return next(iter(found), None)

    def ca_file(self, given: Mapping[str, Any]) -> str | None:
        verify = {key: value for key, value in given.items() if key == "verify"}
        word = str(given.get("verify")).strip().lower()
        if word in ("false", "0", "no", "off"):
            self.refuse("verify", "would believe any certificate: give the path of the CA's certificate as ca_file")
        path = None if word in ("true", "1", "yes", "on") else self.text(verify, "verify")
        return self.one("ca_file", self.text(given, "ca_file"), path)

    def headers(self, *places: Mapping[str, Any]) -> dict[str, str]:
        """Return all extra headers, by their names in lower case."""
        found: dict[str, str] = {}
        for place, extra in product(places, ("headers", "default_headers")):
            headers = self.mapping(place, extra) or {}
            for name in headers:
                key, told = self._header_name(extra, name), f"{extra}.{name}"
                value = self.one(told, self.header_text(headers, name, told), found.get(key))
                if value is None:
                    self.refuse(told, "is empty")
                found[key] = value
        return found

    def _header_name(self, extra: str, name: str) -> str:
        key = name.lower()
        if not _HEADER.fullmatch(name):
            self.refuse(extra, "holds a name that no header may have")
        if key in self.keys:
            self.refuse(f"{extra}.{name}", "may not be set: the connection's password is the key")
        if key in _SET_BY_US or key.startswith(_OF_EACH_REQUEST):
            self.refuse(f"{extra}.{name}", "may not be set: each request has its own")
        return key

"""Find out who is calling: the API key decides the account."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256

from nightbatch_local.emulator.errors import ApiError, Provider
from nightbatch_local.emulator.state import State

_NAMED = re.compile(r"emu-([^.]+)(?:\..*)?")


def account_of(key: str) -> str:
    """Return a key's account: `emu-ACCOUNT` and `emu-ACCOUNT.ANYTHING` belong to ACCOUNT, any other key to one of its own."""
    named = _NAMED.fullmatch(key)
    return named[1] if named else f"acct-{sha256(key.encode()).hexdigest()[:8]}"


def key_in(provider: Provider, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """Return the API key of a request. Anthropic's SDK 2.x sends a bearer token, its REST documentation `x-api-key`."""
    if provider == "gemini":
        return headers.get("x-goog-api-key") or query.get("key")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else None
    return (bearer or headers.get("x-api-key")) if provider == "anthropic" else bearer


def authenticate(state: State, key: str | None) -> str:
    """Return the account of a key. Raises `ApiError` 401 for no key or a revoked one."""
    if not key:
        raise ApiError(401, "You didn't provide an API key.", code="missing_api_key")
    if state.value("SELECT 1 FROM revoked_key WHERE sha256 = ?", (_hash(key),)):
        raise ApiError(401, "The API key is not valid.", code="invalid_api_key")
    return account_of(key)


def revoke(state: State, key: str) -> None:
    """Answer this key with 401 from now on; other keys of the account go on."""
    state.db.execute("INSERT OR IGNORE INTO revoked_key VALUES (?)", (_hash(key),))


def _hash(key: str) -> str:
    return sha256(key.encode()).hexdigest()

"""The providers' wire quirks, behind `nightbatch.core.provider.BatchProvider`. An SDK is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from nightbatch.core.errors import ConfigurationError
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import profile
from nightbatch.core.provider import BatchProvider
from nightbatch.providers.extras import PLAIN, Wire

if TYPE_CHECKING:
    from nightbatch.providers.wire import LineWriter


def build(
    name: ProviderName,
    *,
    api_key: str,
    base_url: str | None = None,
    account: str | None = None,
    allowed: Collection[str] | None = None,
    wire: Wire = PLAIN,
) -> BatchProvider:
    """Build the adapter of a provider for one key. ``account`` names who pays, so that keys of one account can be rotated.

    ``allowed`` are the hosts at private addresses that may be called, and None if the caller answers for the base URL.
    ``wire`` is what the connection adds to its requests. Raises `ConfigurationError` for a key, a base URL, a proxy or a CA that
    cannot be used, or for a provider that there is not, and `Transient` while a host cannot be resolved.
    """
    given: dict[str, Any] = {
        "api_key": api_key, "base_url": base_url, "account": account, "allowed": allowed, "wire": wire
    }  # fmt: skip
    adapter = _at(name, profile(name).adapter)
    if adapter.name != name:  # what is sent would be booked under another name
        raise ConfigurationError(f"The adapter of the provider {name} names itself {adapter.name!r}.")
    made: BatchProvider = adapter(**given)
    return made


@cache
def writer(name: ProviderName) -> LineWriter:
    """Return the writer of a provider's input lines, which needs no key, no connection and no SDK."""
    from nightbatch.providers.wire import LineWriter

    return LineWriter(_at(name, profile(name).lines))


def _at(name: ProviderName, place: str) -> Any:
    """Import what stands at a place of a profile. Raise `ConfigurationError` with the reason if that fails."""
    try:
        return resolve_name(place)
    except Exception as error:
        raise ConfigurationError(
            f"The provider {name} cannot be used, since {place} cannot be imported: {type(error).__name__}: {error}."
        ) from error

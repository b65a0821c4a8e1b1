"""The facts of each provider, in one place, and which providers there are: three built in, and those that packages register."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from nightbatch.core.errors import ConfigurationError
from nightbatch.core.models import Endpoint, Limits, ProviderName

GROUP = "nightbatch.providers"
"""The group of entry points under which a package registers providers, each entry the place of a `ProviderProfile`."""

BUILT_IN: tuple[ProviderName, ...] = ("openai", "anthropic", "gemini")

Dialect = Literal["openai", "anthropic", "gemini"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,29}")  # it stands in ids of connections, pools and tasks


@dataclass(frozen=True, slots=True)
class MediaRules:
    """What media a provider takes.

    ``inside``: the most bytes of base64 in one request; ``file``: the most bytes of an upload, 0 for none.
    ``others`` are documents and sounds; ``image`` is the most bytes of one image.
    """

    images: frozenset[str]
    videos: frozenset[str]
    others: frozenset[str]
    inside: int
    image: int
    file: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderProfile:
    """All that nightbatch asks about a provider outside its adapter. There are no defaults: a fact that is missing is an error.

    ``adapter`` and ``lines`` are places as entry points write them, ``module:name``: a class that is made as
    `nightbatch.providers.build` does it and is a `BatchProvider`, and a function that writes one line of an input file without
    an SDK. Each is imported when it is first needed.
    """

    name: ProviderName
    """What jobs, connections and reports call it: lower-case letters, digits and underscores."""
    title: str
    """What people call it."""
    adapter: str
    lines: str
    sdk: str | None
    """The distribution whose version `nightbatch doctor --live` writes down."""

    base_url: str
    """The provider's own API; its host, with subdomains, is called without a look at its address."""
    base_url_variable: str
    """The environment variable that the SDK reads for another one."""
    key_variables: tuple[str, ...]
    """The environment variables that hold a key; the first that is set counts."""
    connection_type: str
    """Of the Airflow connection ``<name>_default``."""
    connection_extras: tuple[str, ...]
    """Extras that Airflow's own hooks of that type read, and nightbatch does not."""
    ways_in: Mapping[str, str | None]
    """Of those: what a connection with a key of the provider itself may say."""
    payer_extras: tuple[str, ...]
    """Extras that decide, beside the key, who pays."""

    dialect: Dialect
    """In whose words its request bodies are."""
    endpoints: tuple[Endpoint, ...]
    """What its batches may be made of."""
    chat_model: str
    """The default model of job types that ask for text."""
    embedding_model: str | None
    """The default model of job types that ask for vectors; None where it has none."""
    model_prefix: str
    """What its lists write before the name of a model, as in ``models/x`` for x; empty for nothing."""

    limits: Limits
    media: MediaRules
    tagged: bool
    """Whether a batch carries our tag. If not, creates go one by one: two in doubt at once could not be told apart."""
    takes_files: bool
    """Whether the input is a file, which can be deleted to keep a create from happening late."""
    names_uploads: bool
    """Whether uploads go by names of our choice, so that a name may be in use (`nightbatch doctor --live` asks)."""
    shared_queue: bool
    """Whether the limit of enqueued tokens is one for all models together."""
    results_kept: timedelta
    """How long results can be fetched, from the creation."""
    overdue_hours: float
    """Hours before which no batch is overdue, whatever NIGHTBATCH_WAIT_HOURS says; 0 leaves it to the setting."""

    price_library_id: str | None
    """Its name in genai-prices; None where all prices are overrides."""
    counts_like_openai: bool
    """Whether it makes as many tokens of a text as OpenAI's tokenizer."""
    bill: str
    """Where a person sees what was charged: no batch API tells."""

    @property
    def own_host(self) -> str:
        """Return the host of the provider's own API."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def has_openai_endpoints(self) -> bool:
        """Return whether a job type, or the ``url`` of a ready body, says to which of OpenAI's endpoints a request goes."""
        return self.dialect == "openai"


def profiles() -> Mapping[ProviderName, ProviderProfile]:
    """Return every provider by name, the built-in ones first."""
    return _found()[0]


def broken_profiles() -> Mapping[str, str]:
    """Return the entry points that are no provider, with the reason; the others work all the same."""
    return _found()[1]


def profile(name: ProviderName) -> ProviderProfile:
    """Return the facts of a provider. Raise `ConfigurationError` for a name that nobody registers."""
    found = profiles().get(name)
    if found is None:
        raise ConfigurationError(why_unknown(name))
    return found


def why_unknown(name: str) -> str:
    """Return a sentence about a name that is no provider's here."""
    broken = "".join(f" {place} is none: {why}." for place, why in broken_profiles().items())
    return f"There is no provider {name[:60]!r}; there are {', '.join(profiles())}.{broken}"


@cache
def _found() -> tuple[Mapping[ProviderName, ProviderProfile], Mapping[str, str]]:
    found: dict[ProviderName, ProviderProfile] = {}
    broken: dict[str, str] = {}
    for entry in _entries():
        try:
            if entry.name in found:
                raise ConfigurationError("there is a provider of that name already")
            found[entry.name] = _read(entry)
        except Exception as error:  # noqa: BLE001  a package of somebody else's may fail in any way
            of = f" of {entry.dist.name}" if entry.dist else ""
            broken[f"The entry point {entry.name} = {entry.value}{of}"] = f"{type(error).__name__}: {error}"
    return MappingProxyType(found), MappingProxyType(broken)


def _entries() -> Iterator[EntryPoint]:
    for name in BUILT_IN:  # not from the package's metadata, which is stale in a checkout that was only pulled
        yield EntryPoint(name, f"nightbatch.providers.{name}_profile:PROFILE", GROUP)
    yield from sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))


def _read(entry: EntryPoint) -> ProviderProfile:
    read = entry.load()
    if not isinstance(read, ProviderProfile):
        raise ConfigurationError(f"it is a {type(read).__name__}, and no ProviderProfile")
    if read.name != entry.name:
        raise ConfigurationError(f"its profile names it {read.name!r}")
    if not _NAME.fullmatch(read.name):
        raise ConfigurationError("a name is up to 30 lower-case letters, digits and underscores, a letter first")
    return read

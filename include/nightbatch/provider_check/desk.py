"""Keep one run of `nightbatch doctor --live`: its file, and a desk for each provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from nightbatch.core.errors import AccountRefused, ConfigurationError, ProviderError
from nightbatch.core.models import Prompt, ProviderName
from nightbatch.core.profiles import ProviderProfile, profile, profiles
from nightbatch.core.provider import BatchProvider
from nightbatch.provider_check.findings import findings
from nightbatch.provider_check.record import ProviderRecord, Record, Words, read, write

# Enough for a model that thinks before it says two letters; an answer cut short is as good here.
PROMPT = Prompt(user="Answer with the word ok.", max_tokens=64, thinking_tokens=960)
MOST_OUTPUT = 1024
"""Tokens of thoughts and answer together."""


class Session:
    """One run with its file, and with what to tell the person who waits.

    ``settle_seconds`` is the setting whose value is checked. Raises `ConfigurationError` for a file that is another's.
    """

    def __init__(self, path: Path, *, settle_seconds: float, tell: Callable[[str], None]) -> None:
        self.path = path
        self.settle_seconds = settle_seconds
        self.tell = tell
        self.record = read(path) or Record(PROMPT.user, PROMPT.max_tokens)
        sdks = [facts.sdk for facts in profiles().values() if facts.sdk]
        self.record.versions = {name: version(name) for name in ("nightbatch", *sdks, "genai-prices")}

    def save(self) -> None:
        """Write everything known so far, with the answers worked out anew."""
        for name, part in self.record.providers.items():
            part.checks = findings(profile(name), part, self.settle_seconds)
        write(self.path, self.record)

    def desk(self, provider: BatchProvider, *, model: str, address: str) -> Desk:
        """Return the desk of a provider, with its part of the file.

        Raises `ConfigurationError` when its batches were sent by another account.
        """
        name = provider.name
        part = self.record.providers.setdefault(name, ProviderRecord(provider.account, model, address))
        if part.account != provider.account:
            raise ConfigurationError(
                f"The {name} batches in {self.path} were sent with another key or to another address."
                " Put those back, or name another file with --output."
            )
        first = part.latest("first")
        part.model = first.model if first and first.provider_batch_id else model
        return Desk(self, name, provider, part)


@dataclass(slots=True)
class Desk:
    """One provider with its part of the file.

    ``stopped``: the key is refused, so nothing more is asked in this run. ``told`` is what need not be said twice.
    """

    session: Session
    name: ProviderName
    provider: BatchProvider
    record: ProviderRecord
    stopped: bool = False
    told: set[Words] = field(default_factory=set)

    def tell(self, sentence: str) -> None:
        """Tell the person who waits a sentence about this provider."""
        self.session.tell(f"{self.name}: {sentence}")

    def line(self, model: str, custom_id: str) -> bytes:
        """Return the one request that is ever sent."""
        return self.provider.render(custom_id, model, "chat", PROMPT)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Write a provider's trouble down, so that it stops neither another provider nor another question."""
        try:
            yield
        except ProviderError as error:
            self.stopped = self.stopped or isinstance(error, AccountRefused)
            words = self.record.trouble = Words.of(error)
            if words not in self.told:
                self.told.add(words)
                self.tell(words.words)
            self.session.save()

    @property
    def facts(self) -> ProviderProfile:
        """Return what there is to know of the provider."""
        return profile(self.name)

    @property
    def busy(self) -> bool:
        """Return whether looking again may bring something new."""
        return not self.stopped and any(
            sent.in_doubt or sent.running or sent.wants_looks for sent in self.record.batches
        )

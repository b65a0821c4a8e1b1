"""Keep what `nightbatch doctor --live` has sent and seen in a file that a team can share and a later run goes on from."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import msgspec

from nightbatch.core.errors import ConfigurationError, NightbatchError, ProviderError
from nightbatch.core.models import Counts, ProviderName, Submission, Usage

Step = Literal["first", "fence", "cancel"]
"""A batch's purpose: to be listed and end, to be refused since its input is deleted, to be cancelled at once."""

REQUESTS = 2
"""In each batch. An Anthropic batch is known by its count in a list, and one of a single request is the commonest."""

LOOKS = 3
"""A batch counts as listed for good when so many looks in a row have found it."""

_ABOUT = (
    "Written by `nightbatch doctor --live`: what the providers did with a few tiny batches. It holds no key, no name of an"
    " account and no prompt but the one shown; `account` is a fingerprint. Run the command again with this file to see what"
    " became of batches that were still running."
)
# Providers name organisations, projects and people in their errors, and OpenAI repeats the end of a key.
_PRIVATE = re.compile(
    r"""\b(?:sk-|AIza|AQ\.)[\w.*-]+
    | [\w.+-]+@[\w-]+\.[\w.-]+
    | \b(?:org|proj|user|acct|wrkspc|workspace)[-_]\w[\w-]*
    | \bprojects?[/ :=]+['"]?[\w-]*\d[\w-]*
    | \b(?:organi[sz]ation|project|workspace|account|team)\s+(?:named\s+)?(?:'[^']*'|"[^"]*"|`[^`]*`)
    """,
    re.VERBOSE | re.IGNORECASE,
)


def shareable(text: str) -> str:
    """Remove from a provider's words what names a key, an account or a person."""
    return _PRIVATE.sub("[removed]", text)


@dataclass(frozen=True, slots=True)
class Words:
    """A provider's answer in its own words. ``status`` is the HTTP status, None where no answer came."""

    status: int | None
    words: str

    @classmethod
    def of(cls, error: NightbatchError) -> Words:
        """Take the status and the words from an error, without what is private in them."""
        return cls(error.status if isinstance(error, ProviderError) else None, shareable(str(error)))


@dataclass(frozen=True, slots=True)
class Look:
    """One reading of the provider's list, in seconds since the create was answered (or, in doubt, since it was sent).

    For a batch that is not listed the time is the question's, for one that is listed the answer's: the truth lies between.
    ``others`` are batches that recovery could have taken for this one.
    """

    after_seconds: float
    listed: bool
    others: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a batch ended, and what its results show of its bill.

    ``lines`` counts requests by outcome; ``with_usage`` are the lines that come with tokens, ``usage`` is their sum and the
    costs are in USD. ``missing`` requests have no line.
    """

    status: str
    failed: bool
    after_seconds: float
    counts: Counts | None
    error: str | None
    lines: dict[str, int]
    missing: int
    with_usage: int
    usage: Usage
    batch_usd: Decimal | None
    realtime_usd: Decimal | None
    unread: Words | None = None
    """Why the results could not be read at all."""


@dataclass(slots=True)
class Sent:
    """One batch of the check. Every fact is written down before the next thing is done.

    With an ``intent_at`` and neither an id nor a refusal the create is in doubt; ``given_up`` ends that.
    """

    step: Step
    model: str
    tag: str = field(default_factory=lambda: f"nb-live-{uuid4().hex[:20]}")
    input_file: str | None = None
    fenced_at: datetime | None = None
    intent_at: datetime | None = None
    answered_at: datetime | None = None
    provider_batch_id: str | None = None
    refused: Words | None = None
    unclear: Words | None = None
    given_up: bool = False
    cancelled_at: datetime | None = None
    cancel_refused: Words | None = None
    looks: list[Look] = field(default_factory=list)
    status: str | None = None
    ended: Ended | None = None

    @property
    def in_doubt(self) -> bool:
        """Return whether the create may have made a batch that nobody has the id of."""
        return bool(self.intent_at and not (self.provider_batch_id or self.refused or self.given_up))

    @property
    def running(self) -> bool:
        """Return whether the provider has it and is not known to be done with it."""
        return self.provider_batch_id is not None and self.ended is None

    @property
    def wants_looks(self) -> bool:
        """Return whether it is still open how soon, and whether for good, the batch is listed."""
        last = self.looks[-LOOKS:]
        settled = len(last) == LOOKS and all(look.listed for look in last)
        return self.step == "first" and self.provider_batch_id is not None and not settled

    @property
    def submission(self) -> Submission:
        """Return the batch as the provider's adapter takes it. No attempt of the ledger has the id 0."""
        return Submission(0, self.tag, self.model, "chat", REQUESTS, self.input_file, self.intent_at)

    def custom_id(self, number: int) -> str:
        """Return a request's custom_id, with the tag in it.

        A load which meets it knows from the tag that the batch is none of its own.
        """
        return f"{self.tag}-{number}"


@dataclass(slots=True)
class Names:
    """What Gemini answers to an upload under a name in use, and under one whose file was deleted."""

    in_use: Words
    deleted: Words


@dataclass(frozen=True, slots=True)
class Finding:
    """One question with its answer. ``as_assumed``: whether nightbatch's assumption holds; None while that is not known."""

    question: str
    answer: str
    as_assumed: bool | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class ProviderRecord:
    """One provider's part of the file.

    ``checks`` is worked out from ``batches`` and ``names`` each time the file is written.
    """

    account: str
    model: str
    address: str
    price: str = ""
    most_usd: dict[str, Decimal] = field(default_factory=dict)
    trouble: Words | None = None
    checks: dict[str, Finding] = field(default_factory=dict)
    batches: list[Sent] = field(default_factory=list)
    names: Names | None = None

    def latest(self, step: Step) -> Sent | None:
        """Return the last batch of a step that was sent, or may have been."""
        return next((sent for sent in reversed(self.batches) if sent.step == step and sent.intent_at), None)


@dataclass(slots=True)
class Record:
    """All that the file holds."""

    prompt: str
    max_tokens: int
    format: Literal["nightbatch-live 1"] = "nightbatch-live 1"
    about: str = _ABOUT
    requests_per_batch: int = REQUESTS
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    written_at: datetime | None = None
    versions: dict[str, str] = field(default_factory=dict)
    not_asked: dict[ProviderName, str] = field(default_factory=dict)
    providers: dict[ProviderName, ProviderRecord] = field(default_factory=dict)


def read(path: Path) -> Record | None:
    """Read the file of an earlier run; None if there is none. Raises `ConfigurationError` for any other file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(
            f"{path} was not written by nightbatch doctor --live ({error}). Name another file with --output."
        ) from None


def write(path: Path, record: Record) -> None:
    """Replace the file as a whole. Raises `ConfigurationError` where it cannot be written."""
    record.written_at = datetime.now(UTC)
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}), so nothing is sent.") from None

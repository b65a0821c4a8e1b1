"""The one place that decides what is certain about a call: not sent, refused, or in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nightbatch.core.errors import (
    Absent,
    AccountRefused,
    ConfigurationError,
    ProviderError,
    Refused,
    Rejected,
    Throttled,
    Transient,
    Unreachable,
)

Certainty = Literal["not_sent", "refused", "in_doubt"]

Call = Literal["create", "ask", "upload", "media", "list", "item"]
"""The kind of a call: a batch's create, a realtime call, the upload of a batch's input or of one media file (both are free),
a list, or anything about one thing that is named by its id."""

_DOCUMENTED = frozenset({400, 401, 402, 403, 404, 410, 413, 422, 429})
"""With these statuses the providers say that nothing was done or billed: platform.openai.com/docs/guides/error-codes,
docs.claude.com/en/api/errors, ai.google.dev/gemini-api/docs/troubleshooting. 408, 409, 425 and 499 do not say that."""

_ONE_REQUEST = ("ask", "media")
"""Calls about one request or file only: a refusal is always about that one."""

_OVERLOADED = frozenset({503, 529})
_NOBODY_HOME = frozenset({401, 403, 404, 405, 407, 511})


@dataclass(frozen=True, slots=True)
class Said:
    """A provider's own error envelope, read from the bytes of a whole answer.

    ``fault`` says where the fault lies, as far as the provider's codes or documented words tell. ``requests`` are the places of
    the requests that the provider names.
    """

    text: str
    fault: Literal["account", "content", "absent"] | None = None
    requests: tuple[int, ...] = ()
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer that is not a success. ``said`` is None where the body is not the provider's own envelope.

    ``own_host``: the answer came from the provider's own host, not from a gateway that may already have forwarded the call.
    """

    call: Call
    status: int
    said: Said | None
    own_host: bool
    retry_after: float | None = None


def of(error: BaseException) -> Certainty:
    """Return what is certain after a call that raised ``error``."""
    match error:
        case Unreachable() | ConfigurationError():  # an address that may not be called, a key that cannot be written
            return "not_sent"
        case Throttled() | Refused() | AccountRefused():
            return "refused"
        case _:
            return "in_doubt"


_TOO_LARGE = "HTTP 413"


def is_too_large(reason: str | None) -> bool:
    """Return whether a create is in doubt because of a 413 that did not come from the provider itself."""
    return (reason or "").startswith(_TOO_LARGE)


def error_of(answer: Refusal) -> ProviderError:
    """Return the error to raise for an answer; its class says what is certain (see `of`)."""
    if answer.said is None:
        return _by_a_stranger(answer)
    if answer.status in _DOCUMENTED:
        return _refusal(answer, answer.said)
    if answer.call == "ask" and answer.own_host and answer.status in _OVERLOADED:
        # Providers charge for answers only. A create is in doubt all the same, since it can be looked for.
        return Throttled(answer.said.text, status=answer.status, retry_after=answer.retry_after)
    return Transient(answer.said.text, status=answer.status, retry_after=answer.retry_after)


def _by_a_stranger(answer: Refusal) -> ProviderError:
    """Return the error for an answer of a proxy on the way, which does not tell what the provider did before."""
    text = f"HTTP {answer.status}, without the provider's own explanation"
    if answer.call == "upload" and answer.status == 413:
        return Refused(text, status=413)  # an upload is free, so nobody has to know whether it arrived
    if answer.call == "media" and answer.status == 413:
        return Rejected(text, status=413)
    if answer.call in ("upload", "media", "list") and answer.status in _NOBODY_HOME:
        where = "Does the base URL lead to the provider's API, and does the gateway have files and batches?"
        return AccountRefused(f"{text}. {where}", status=answer.status)
    return Transient(text, status=answer.status, retry_after=answer.retry_after)


def _refusal(answer: Refusal, said: Said) -> ProviderError:
    text, status = said.text, answer.status
    if said.fault == "absent" and answer.call in ("create", "ask", "item"):
        return Absent(text, status=404 if status == 403 else status)
    if said.fault == "account" or status in (401, 402, 403):
        return AccountRefused(text, status=status)
    if status == 429:
        return Throttled(text, status=status, retry_after=answer.retry_after)
    if answer.call == "item" and status in (404, 410):
        return Absent(text, status=status)
    if said.fault == "content" or said.requests or (answer.call in _ONE_REQUEST and status in (400, 413, 422)):
        return Rejected(text, status=status, requests=said.requests)
    if status == 404 and answer.call != "item":
        return AccountRefused(f"{text}. Does the base URL lead to the provider's API?", status=status)
    return Refused(text, status=status)

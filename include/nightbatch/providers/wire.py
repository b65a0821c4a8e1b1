"""What the adapters share: fingerprints, errors, and lines out of a download."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from nightbatch.errors import AccountRefused, ProviderError, Rejected, Throttled, Transient
from nightbatch.models import Answer, UnreadableLine, Usage

CONNECT_SECONDS = 10.0
# Long enough for 200 MB on a slow line; a create that takes longer is in doubt, not lost.
READ_SECONDS = 600.0
_MESSAGE_CHARACTERS = 300

for _name in ("openai", "anthropic", "google_genai", "httpx", "httpx2", "httpcore", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # below it they log URLs, headers and bodies


def fingerprint(provider: str, account: str | None, *parts: str | None) -> str:
    """Who pays, in 16 hex characters: the account's name if it has one, else made from base URL and key."""
    secret = account or "\n".join(part or "" for part in parts)
    return hashlib.sha256(f"{provider}\n{bool(account)}\n{secret}".encode()).hexdigest()[:16]


def translate(
    message: str,
    status: int | None,
    *,
    in_its_own_words: bool,
    retry_after: str | None = None,
    account: bool = False,
    requests: tuple[int, ...] = (),
) -> ProviderError:
    """A status and the provider's message as an error of ours.

    ``in_its_own_words``: the body has the provider's error shape, so the answer is not some proxy's on the way.
    ``account``: the provider says that key, quota or credit is the trouble.
    """
    text = " ".join(message.split())[:_MESSAGE_CHARACTERS]
    seconds = float(retry_after) if retry_after and retry_after.replace(".", "", 1).isdigit() else None
    if account or status in (401, 402, 403):
        return AccountRefused(text, status=status)
    if status == 429:
        kind = Throttled if in_its_own_words else Transient
        return kind(text, status=status, retry_after=seconds)
    if status is None or status >= 500 or status in (408, 409) or not in_its_own_words:
        return Transient(text, status=status, retry_after=seconds)
    return Rejected(text, status=status, requests=requests)


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream, without line breaks. Raises `Transient` when the last one was cut short."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from filter(None, whole)
    if rest.strip():
        try:
            orjson.loads(rest)
        except orjson.JSONDecodeError:
            raise Transient("The download ended in the middle of a line.") from None
        yield rest


def read_object(line: bytes) -> dict[str, Any] | UnreadableLine:
    """A line as an object, or the reason why it is none."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return UnreadableLine(line, "the line is no JSON")
    return found if isinstance(found, dict) else UnreadableLine(line, "the line is no JSON object")


def usage(input_tokens: Any, output_tokens: Any, cached_tokens: Any = 0) -> Usage | None:
    """Tokens as billed; None when a number is missing or cannot be: an unknown cost, not a cost of nothing."""
    numbers = (input_tokens, output_tokens, cached_tokens or 0)
    if not all(isinstance(number, int) and 0 <= number < 2**31 for number in numbers) or numbers[2] > numbers[0]:
        return None
    return Usage(input_tokens=numbers[0], output_tokens=numbers[1], cached_tokens=numbers[2])


def why_unusable(answer: Answer) -> str | None:
    """For a person: an answer that was refused or stops short."""
    return None if answer.outcome == "succeeded" else f"the model's answer ended with {answer.finish_reason}"


def render_line(value: dict[str, Any]) -> bytes:
    """One line of an input file. Raises `Rejected` for text that is no Unicode."""
    try:
        return orjson.dumps(value)
    except (orjson.JSONEncodeError, UnicodeEncodeError):
        raise Rejected("the request holds half a character (a lone surrogate)") from None

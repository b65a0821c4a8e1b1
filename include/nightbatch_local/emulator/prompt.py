"""Hold a request as the answer generator sees it, whatever provider it was written for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal

import orjson

from nightbatch_local.emulator.errors import ApiError

Finish = Literal["stop", "length", "refusal", "no-parts"]

_MARKER = re.compile(r"\[\[emulator:([a-z-]+)(?:=(\d+))?\]\]")
EXPIRE_MARKER = b"[[emulator:expire]]"

_EMPTY = """
about after again also answer been before being both could does each either every follow following from give given have
here into itself just like make many more most much must only other over please same shall should some such than that
their them then there these they this those under until upon very want were what when where which while will with would
write your yours
"""
_EMPTY_WORDS = frozenset(_EMPTY.split())
_CACHE_MINIMUM = 1024
_LONG_QUESTION = 60  # tokens
_CACHE_STEP = 128
# Of a picture of up to 1024 by 1024: https://ai.google.dev/gemini-api/docs/pricing
PICTURE_TOKENS = 1290


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request to a model. `digest` names its body: the same body, model and seed give the same answer.

    `thoughts` is how many tokens the model usually thinks; `max_tokens` holds them and the answer.
    """

    model: str
    system: str
    text: str
    digest: str
    schema: dict[str, Any] | None = None
    tool: str | None = None
    max_tokens: int | None = None
    media_tokens: int = 0
    audio_tokens: int = 0
    caches: bool = True
    writes_cache: bool = False
    cache_hour: bool = False
    thoughts: int = 0
    searches: bool = False
    opens_pages: bool = False
    picture: bool = False

    def markers(self) -> dict[str, str | None]:
        """Return the `[[emulator:...]]` markers in the text, with their values."""
        text = self.system + self.text
        return dict(_MARKER.findall(text)) if "[[emulator:" in text else {}


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of tokens.

    `input_tokens` includes the cached, the written and the `tool` ones, `written` those kept for an hour, and `output_tokens` the
    thoughts and those of a `picture`.

    `searches` are counted by themselves, and so is what another model was asked for and drew: `asked_to_draw`, `drawn`.
    """

    input_tokens: int
    cached_tokens: int = 0
    output_tokens: int = 0
    written: int = 0
    written_for_an_hour: int = 0
    audio: int = 0
    thoughts: int = 0
    searches: int = 0
    tool: int = 0
    picture: int = 0
    asked_to_draw: int = 0
    drawn: int = 0

    def others(self) -> dict[str, int]:
        """Return what is not 0 beside the three, for the log."""
        names = (
            *("written", "written_for_an_hour", "audio", "thoughts", "searches", "tool", "picture"),
            *("asked_to_draw", "drawn"),
        )
        return {name: count for name in names if (count := getattr(self, name))}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says. `value` is the JSON object behind `text` where a schema was asked for."""

    text: str
    value: Any
    finish: Finish
    usage: Usage
    shows_usage: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """A provider's response body and what it will charge for."""

    body: dict[str, Any]
    model: str
    usage: Usage


def digest_of(seed: int, model: str, body: Any) -> str:
    """Return 24 hex digits from the seed, the model and the request body."""
    content = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return blake2b(content, digest_size=12, key=f"{seed}:{model}".encode()[:64]).hexdigest()


def tokens_in(text: str) -> int:
    """Count about four characters a token, as the providers' guides say for English."""
    return (len(text) + 3) // 4


def thoughts_of(prompt: Prompt) -> int:
    """Return how many tokens the model thinks about a request: half to one and a half of what is usual, or as it was marked.

    About a short question less; and no more than its limit.
    """
    marked = prompt.markers().get("think")
    share = min(1.0, (tokens_in(prompt.system) + tokens_in(prompt.text)) / _LONG_QUESTION)
    usual = int(prompt.thoughts * share * (0.5 + int(prompt.digest[2:4], 16) / 256))
    thoughts = int(marked) if marked else usual
    return thoughts if prompt.max_tokens is None else min(thoughts, prompt.max_tokens)


def usage_of(prompt: Prompt, text: str) -> Usage:
    """Return what a request with this answer is billed for.

    A long system prompt is found in the cache by three requests of four; which ones follows from the digest. The others
    write it there, where the model bills that.
    """
    system = tokens_in(prompt.system)
    page = 40 + int(prompt.digest[5:7], 16) if prompt.opens_pages else 0
    total = system + tokens_in(prompt.text) + prompt.media_tokens + prompt.audio_tokens + page + 7
    picture = PICTURE_TOKENS if prompt.picture else 0
    prefix = system // _CACHE_STEP * _CACHE_STEP if prompt.caches and system >= _CACHE_MINIMUM else 0
    found = int(prompt.digest[:2], 16) % 4 != 0
    written = prefix if prefix and not found and prompt.writes_cache else 0
    thoughts = thoughts_of(prompt)
    return Usage(
        input_tokens=total,
        cached_tokens=prefix if found else 0,
        output_tokens=max(0 if thoughts else 1, tokens_in(text)) + thoughts + picture,
        written=written,
        written_for_an_hour=written if prompt.cache_hour else 0,
        audio=prompt.audio_tokens,
        thoughts=thoughts,
        searches=1 + int(prompt.digest[4], 16) % 3 if prompt.searches else 0,
        tool=page,
        picture=picture,
    )


def raise_for_marker(markers: dict[str, str | None]) -> None:
    """Raise the `ApiError` that `[[emulator:error=STATUS]]` asks for."""
    if "error" in markers:
        status = int(markers["error"] or 500)
        raise ApiError(status, f"The emulator was asked to answer this request with {status}.", code="emulator_error")


@lru_cache(maxsize=1024)
def canonical_words(text: str) -> tuple[str, ...]:
    """Return the longer words of a text, each once, in order: what an answer to it may mention."""
    plain = _MARKER.sub(" ", text)
    words = re.findall(r"[^\W\d_]{4,20}", plain)
    distinct = dict.fromkeys(word.lower() for word in words)
    return tuple(word for word in distinct if word not in _EMPTY_WORDS)[-60:]

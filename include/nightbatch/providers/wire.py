"""What the adapters share: fingerprints, errors, clients of an event loop, and lines out of a download."""

from __future__ import annotations

import asyncio
import base64
import codecs
import dataclasses
import hashlib
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import httpx
import httpx2
import msgspec
import orjson
from msgspec.structs import replace

from nightbatch.core.certainty import Call, Refusal, Said, error_of
from nightbatch.core.errors import Absent, NightbatchError, ProviderError, Rejected, Transient, Unreachable
from nightbatch.core.models import (
    Answer,
    Counts,
    EmbeddingInput,
    Endpoint,
    FoundBatch,
    ListedBatch,
    Media,
    Prompt,
    RawRequest,
    Request,
    ResultLine,
    UnreadableLine,
    Usage,
)
from nightbatch.providers.http import MAX_BYTES, NotCalled, TooLarge
from nightbatch.providers.way import in_words

# They stand for an id and a text, and are found in no prompt.
_ID, _TEXT = secrets.token_hex(), secrets.token_hex()
_PLACES = re.compile(b'"(?:%b|%b)"' % (_ID.encode(), _TEXT.encode()))
_MAX_FRAMES = 32

MOST_RESUMED = 5
"""How often one transfer goes on after a break; each time it has to have come further."""

RESUME_AFTER = 0.5
"""Seconds before a transfer goes on for the first time; it is twice as long before the second."""

_MESSAGE_CHARACTERS = 300
_CACHED_FROM = 16_384  # characters
_LOGGERS = ("openai", "anthropic", "google_genai", "httpx", "httpx2", "httpcore", "httpcore2")
_T = TypeVar("_T")


def quiet() -> None:
    """Keep prompts and keys out of the logs: below WARNING, SDKs and HTTP clients log URLs, headers and bodies.

    Called for every adapter that is made: ``OPENAI_LOG`` and its like set other levels when an SDK is imported.
    """
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def fingerprint(account: str | None, *parts: str | None) -> str:
    """Return who pays: the account's name if it has one, else 16 hex characters made from provider, base URL and key."""
    return account or hashlib.sha256("\n".join(part or "" for part in parts).encode()).hexdigest()[:16]


class PerLoop(Generic[_T]):
    """An async client for every event loop that asks for one; it goes when its loop goes."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _T] = WeakKeyDictionary()

    def client(self) -> _T:
        """Return the client of the running event loop, made when it is first asked for."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = self._make()
        return self._clients[loop]


class Response(Protocol):
    """A response as httpx and httpx2 hand it over."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def content(self) -> bytes: ...


def refusal(
    response: Response, read: Callable[[Any, int], Said | None], *, call: Call, own_host: bool, secret: str
) -> ProviderError:
    """Return the error to raise for an HTTP answer that is no success.

    ``read`` takes the body's JSON and the status, and returns None for what is not the provider's own error envelope.
    """
    said = _said(response, read)
    if said is not None:
        said = dataclasses.replace(said, text=brief(said.text, secret))
    wait = said.retry_after if said and said.retry_after is not None else _retry_after(response.headers)
    return error_of(Refusal(call, response.status_code, said, own_host, wait))


def _said(response: Response, read: Callable[[Any, int], Said | None]) -> Said | None:
    """Return what the body says, read from its bytes: what the SDKs hand over is not what came."""
    try:
        return read(orjson.loads(response.content), response.status_code)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError):  # RuntimeError: a stream that was not read
        return None


@dataclass(slots=True)
class Sending:
    """How far a request has come, as its client tells (see `watch`)."""

    handed_over: bool = False
    head_failed: bool = False

    def traced(self, event: str, _: object) -> None:
        """Take note of what httpcore tells of a request in its ``trace`` extension."""
        self.head_failed = self.head_failed or event.endswith("send_request_headers.failed")


_sending: ContextVar[Sending | None] = ContextVar("_sending", default=None)


@dataclass(slots=True)
class Fresh:
    """A record of whether all answers within came from the provider, and none out of a cache on the way."""

    asked_at: datetime | None
    held: str | None = None

    def proven(self, provider: str, found: list[FoundBatch]) -> list[FoundBatch]:
        """Return what was found. Raise `Transient` where nothing certain was, and a cache has answered.

        What a cache has held since before a create proves nothing about it.
        """
        if self.held and not any(batch.certain for batch in found):
            raise Transient(
                f"{provider}'s list came out of a cache on the way ({self.held}), or the database's clock is wrong: what"
                " it leaves out may be there. Let nothing between nightbatch and the provider keep answers."
            )
        return found


_fresh: ContextVar[Fresh | None] = ContextVar("_fresh", default=None)
_OLD = 60.0
"""Seconds by which an answer's Date may lie behind the moment of asking: less than the settle wait."""


@contextmanager
def fresh(asked_at: datetime | None) -> Iterator[Fresh]:
    """Ask for fresh answers within, and note those that are not. The clients need `ask_fresh` and `see_fresh` as hooks.

    ``asked_at`` is now by the database's clock: a machine's own may be days off. None: the Date of an answer tells nothing.
    """
    seen = Fresh(asked_at)
    token = _fresh.set(seen)
    try:
        yield seen
    finally:
        _fresh.reset(token)


def ask_fresh(request: httpx.Request | httpx2.Request) -> None:
    """Ask caches for what the provider says now (RFC 9111, 5.2.1.4); a hook for the requests of a client."""
    if _fresh.get():
        request.headers.update({"Cache-Control": "no-cache", "Pragma": "no-cache"})


def see_fresh(response: httpx.Response | httpx2.Response) -> None:
    """Note an answer that a cache has held; a hook for the responses of a client."""
    seen = _fresh.get()
    if seen and not seen.held:
        seen.held = _held_by_a_cache(response.headers, seen.asked_at)


def _held_by_a_cache(headers: Mapping[str, str], asked_at: datetime | None) -> str | None:
    age = headers.get("age", "").strip()
    if age and age.strip("0"):  # whatever it is: only 0 says that it is new
        return f"Age: {brief(age)}"
    for name in ("x-cache", "x-cache-status", "cf-cache-status", "x-proxy-cache", "x-varnish-cache", "cache-status"):
        if re.search(r"hit|stale|updating", headers.get(name, ""), re.IGNORECASE):
            return f"{name}: {brief(headers[name])}"
    if headers.get("warning", "").startswith(("110", "111")):
        return "Warning: stale"
    if asked_at is None:
        return None
    try:
        told = parsedate_to_datetime(headers.get("date", ""))
        behind = (asked_at - told).total_seconds()
    except (ValueError, TypeError):
        return None
    return f"Date: {behind:.0f} seconds ago" if behind > _OLD else None


def watch(request: httpx.Request | httpx2.Request) -> None:
    """Note that a request is built and goes to the network: a hook of every client that sends creates or asks."""
    if sending := _sending.get():
        sending.handed_over = True
        request.extensions["trace"] = sending.traced


HOOKS: Mapping[str, list[Callable[..., Any]]] = {"request": [watch, ask_fresh], "response": [see_fresh]}
"""The hooks of every client that sends a create, asks, or reads a list."""


@contextmanager
def translated(provider: str, call: Call, sdk: type[Exception]) -> Iterator[None]:
    """Raise nightbatch's errors for those of an HTTP client, of the ``sdk``, and of answers with something else in them.

    A create or a realtime call is watched: whatever fails before it goes to the network was not sent.
    """
    sending = Sending() if call in ("create", "ask") else None
    token = _sending.set(sending) if sending else None
    try:
        yield
    except NightbatchError:
        raise
    except Exception as error:
        found = _unanswered(provider, error, sending, sdk)
        if found is None:
            raise
        raise found from None
    finally:
        if token:
            _sending.reset(token)


_HTTP_ERRORS = (httpx.HTTPError, httpx2.HTTPError, httpx.InvalidURL, httpx2.InvalidURL)
_BEFORE_THE_FIRST_BYTE = (
    *(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError),
    *(httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol, httpx2.ProxyError),
    *(httpx.InvalidURL, httpx2.InvalidURL),
)
"""TLS that fails is a ConnectError, and a tunnel that a proxy refuses a ProxyError (httpcore's connection.py)."""
_LOCAL = (httpx.LocalProtocolError, httpx2.LocalProtocolError)
"""Raised for a header that cannot be written, and so before the first byte; but also for a body of another length than said."""


def _unanswered(provider: str, error: Exception, sending: Sending | None, sdk: type[Exception]) -> Transient | None:
    cause = error if isinstance(error, _HTTP_ERRORS) else error.__cause__
    if isinstance(cause, NotCalled):
        return Unreachable(str(cause))
    if isinstance(cause, TooLarge):
        return Transient(str(cause))
    unwritable = isinstance(cause, _LOCAL) and (sending is None or sending.head_failed)
    if isinstance(cause, _BEFORE_THE_FIRST_BYTE) or unwritable:
        return Unreachable(f"{provider} was not reached: {in_words(cause)}")
    if sending and not sending.handed_over:
        return Unreachable(f"The request to {provider} could not be built: {type(error).__name__}")
    if isinstance(cause, _HTTP_ERRORS):
        return Transient(f"{provider} did not answer: {type(error).__name__}")
    if isinstance(error, (sdk, ValueError, TypeError, KeyError, AttributeError)):
        # Status 200 with something else in it, as from a login page on the way; or results that are not there yet.
        return Transient(f"{provider}'s answer could not be read: {type(error).__name__}")
    return None


def brief(text: object, secret: str = "") -> str:
    """Return a message on one line, cut, without the key, which some servers repeat."""
    line = " ".join(str(text).split())
    return (line.replace(secret, "[key]") if secret else line)[:_MESSAGE_CHARACTERS]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in the header, which holds a number of them, or a date; None without one that can be read."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), 86_400.0) if seconds == seconds else None


def require_id(found: str | None) -> str:
    """Return an id or a word from an answer.

    Raises `ValueError` when there is none: the SDKs take any object for the one they expect.
    """
    if not isinstance(found, str) or not found:
        raise ValueError
    return found


def to_counts(total: int, succeeded: int, errored: int) -> Counts | None:
    """Return a provider's counts of a batch's requests; None where a number is missing or is none: the SDKs do not check."""
    whole = all(type(count) is int for count in (total, succeeded, errored))
    return Counts(total, succeeded, errored) if whole else None


def of_tag(listed: Iterable[ListedBatch], tag: str) -> list[FoundBatch]:
    """Return those batches of a list that carry this tag."""
    return [
        FoundBatch(batch.provider_batch_id, certain=True, created_at=batch.created_at)
        for batch in listed
        if batch.tag == tag
    ]


def any_of_ours(listed: Iterable[ListedBatch]) -> bool:
    """Return whether a batch of the list carries a tag of ours: then the connection shows tags."""
    return any(str(batch.tag).startswith("nb-") for batch in listed)


@contextmanager
def still_kept() -> Iterator[None]:
    """Raise `Absent` with 410 for results that the provider has deleted, to tell them from an unknown batch (404)."""
    try:
        yield
    except Absent as error:
        if error.status != 404:
            raise
        raise Absent(f"The provider does not keep the results any more: {error}", status=410) from None


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """Let a delete of what is deleted already pass: `Absent` is suppressed."""
    with suppress(Absent):
        yield


def lines(chunks: Iterable[bytes], known: Container[int] = ()) -> Iterator[bytes]:
    """Yield the lines of a stream, without line breaks and those whose hash is ``known``.

    Raises `Transient` when the last one was cut short, or one is longer than any answer.
    """
    parts: list[bytes] = []  # of one line: a line of embeddings may be as long as a thousand chunks
    size = 0
    for chunk in chunks:
        first, *whole = chunk.split(b"\n")
        parts.append(first)
        if not whole:
            size += len(first)
            if size > MAX_BYTES:
                raise Transient(f"A line of the results has more than {MAX_BYTES:,} bytes, as no answer has: not read.")
            continue
        size = 0
        whole.insert(0, b"".join(parts))
        parts = [whole.pop()]
        for line in whole:
            if line.strip() and hash(line) not in known:
                yield line
    rest = b"".join(parts)
    if rest.strip() and hash(rest) not in known:
        if isinstance(read_object(rest), UnreadableLine):
            raise Transient("The download ended in the middle of a line.")
        yield rest


class Download(Protocol):
    """A response as the SDKs and httpx stream it."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def iter_bytes(self) -> Iterator[bytes]: ...


def download_with_resume(ask: Callable[[dict[str, str]], AbstractContextManager[Download]]) -> Iterator[bytes]:
    """Yield all bytes of a download; ``ask`` sends the request with the headers that it is given.

    One that breaks off goes on from where it did, if the server shows by length and validator that it is the same file
    (RFC 9110, 14 and 13.1.5). No provider promises that; where it does not, the break is raised as it came.
    """
    headers: dict[str, str] = {}
    length, validator, received, resumed = 0, "", 0, 0
    while True:
        with ask(headers) as response:
            if not resumed:
                length, validator = _length(response), response.headers.get("etag", "")
            elif not _goes_on(response, received, length, validator):
                raise Transient("The download broke off, and the provider does not send the rest alone.")
            before = received
            try:
                for chunk in response.iter_bytes():
                    received += len(chunk)
                    yield chunk
                return
            except (httpx.TransportError, httpx2.TransportError):
                if received == before or not before < received < length or resumed == MOST_RESUMED:
                    raise
        resumed += 1
        wait_for_the_line(resumed)
        headers = {"Range": f"bytes={received}-", "Accept-Encoding": "identity"}
        if validator and not validator.startswith("W/"):
            headers["If-Range"] = validator


def wait_for_the_line(broken: int) -> None:
    """Sleep before a transfer goes on, longer after each break of it."""
    time.sleep(RESUME_AFTER * broken)


def _length(response: Download) -> int:
    """Return how many bytes are to come; 0 if that is not known, as for what is compressed on the way."""
    told = response.headers.get("content-length", "")
    return int(told) if told.isdecimal() and not response.headers.get("content-encoding") else 0


def _goes_on(response: Download, received: int, length: int, validator: str) -> bool:
    return (
        response.status_code == 206
        and response.headers.get("content-range") == f"bytes {received}-{length - 1}/{length}"
        and response.headers.get("etag", "") == validator
        and not response.headers.get("content-encoding")
    )


def read_object(line: bytes) -> dict[str, Any] | UnreadableLine:
    """Return a line as an object, or the reason why it is none."""
    text = line.removeprefix(codecs.BOM_UTF8)
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            found = _mended(text)
        except (ValueError, RecursionError):
            return UnreadableLine(line, "the line is no JSON")
    return found if isinstance(found, dict) else UnreadableLine(line, "the line is no JSON object")


def _mended(line: bytes) -> Any:
    """Return JSON with half a character in it, as in an answer cut inside an emoji: it is paid for, and stays readable."""
    return orjson.loads(json.dumps(json.loads(line.decode()), ensure_ascii=False).encode("utf-8", "replace"))


def usage(
    input_tokens: Any,
    output_tokens: Any,
    cached_tokens: Any = 0,
    *,
    terms: tuple[str, ...] = (),
    parts: Mapping[str, Any] = MappingProxyType({}),
    **units: Any,
) -> Usage | None:
    """Return what is billed; None when a number is missing or cannot be: an unknown cost, not a cost of nothing.

    ``true`` is no number here, though it is one to Python: the load could not store it. Of the ``units``, None or 0 is one
    that was not used; of ``parts``, which divide others, a 0 says something too.
    """
    told = {name: count for name, count in units.items() if count or type(count) is bool} | dict(parts)
    numbers = (input_tokens, output_tokens, cached_tokens or 0)
    counts = (*numbers, *told.values())
    if not all(type(number) is int and 0 <= number < 2**31 for number in counts) or numbers[2] > numbers[0]:
        return None
    return Usage(*numbers, tuple(told.items()), terms)


_USUAL_TIERS = (None, "", "default", "standard", "auto", "batch", "unspecified")


def tier(told: Any) -> tuple[str, ...]:
    """Return the term of a service tier, which has prices of its own; empty for the usual ones. Gemini may write it in full."""
    name = told.lower().removeprefix("service_tier_") if isinstance(told, str) else told
    return () if name in _USUAL_TIERS else (brief(f"service_tier={name}"),)


def sum_tokens(*counts: Any) -> int | None:
    """Return the sum of token counts, in which None is nothing; None when one of them is no number."""
    numbers = [count for count in counts if count is not None]
    return sum(numbers) if all(type(number) is int and number >= 0 for number in numbers) else None


def parse_vector(numbers: list[float]) -> tuple[float, ...]:
    """Return an embedding. Raises `TypeError` for anything but a list of numbers."""
    if not isinstance(numbers, list):
        raise TypeError
    sum(numbers)  # the quickest way to find something that is no number
    return tuple(numbers)


def something(value: object) -> bool:
    """Return whether a field holds anything: providers also write down what is not there, as null or an empty list."""
    return bool(value)


def said(error: object) -> str:
    """Return what an error of any shape says: a text, or an object with a message, maybe within another."""
    if not isinstance(error, dict):
        return str(error or "")
    for key in ("message", "error", "detail", "code", "type"):
        if error.get(key):
            return said(error[key])
    return ""


_verbatim = msgspec.json.Decoder(float_hook=msgspec.Raw).decode


def digits_kept(line: bytes, found: dict[str, Any], *path: str) -> dict[str, Any]:
    """Return ``found``, which stands at this path in the line, with numbers that `as_json` writes as they came.

    A float has 17 digits, and JSON's usual reader none of more than 64 bits.
    """
    own: Any
    try:
        own = _verbatim(line.removeprefix(codecs.BOM_UTF8))
        for key in path:
            own = own[key]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return found  # half a character in it: see `_mended`
    return cast("dict[str, Any]", own)


as_json = msgspec.json.Encoder().encode


def well_formed(line: ResultLine | UnreadableLine) -> ResultLine | UnreadableLine:
    """Return the line itself. Raises `TypeError` where something that should be text is not: the load could not store it."""
    if isinstance(line, ResultLine):
        answer = line.answer or Answer("succeeded")
        texts = (line.custom_id, answer.text, answer.finish_reason, answer.model)
        if line.custom_id is None or not all(isinstance(text, str | None) for text in texts):
            raise TypeError
    return line


def why_unusable(answer: Answer) -> str | None:
    """Return, for a person, why an answer was refused or stops short; None for one that succeeded."""
    if answer.outcome == "succeeded":
        return None
    nothing = "" if answer.text or answer.message else ", and holds nothing"
    return brief(f"the model's answer ended with {answer.finish_reason}{nothing}")


_FOR_PROMPTS = ("chat", "responses")


def require_fit(endpoint: Endpoint, request: Request) -> None:
    """Raise `Rejected` for a prompt on an endpoint of another kind, and for embeddings on any but theirs."""
    if isinstance(request, EmbeddingInput) and endpoint != "embeddings":
        raise Rejected(f"the endpoint {endpoint} does not take a {type(request).__name__}")
    if isinstance(request, Prompt) and endpoint not in _FOR_PROMPTS:
        raise Rejected(f"the endpoint {endpoint} does not take a {type(request).__name__}")


def require_no_url(request: Request) -> None:
    """Raise `Rejected` for a ready body that names an endpoint of OpenAI's at another provider."""
    if isinstance(request, RawRequest) and request.url is not None:
        raise Rejected("url: only OpenAI's batches have one; leave it out")


def with_model(body: dict[str, Any], model: str) -> dict[str, Any]:
    """Return a ready body with its batch's model. Raises `Rejected` where it names another one."""
    named = body.get("model")
    if isinstance(named, str) and named.strip() not in ("", model):
        raise Rejected(
            f"body: it asks for the model {brief(named)[:60]}, and the job for {model[:60]}: which one is meant?"
        )
    return body | {"model": model}


def merged(body: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with a person's own words for it: objects member by member, anything else in place of what was there."""
    for name, value in options.items():
        there = body.get(name)
        body[name] = merged(dict(there), value) if isinstance(there, dict) and isinstance(value, dict) else value
    return body


def is_long(text: str | None) -> bool:
    """Return whether a prefix is worth a mark for the cache: about 4,096 tokens, the most that any model asks for.

    https://platform.claude.com/docs/en/build-with-claude/prompt-caching#cache-limitations
    """
    return len(text or "") >= _CACHED_FROM


_rest = attrgetter(*(name for name in Prompt.__struct_fields__ if name not in ("user", "media")))


class LineWriter:
    """Writes the lines of input files; an adapter's own ``line`` gives one as a dictionary.

    Prompts without media that differ only in their text have all else in common, the schema above all, which some
    providers want translated: that is made once.
    """

    def __init__(self, line: Callable[[str, str, Endpoint, Request], dict[str, Any]]) -> None:
        self._line = line
        self._frames: dict[bytes, list[bytes]] = {}
        self._last, self._last_frame = b"", [b"", b"", b""]
        self._checked: tuple[Any, ...] = ()

    def write(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> bytes:
        """Return one line, without a line break. Raises `Rejected` as the adapter does, and for text that is no Unicode."""
        try:
            if not isinstance(request, Prompt) or request.media:
                return orjson.dumps(self._line(custom_id, model, endpoint, request))
            before, between, after = self._frame(model, endpoint, request)
            return b"".join((before, orjson.dumps(custom_id), between, orjson.dumps(request.user), after))
        except orjson.JSONEncodeError:
            raise Rejected(
                "the request cannot be written as JSON: it holds half a character (a lone surrogate), or a number too large"
            ) from None

    def check(self, model: str, endpoint: Endpoint, request: Request) -> None:
        """Raise `Rejected` as `write` does. Of consecutive requests that differ only in their text, one is written."""
        if not isinstance(request, Prompt) or request.media:
            self.write(_ID, model, endpoint, request)
            return
        rest = (model, endpoint, *_rest(request))
        if rest != self._checked:
            self.write(_ID, model, endpoint, request)
            self._checked = rest

    def _frame(self, model: str, endpoint: Endpoint, prompt: Prompt) -> list[bytes]:
        # Not the schema's identity: a type may change it in place
        key = orjson.dumps((model, endpoint, *_rest(prompt)), default=msgspec.to_builtins)
        if key != self._last:  # compared sooner than hashed
            frame = self._frames.get(key)
            if frame is None:
                line = orjson.dumps(self._line(_ID, model, endpoint, replace(prompt, user=_TEXT)))
                if len(self._frames) == _MAX_FRAMES:
                    self._frames.clear()
                self._frames[key] = frame = _PLACES.split(line)
            self._last, self._last_frame = key, frame
        return self._last_frame


def in_base64(media: Media) -> str:
    """Return the bytes of a file as base64. Raises `Rejected` when it cannot be read, or is still as a job named it."""
    path = Path(media.path or "")
    if media.mime_type is None or not path.is_absolute():
        raise Rejected("its media were not looked for in the media folder")
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise Rejected(f"a media file cannot be read ({type(error).__name__})") from None


def image(provider: str, media: Media) -> tuple[str, str]:
    """Return MIME type and base64 of an image. Raises `Rejected` for a video, or one that only Gemini can open."""
    if media.path is None or (media.mime_type or "image/").partition("/")[0] != "image":
        raise Rejected(f"{provider} cannot watch videos: give frames")
    return media.mime_type or "", in_base64(media)

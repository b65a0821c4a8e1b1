"""The words of the field as frozen values; nothing here does any I/O.

Types that exist once per job are msgspec Structs: ten times cheaper to create than dataclasses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

ProviderName = str
"""One of `nightbatch.core.profiles.profiles`; checked where it comes in."""

Endpoint = Literal["chat", "responses", "embeddings", "completions", "moderations", "images", "image_edits", "videos"]
"""The endpoint that all requests of a batch go to: every provider has ``chat``; ``responses`` is OpenAI's newer form of it.

Anthropic has no other, and Gemini has ``embeddings`` too; those after ``embeddings`` are OpenAI's, for ready bodies.
"""

JobState = Literal["queued", "batched", "succeeded", "failed", "rejected", "cancelled", "held"]

BatchState = Literal["planned", "uploaded", "submitting", "held", "submitted", "loaded", "refused", "abandoned"]
"""A submission attempt, from the ledger's view; docs/architecture.md draws the transitions."""

Outcome = Literal[
    "succeeded", "failed", "errored", "refused", "truncated", "expired", "cancelled", "missing", "duplicate"
]
"""What became of one request.

``failed`` does not fit the job type's output, ``errored`` is the provider's own error, ``refused`` and ``truncated`` are
answers that were paid for but say no or stop short.
"""

_CUSTOM_ID = re.compile(r"j([1-9][0-9]{0,18})_a([1-9][0-9]{0,18})(?:_([0-9a-f]{16}))?", re.ASCII)


class RequestId(NamedTuple):
    """The parts of a ``custom_id``. Job and attempt are numbers of one database; the nonce tells whose.

    ``nonce`` is None in requests that releases before 0.2 rendered.
    """

    job_id: int
    batch_id: int
    nonce: str | None


def custom_id(job_id: int, batch_id: int, nonce: str | None) -> str:
    """Return a request's id, ``j<job id>_a<attempt id>_<nonce of the attempt>``: at most 58 characters of the 64 allowed."""
    return f"j{job_id}_a{batch_id}_{nonce}" if nonce else f"j{job_id}_a{batch_id}"


def parse_custom_id(text: str) -> RequestId | None:
    """Return the parts of an id, or None for one that nightbatch never gives."""
    match = _CUSTOM_ID.fullmatch(text)
    return RequestId(int(match[1]), int(match[2]), match[3]) if match else None


class Media(msgspec.Struct, frozen=True):
    """A video, an image, a PDF or a sound of a request: a file at ``path``, or what the provider finds at ``uri`` by itself.

    A job names a path relative to the media folder; `nightbatch.jobs.media` makes it absolute, looks at the content for
    ``mime_type``, and puts the ``uri`` of an upload in its place where the provider reads media from uploads. ``fps`` is
    how many frames a second of a video the model looks at.
    """

    path: str | None = None
    uri: str | None = None
    mime_type: str | None = None
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class UploadedMedia:
    """A file that a provider keeps for requests to refer to, until ``expires_at``."""

    file_name: str
    uri: str
    expires_at: datetime


Effort = Literal["light", "none", "minimal", "low", "medium", "high", "max"]
"""How much a model thinks before it answers, in one vocabulary for all providers; `providers.thinking` has the words of each.

``light`` is a little where the model can be told so, and never refused; ``max`` is the most that the model offers.
"""

CacheMark = Literal["auto", "off", "5m", "1h"]
"""How long Anthropic keeps a marked prefix of a prompt; ``auto`` marks for 5 minutes what is long enough to be kept."""


class Turn(msgspec.Struct, frozen=True):
    """An earlier message of a conversation: by the ``user``, or by the ``assistant``, which is the model."""

    role: Literal["user", "assistant"]
    text: str


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call; ``parameters`` is the JSON schema of its arguments, an object."""

    name: str
    parameters: dict[str, Any]
    description: str = ""


class Prompt(msgspec.Struct, frozen=True):
    """A request for text or, with ``schema``, for JSON; the provider's adapter puts it into its own words.

    ``schema`` is a JSON schema whose objects list every property as required and allow no others. ``media`` come before
    the text, in their order, and ``turns`` before both.

    ``max_tokens`` is the longest answer. Thoughts have room of their own beside it: ``thinking_tokens``, else as much as the
    ``effort`` is likely to need; without an ``effort`` the model's own applies. ``temperature`` is refused where a provider takes
    none.

    ``tools`` are functions that may be called; ``tool`` names the one that has to be, or is ``required`` for any of them.
    Where an answer is nothing but one call, its arguments are read as the output.

    ``shared`` is text that many jobs have in common: it stands before all that differs, and is marked to be kept in the
    provider's cache, as the system prompt is (``cache``).

    ``provider_options`` has, by provider, what else its API takes, in its own words: merged into the body, objects member by
    member.
    """

    user: str
    system: str | None = None
    schema: dict[str, Any] | None = None
    schema_name: str = "answer"
    max_tokens: int = 1024
    media: tuple[Media, ...] = ()
    turns: tuple[Turn, ...] = ()
    shared: str | None = None
    effort: Effort | None = None
    thinking_tokens: int | None = None
    temperature: float | None = None
    tools: tuple[Tool, ...] = ()
    tool: str | None = None
    cache: CacheMark = "auto"
    provider_options: dict[ProviderName, dict[str, Any]] = {}


class EmbeddingInput(msgspec.Struct, frozen=True):
    """A request for one vector per text, all of ``dimensions`` numbers (None: the model's own size).

    ``task_type`` says what the vectors are for, in Gemini's words, as ``RETRIEVAL_QUERY``; ``title`` is a document's.
    """

    texts: tuple[str, ...]
    dimensions: int | None = None
    task_type: str | None = None
    title: str | None = None


class RawRequest(msgspec.Struct, frozen=True):
    """A request body in its provider's own words, passed through.

    The batch's model is put into it where it names none; another one is refused. ``url`` is the endpoint of OpenAI's that it is
    for, where that is said.
    """

    body: dict[str, Any]
    url: str | None = None


Request = Prompt | EmbeddingInput | RawRequest


@dataclass(frozen=True, slots=True)
class Limits:
    """What one batch of a provider may hold, from its documentation."""

    max_requests: int
    max_bytes: int
    max_request_bytes: int


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What is billed. ``input_tokens`` is the total, ``cached_tokens`` the part of it read from a cache.

    ``units`` are all others by their names in genai-prices, such as ``("cache_write_tokens", 1800)``: most are parts of the
    totals too. ``terms`` are what else the price depends on, such as ``inference_geo=us``.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    units: tuple[tuple[str, int], ...] = ()
    terms: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A provider's answer to one request, in the same shape for all three.

    ``finish_reason`` is the provider's own word. ``embeddings`` holds a vector per text of an `EmbeddingInput`.
    ``message`` is the answer in the provider's own words, as JSON, where it holds more than text that answers: calls of
    functions, images, further choices. ``rest`` is what of an answer ``text`` does not hold, also thoughts, signatures,
    sources and the reasons of a refusal.
    """

    outcome: Literal["succeeded", "refused", "truncated"]
    text: str | None = None
    embeddings: tuple[tuple[float, ...], ...] | None = None
    finish_reason: str | None = None
    model: str | None = None
    message: bytes | None = None
    rest: bytes | None = None


class ResultLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a batch's results that could be read.

    ``outcome`` is what the provider says: whether the answer fits the job type is decided at the load.
    ``billed`` says whether the provider charges for the line; ``retryable`` whether an unbilled one is worth another try.
    ``counted``: the provider counts it among its successes all the same. ``raw`` is the line as it came, kept when it has to go
    to quarantine.
    """

    custom_id: str
    outcome: Literal["succeeded", "errored", "refused", "truncated", "expired", "cancelled"]
    raw: bytes
    billed: bool
    answer: Answer | None = None
    usage: Usage | None = None
    error: str | None = None
    retryable: bool = False
    counted: bool = False
    account: bool = False
    """Whether an unbilled line failed for the account, as for its credit: the job waits, and no attempt is used up."""


class UnreadableLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a batch's results that is not what the provider promises; it goes to quarantine as it came."""

    raw: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Counts:
    """A provider's counts of a batch's requests; ``succeeded`` are the billed ones."""

    total: int
    succeeded: int
    errored: int


@dataclass(frozen=True, slots=True)
class ProviderState:
    """A batch as its provider describes it.

    ``phase`` is ``running`` also for a status that nobody knows (then ``unknown`` is True). ``failed`` means that nothing
    was run: the whole batch was refused after its creation, and ``error`` says why. ``ended`` has results to load, maybe
    partial or none. ``status`` is the provider's own word.
    """

    provider_batch_id: str
    phase: Literal["running", "ended", "failed"]
    status: str
    counts: Counts | None = None
    error: str | None = None
    unknown: bool = False
    created_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    rejected_requests: dict[int, str] = field(default_factory=dict)
    """For a ``failed`` batch: reasons by line (1 is the first), where the provider names lines."""
    listed: bool = False
    """Whether the state was read off a list, together with others."""
    fault: Literal["requests", "account", "provider"] = "provider"
    """Whose fault a ``failed`` batch is: all of its requests' content, the account's, or the provider's own."""
    tokens: tuple[int, int] | None = None
    """Input and output tokens of the whole batch as the provider adds them up, where it does (OpenAI's ``usage``)."""


@dataclass(frozen=True, slots=True)
class Submission:
    """All that is needed to send an attempt, or to find it again.

    ``tag`` is unique to the attempt; OpenAI and Gemini carry it, Anthropic cannot. ``input_file`` is the provider's id of
    the uploaded input (None for Anthropic). ``intent_at`` is when the create was about to be sent, and ``asked_at``
    when a list is asked for it, both by the database's clock.
    """

    batch_id: int
    tag: str
    model: str
    endpoint: Endpoint
    job_count: int
    input_file: str | None = None
    intent_at: datetime | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListedBatch:
    """A batch in a provider's list: ``tag`` as it carries it (None on Anthropic), and ``requests`` as it counts them."""

    provider_batch_id: str
    tag: str | None
    created_at: datetime | None
    requests: int | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class FoundBatch:
    """A batch in a provider's list that may be a given submission.

    ``certain`` is True where the provider carries our tag; Anthropic's are candidates by time and count only.
    """

    provider_batch_id: str
    certain: bool
    created_at: datetime | None = None

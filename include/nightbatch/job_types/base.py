"""What a job type is: an input, a prompt, an output, and which models do it by default."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from traceback import extract_tb
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import msgspec
import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PydanticUserError, ValidationError

from nightbatch.core.errors import ConfigurationError, NightbatchError, Rejected
from nightbatch.core.lines import why_no_model
from nightbatch.core.models import Answer, Effort, EmbeddingInput, Endpoint, ProviderName, Request
from nightbatch.core.profiles import profile, profiles
from nightbatch.job_types.fast_json import canonical_json
from nightbatch.job_types.tool_calls import tool_calls
from nightbatch.schemas.words import strict

ERASED = b"null"
"""What stands in ``nightbatch.job.input`` once the retention is over."""

_FLOAT4 = 3.4e38  # what a vector's column can hold


def _place(loc: tuple[int | str, ...]) -> str:
    """Return where a fault lies, cut short: a name that the data brings along may be of any length."""
    return ".".join(str(part)[:100] for part in loc)[:300]


def _why_invalid(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first fault of an input; an unknown member comes first, since a misspelt one is what others are missing."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    unknown = [fault for fault in faults if fault["type"] == "extra_forbidden"]
    if not unknown:
        return f"{_place(faults[0]['loc']) or 'input'}: {faults[0]['msg']}"
    loc = unknown[0]["loc"]
    names = [field.alias or name for name, field in model.model_fields.items()] if len(loc) == 1 else []
    return f"{_place(loc)}: {no_such_member(str(loc[-1]), names)}"


def no_such_member(name: str, names: Iterable[str]) -> str:
    """Return why a name is refused, with the one of ``names`` that was probably meant; else with all of them."""
    there = list(names)
    near = get_close_matches(name[:100].casefold(), there, n=1)
    meant = f"; {near[0]} was probably meant" if near else f"; there are {', '.join(there)}" if there else ""
    return f"there is no such member{meant}"


def _named(model: str) -> str:
    if why := why_no_model(model.strip()):
        raise ValueError(why.removeprefix("model: "))
    return model


class JobInput(BaseModel):
    """The base class of inputs that refuse unknown members, so that a misspelt one is not lost. For a team's types too."""

    model_config = ConfigDict(extra="forbid")


class MediaFolderMissing(ConfigurationError):
    """The worker has no media folder where the setting says: the fault is the worker's, not the job's."""


@contextmanager
def costs_the_job(whose: str) -> Iterator[None]:
    """Raise `Rejected` for whatever fails inside, so that it costs one job and not the night; ``whose`` names the code at fault.

    The reason names the error and its place, never its text, which may hold a payload. Errors that say nothing of the job pass:
    `MemoryError`, and a folder that is not there.
    """
    try:
        yield
    except (Rejected, MediaFolderMissing, MemoryError):
        raise
    except Exception as error:
        place = extract_tb(error.__traceback__)[-1]
        where = f"{place.name}, line {place.lineno} of {Path(place.filename).name}"
        raise Rejected(f"{whose} failed with {type(error).__name__} on it ({where})") from error


class OutputInvalid(NightbatchError):
    """A paid answer that does not fit the job type's output: the job fails, and its cost is waste."""


class ParsedOutput(msgspec.Struct, frozen=True, gc=False):
    """The result of a job: JSON for ``result.output``, and vectors for ``nightbatch.embedding``.

    ``whole``: the JSON holds all of the answer, so that nothing of it has to be kept beside.
    """

    json: bytes
    vectors: tuple[tuple[float, ...], ...] = ()
    whole: bool = False


class JobType(ABC):
    """One kind of work. A subclass in a file of its own adds it; see docs/getting-started.md.

    ``models`` holds the default model of each provider that can do it: of every one its own, unless the type says otherwise.
    ``attempts`` is how often a job may be sent in all while it is not billed; ``paid_attempts`` how often it may be paid for when
    the answer is unusable. ``example`` is a valid input: documentation shows it, and planning measures the type's overhead with
    it. ``prompts`` are the system prompts by version, the newest last; a job is asked with that one, and may be reprocessed with
    any other.
    ``retention_days`` is how long inputs and outputs are kept once a job has ended: None as ``NIGHTBATCH_RETENTION_DAYS``
    says, 0 for ever. Hashes and costs stay.
    ``fallback``: whether a job goes to the realtime API, at full price, when no batch would be back by its deadline, unless
    the job itself says; ``fallback_providers`` may answer it then if its own provider is down.
    """

    name: ClassVar[str]
    example: ClassVar[dict[str, Any]]
    attempts: ClassVar[int] = 3
    paid_attempts: ClassVar[int] = 1
    retention_days: ClassVar[int | None] = None
    fallback: ClassVar[bool] = False
    fallback_providers: ClassVar[tuple[ProviderName, ...]] = ()
    prompts: ClassVar[Mapping[str, str]] = MappingProxyType({})
    keeps_context: ClassVar[bool] = False
    openai_endpoint: ClassVar[Endpoint] = "responses"

    Input: ClassVar[type[BaseModel]]
    Output: ClassVar[type[BaseModel]]

    @abstractmethod
    def request(self, job: Any) -> Request:
        """Return what to ask for one job; ``job`` is an instance of ``Input``."""

    @cached_property
    def models(self) -> Mapping[ProviderName, str]:
        """Return the default model of each provider that can do it; a type may give a dict in its place."""
        return {name: facts.chat_model for name, facts in profiles().items()}

    def context(self, job: Any) -> bytes:
        """Return what `read_answer` has to know of the input; asked for where ``keeps_context`` is set. Keep it short."""
        return b""

    def endpoint(self, provider: ProviderName) -> Endpoint:
        """Return where the requests of this type go."""
        return self.openai_endpoint if profile(provider).has_openai_endpoints else "chat"

    @property
    def ready(self) -> bool:
        """Return whether its jobs bring ready bodies, which say themselves where they go and which model they ask."""
        return False

    @cached_property
    def model_in(self) -> str | None:
        """Return where an input may name the model that it asks, as a path for Postgres; None where it may not."""
        return "{model}" if issubclass(self.Input, Tuned) else None

    def endpoints(self, provider: ProviderName) -> tuple[Endpoint, ...]:
        """Return all endpoints that its requests may go to; more than one only for ready bodies, which say which themselves."""
        return (self.endpoint(provider),)

    @property
    def prompt_version(self) -> str | None:
        """Return the version of the system prompt in use; None for a type that does not number them."""
        return self._version or (list(self.prompts)[-1] if self.prompts else None)

    @property
    def system(self) -> str | None:
        """Return the system prompt of the version in use; None for a type that does not number them."""
        version = self.prompt_version
        return self.prompts[version] if version else None

    def at_version(self, version: str | None) -> JobType:
        """Return this type with another version of its prompt. Raises `Rejected` for one that it does not have."""
        if version is None or version == self.prompt_version:
            return self
        if version not in self.prompts:
            there = ", ".join(self.prompts) or "none by number"
            raise Rejected(f"{self.name} has no prompt version {version[:20]!r}; there are {there}")
        other = copy(self)
        other._version = version
        return other

    def read_input(self, raw: bytes) -> Any:
        """Return a job's JSON input as ``Input``. Raises `Rejected` with a reason that names the field, never its value."""
        if raw == ERASED:
            raise Rejected("its input is empty, or was erased when the retention of its type was over")
        try:
            return self.Input.model_validate_json(raw)
        except ValidationError as error:
            raise Rejected(_why_invalid(error, self.Input)) from None

    def render_request(self, raw: bytes) -> Request:
        """Return the request for a job's JSON input.

        Raises `Rejected` as `read_input` does, and for whatever fails in a team's type.
        """
        with costs_the_job(f"the job type {self.name}"):
            return self.request(self.read_input(raw))

    def check_input(self, raw: bytes) -> Request | None:
        """Return the request of an input that is to be queued, if that is known yet.

        Raises `Rejected` for what the night would reject.
        """
        if type(self).render_request is not JobType.render_request:
            return self.render_request(raw)
        try:
            return self.request(self.read_input(raw))
        except Exception:  # noqa: BLE001  told as at night; to be ready for it costs more than the look itself
            return self.render_request(raw)

    def read_answer(self, answer: Answer, context: bytes = b"") -> ParsedOutput:
        """Return the validated output. Raises `OutputInvalid` with a reason that names the field, never its value."""
        text = answer.text or _called(answer)
        try:
            if self._canonical:
                return ParsedOutput(self._canonical(text))
        except (ValueError, TypeError):
            pass  # the model itself has the last word, and the reason
        try:
            return ParsedOutput(self.Output.model_validate_json(text).model_dump_json().encode())
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            where = _place(first["loc"]) or "answer"
            raise OutputInvalid(f"the answer does not fit: {where}: {first['msg']}") from None
        except UnicodeEncodeError:
            raise OutputInvalid("the answer does not fit: it holds half a character") from None

    _version: str | None = None

    @cached_property
    def _canonical(self) -> Callable[[str], bytes] | None:
        return canonical_json(self.Output)

    @cached_property
    def json_members(self) -> frozenset[str]:
        """Return the members of the input that are not text: where a table has one as text, that text is JSON."""
        try:
            schema = self.Input.model_json_schema()
        except PydanticUserError:  # a type that no schema can say takes what it takes
            return frozenset()
        members = schema.get("properties", {})
        return frozenset(name for name, node in members.items() if not _takes_text(node, schema.get("$defs", {})))

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Return the output as the strict JSON schema that all three providers take."""
        made: dict[str, Any] = strict(self.Output.model_json_schema())
        return made

    @cached_property
    def overhead_bytes(self) -> int:
        """Return about what the prompt, schema and envelope of a request add to the bytes of its input."""
        raw = orjson.dumps(self.example)
        request = self.render_request(raw)
        size = len(msgspec.json.encode(request))  # with its texts and its schema
        return max(size - len(raw), 0) + 512


class Tuned(JobInput):
    """The options by which a job may say how it is answered: a base class for the ``Input`` of a type.

    ``effort``: how much the model thinks; ``max_tokens``: the longest answer, thoughts not counted. Both are the type's own
    where they are not given. ``model``: which one is asked where the job's column is empty; a job that names two is rejected.
    """

    model: Annotated[str, AfterValidator(_named)] | None = None
    effort: Effort | None = None
    max_tokens: Annotated[int, Field(ge=1, le=64_000)] | None = None


class EmbeddingType(JobType):
    """A job type whose answer is one vector per text."""

    openai_endpoint: ClassVar[Endpoint] = "embeddings"
    keeps_context: ClassVar[bool] = True

    class Output(BaseModel):
        """The vectors themselves stand in ``nightbatch.embedding``."""

        count: int
        dimensions: int

    @cached_property
    def models(self) -> Mapping[ProviderName, str]:
        """Return the default model of each provider that has one for vectors."""
        return {name: facts.embedding_model for name, facts in profiles().items() if facts.embedding_model}

    @abstractmethod
    def request(self, job: Any) -> EmbeddingInput:
        """Return the texts of one job."""

    def endpoint(self, provider: ProviderName) -> Endpoint:
        """Return ``embeddings``: they have an endpoint of their own everywhere."""
        return "embeddings"

    def context(self, job: Any) -> bytes:
        """Return how many vectors were asked for, and of which size."""
        asked = self.request(job)
        return orjson.dumps((len(asked.texts), asked.dimensions))

    def read_answer(self, answer: Answer, context: bytes = b"") -> ParsedOutput:
        """Return the vectors: one per text, of the size asked for, of finite numbers. Raises `OutputInvalid` otherwise."""
        if answer.embeddings is None:
            raise OutputInvalid("the answer does not fit: its vectors do not say which text each belongs to")
        vectors = answer.embeddings
        sizes = {len(vector) for vector in vectors}
        count, dimensions = orjson.loads(context) if context else (len(vectors), None)
        if len(vectors) != count or (dimensions and sizes != {dimensions}):
            sized = f" of {dimensions} numbers" if dimensions else ""
            raise OutputInvalid(f"the answer does not fit: {count} vectors{sized} were asked for, and others came")
        require_vectors(vectors)
        return ParsedOutput(orjson.dumps({"count": len(vectors), "dimensions": sizes.pop()}), vectors)


def require_vectors(vectors: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    """Return the vectors unchanged. Raises `OutputInvalid` where they could not be stored.

    That is so for none, for different sizes, and for what is no number or one too large.
    """
    sizes = set(map(len, vectors))
    if len(sizes) != 1 or 0 in sizes:
        raise OutputInvalid("the answer does not fit: it holds no vectors, or vectors of different sizes")
    if not all(math.isfinite(sum(v)) and min(v) >= -_FLOAT4 and max(v) <= _FLOAT4 for v in vectors):
        raise OutputInvalid("the answer does not fit: a vector holds something that is no number, or one too large")
    return vectors


def _called(answer: Answer) -> str:
    """Return the arguments of the one function that an answer calls; an empty text if there is not exactly one."""
    calls = tool_calls(answer)
    return calls[0].arguments if len(calls) == 1 else ""


def _takes_text(node: Any, defs: Mapping[str, Any], depth: int = 0) -> bool:
    """Return whether a text may fit a part of an input's schema; a part that says nothing takes everything."""
    if not isinstance(node, Mapping) or depth > 8:
        return True
    if "$ref" in node:
        return _takes_text(defs.get(str(node["$ref"]).rpartition("/")[2]), defs, depth + 1)
    choices = node.get("anyOf") or node.get("oneOf") or node.get("allOf")
    if choices:
        return any(_takes_text(choice, defs, depth + 1) for choice in choices)
    kind = node.get("type")
    return "string" in kind if isinstance(kind, list) else kind in (None, "string")


def writable(value: dict[str, Any]) -> dict[str, Any]:
    """Return the value unchanged. Raises `ValueError` for what no request can hold: too large a number, or too deep a nesting."""
    try:
        written = orjson.dumps(value)
        if b"null" in written:  # also what stands for a number that Python has as infinite, such as 1e400
            json.dumps(value, allow_nan=False)
    except orjson.JSONEncodeError:
        raise ValueError("it holds a whole number of more than 64 bits, or is nested too deep") from None
    except ValueError:
        raise ValueError("it holds a number that is too large") from None
    return value

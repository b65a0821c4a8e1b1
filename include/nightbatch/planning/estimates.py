"""Estimate what the queue will take, before anything is sent: tokens and money, the least and the most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from mimetypes import guess_type
from typing import Any

import orjson

from nightbatch.core.errors import Rejected
from nightbatch.core.ledger import JobRow, Route
from nightbatch.core.models import EmbeddingInput, Prompt, ProviderName, RawRequest, Request
from nightbatch.core.pricing import Rates, rates_for
from nightbatch.core.profiles import profile
from nightbatch.job_types.base import JobType, costs_the_job
from nightbatch.postgres import plans
from nightbatch.postgres.plans import CostModel, Group, Lesson
from nightbatch.postgres.store import Store

Types = Mapping[str, JobType]

# Until results tell: OpenAI's own tokenizer is used for all, and others make up to a third more of the same text
# (https://docs.anthropic.com/en/docs/build-with-claude/token-counting); an answer fills a tenth to all of what it may.
FOREIGN = 1.35
_SHORT_ANSWER = 0.1
_IMAGE_TOKENS = 258  # https://ai.google.dev/gemini-api/docs/tokens
_VIDEO_TOKENS = 60 * 300  # about 300 a second: https://ai.google.dev/gemini-api/docs/video-understanding
_BYTES_PER_TOKEN = 4.0  # of English, where no input could be read
_MAX_ANSWER = 16_384  # of a ready body that sets no bound
_MAX_OF_ALL = 1_000_000  # no model answers with more, whatever a ready body says


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the jobs of one type, provider and model will take, from the least to the most; USD are None without a price."""

    job_type: str
    provider: ProviderName
    model: str
    jobs: int
    input_tokens: tuple[int, int]
    output_tokens: tuple[int, int]
    batch_usd: tuple[Decimal, Decimal] | None
    realtime_usd: tuple[Decimal, Decimal] | None
    price_source: str | None

    def __str__(self) -> str:
        """Describe the estimate in a line for a log."""
        cost = "at an unknown price"
        if self.batch_usd and self.realtime_usd:
            cost = f"for {self.batch_usd[0]:.4f} to {self.batch_usd[1]:.4f} USD, up to {self.realtime_usd[1]:.4f} in realtime"
        return f"{self.jobs} {self.job_type} jobs to {self.provider}, model {self.model}, {cost}"


@dataclass(frozen=True, slots=True)
class Measure:
    """What a plan knows of one group: input tokens per byte, output tokens per job, each from the least to the most."""

    group: Group
    route: Route
    reckoned_per_byte: float
    input_per_byte: tuple[float, float]
    output_per_job: tuple[float, float]
    rates: Rates | None

    def estimate(self, group: Group) -> Estimate:
        """Estimate the group with as many jobs and bytes as it has by now."""
        low, high = (round(group.size * part) for part in self.input_per_byte)
        short, long = (round(group.jobs * part) for part in self.output_per_job)
        return Estimate(
            job_type=self.route.job_type,
            provider=self.route.provider,
            model=group.model,
            jobs=group.jobs,
            input_tokens=(low, high),
            output_tokens=(short, long),
            batch_usd=self._usd((low, short), (high, long), mode="batch"),
            realtime_usd=self._usd((low, short), (high, long), mode="realtime"),
            price_source=self.rates.source if self.rates else None,
        )

    def _usd(self, low: tuple[int, int], high: tuple[int, int], *, mode: str) -> tuple[Decimal, Decimal] | None:
        if self.rates is None:
            return None
        tariff = self.rates.batch if mode == "batch" else self.rates.realtime
        return tariff.cost_together(*low), tariff.cost_together(*high)

    def cost_model(self, limits: Mapping[tuple[str, str], int], *, mode: str) -> CostModel:
        """Return the cost_model at the high end of the estimate.

        What is set aside of a budget, and counted against a queue, should not turn out too little.
        """
        provider, model, high = self.route.provider, self.group.model, self.input_per_byte[1]
        tariff = (self.rates.batch if mode == "batch" else self.rates.realtime) if self.rates else None
        found = [limits[key] for key in ((provider, model), (provider, "")) if key in limits]
        # The largest request is set aside: a batch may begin its last request anywhere below its limit.
        room = max(min(found) - round(self.group.largest * high), 1) if found else None
        return CostModel(
            number=self.group.number,
            model=model,
            tokens_per_byte=high,
            reckoned_per_byte=self.reckoned_per_byte,
            usd_per_byte=tariff.cost_together(Decimal(str(high)), 0) if tariff else None,
            usd_per_job=tariff.cost_together(0, Decimal(str(self.output_per_job[1]))) if tariff else None,
            token_room=room,
        )


def measure(store: Store, types: Types, routes: Sequence[Route], *, at: datetime, mode: str = "batch") -> list[Measure]:
    """Measure what was gathered, and keep the cost_models for the rest of the plan's transaction."""
    groups = plans.groups(store)
    texts = _measured(store, types, {group.number for group in groups})
    learned, overrides = plans.lessons(store), store.price_overrides()
    found = []
    for group in groups:
        route = routes[group.number]
        lesson = learned.get((route.job_type, route.provider, group.model))
        per_byte, longest = texts.get(group.number, (1 / _BYTES_PER_TOKEN, _MAX_ANSWER))
        found.append(
            Measure(
                group=group,
                route=route,
                reckoned_per_byte=per_byte,
                input_per_byte=_input(per_byte, route.provider, lesson),
                output_per_job=_output(longest, lesson),
                rates=rates_for(route.provider, group.model, at=at, overrides=overrides),
            )
        )
    limits = plans.token_limits(store)
    plans.keep_yardsticks(store, [one.cost_model(limits, mode=mode) for one in found])
    return found


def estimates(store: Store, measured: Iterable[Measure]) -> list[Estimate]:
    """Return estimates of what is still to be sent, after limits and budgets have been applied."""
    by_group = {(one.group.number, one.group.model): one for one in measured}
    return [by_group[group.number, group.model].estimate(group) for group in plans.groups(store)]


def _input(per_byte: float, provider: ProviderName, lesson: Lesson | None) -> tuple[float, float]:
    if lesson:
        return per_byte * lesson.input_low, per_byte * lesson.input_high
    return per_byte, per_byte * (1 if profile(provider).counts_like_openai else FOREIGN)


def _output(longest: int, lesson: Lesson | None) -> tuple[float, float]:
    return (lesson.output_low, lesson.output_high) if lesson else (longest * _SHORT_ANSWER, float(longest))


def _measured(store: Store, types: Types, routes: set[int]) -> dict[int, tuple[float, int]]:
    """Return, by route, the tokens per byte of a few candidates, and the longest answer that they ask for, in tokens."""
    tokens: dict[int, int] = defaultdict(int)
    sizes: dict[int, int] = defaultdict(int)
    longest: dict[int, int] = defaultdict(int)
    for number, size, job in plans.samples(store, sorted(routes)):
        with suppress(Rejected), costs_the_job(f"the job type {job.job_type}"):  # it is told when it is rendered
            asked, answer = of_one(_request(types, job))
            tokens[number] += asked
            sizes[number] += size
            longest[number] = max(longest[number], answer)
    return {number: (tokens[number] / sizes[number], longest[number]) for number in sizes}


def of_one(request: Request) -> tuple[int, int]:
    """Count a request's input tokens, by OpenAI's tokenizer, and those of the longest answer it allows. Raises `Rejected`."""
    try:
        text, answer = _words(request)
    except orjson.JSONEncodeError:
        raise Rejected("the request cannot be written as JSON") from None
    return count_tokens(text) + _media_tokens(request), answer


def _request(types: Types, job: JobRow) -> Request:
    kind = types.get(job.job_type)
    if kind is None:
        raise Rejected(f"there is no job type {job.job_type}")
    return kind.at_version(job.prompt_version).render_request(job.input)


def _words(request: Request) -> tuple[str, int]:
    """Return what a request says, and the longest answer that it allows, in tokens."""
    match request:
        case EmbeddingInput():
            return "\n".join(request.texts), 0
        case Prompt():
            schema = orjson.dumps(request.schema).decode() if request.schema else ""
            return "\n".join((request.system or "", request.user, schema)), request.max_tokens
        case RawRequest():
            return orjson.dumps(request.body).decode(), _bound(request.body)


def _media_tokens(request: Request) -> int:
    """Return about how many tokens a request's media take.

    Each video counts as a minute: only the first night tells how long it is.
    """
    media = request.media if isinstance(request, Prompt) else ()
    return sum(
        _IMAGE_TOKENS if (one.mime_type or guess_type(one.path or "")[0] or "").startswith("image/") else _VIDEO_TOKENS
        for one in media
    )


def _bound(body: Mapping[str, Any]) -> int:
    config = body.get("generationConfig")
    places = [body, config] if isinstance(config, Mapping) else [body]
    names = ("max_output_tokens", "max_completion_tokens", "max_tokens", "maxOutputTokens")
    found = [place[name] for place in places for name in names if isinstance(place.get(name), int)]
    return min(max(min(found), 0), _MAX_OF_ALL) if found else _MAX_ANSWER


def count_tokens(text: str) -> int:
    """Count tokens with OpenAI's tokenizer, whose vocabulary comes with its package: nothing is downloaded."""
    return len(_encoder()(text.encode("utf-8", "replace").decode()))


@cache
def _encoder() -> Any:
    from bpe_openai import get_encoding  # half a second and 70 MB: only where something is estimated

    return get_encoding("o200k_base").encode_ordinary

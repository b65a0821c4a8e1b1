"""The bodies that the routes take and give, where the use cases have no value of their own for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from nightbatch.core.ledger import Alert
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import profiles
from nightbatch.jobs.intake import BadLine
from nightbatch.reporting.stats import Attempt, Job, Progress, ResultRow, Waiting

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
_Reason = Annotated[str, Field(max_length=2000, description="Why; it is kept with the decision. A dry run needs none.")]
_Model = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
_JobType = Annotated[str, Field(min_length=1, max_length=100)]
if TYPE_CHECKING:
    _Provider = ProviderName
    _Embedder = ProviderName
else:  # in the API's description they are told by name
    _Provider = Literal[tuple(profiles())]
    _Embedder = Literal[tuple(name for name, facts in profiles().items() if facts.embedding_model)]


class _Body(BaseModel):
    """A body of a request. Unknown members are refused, so that a misspelt one is not lost."""

    model_config = ConfigDict(extra="forbid")


class NewJob(_Body):
    """A row of ``nightbatch.job``; see docs/getting-started.md for what each column means."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "job_type": "creative_scoring",
                    "provider": "openai",
                    "input": {"headline": "Coffee that waits for you"},
                    "dedup_key": "ad-4711",
                    "labels": {"team": "growth"},
                }
            ]
        }
    )

    job_type: _JobType
    provider: _Provider
    input: dict[str, Any]
    model: _Model | None = None
    priority: Annotated[int, Field(ge=1, le=10, description="10 goes first.")] = 5
    dedup_key: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    labels: dict[str, str] = {}
    not_before: AwareDatetime | None = None
    deadline: AwareDatetime | None = None
    cache_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    fallback: bool | None = None


class NewJobs(_Body):
    """Up to a thousand jobs; all of them are queued, or none."""

    jobs: Annotated[list[NewJob], Field(min_length=1, max_length=1000)]


class Queued(BaseModel):
    """The ids of the jobs, in the order of the request.

    A job whose dedup key was known has the id of that key's first job.
    """

    job_ids: list[int]


class BulkWish(_Body):
    """How the lines of a bulk are taken.

    ``check`` only tells, and ``new`` is then what would be queued; with ``all_or_nothing`` a bad line refuses all.
    ``again`` queues lines anew that were queued before; ``model`` is for lines of a provider's batch file that name none.
    """

    check: bool = False
    all_or_nothing: bool = False
    again: bool = False
    model: _Model | None = None


class BulkQueued(BaseModel):
    """How many lines were queued, known or bad.

    ``known`` lines had the dedup key of a job that was there before, or were queued by a file before.
    ``bad`` names the first hundred of the lines left out.
    """

    new: int
    known: int
    bad_lines: int
    bad: Sequence[BadLine]


class QueueStatus(BaseModel):
    """What waits, and how many ``jobs`` in all."""

    jobs: int
    waiting: Sequence[Waiting]


class RunWish(_Body):
    """What a run is to send; left out means all that is due."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"providers": ["openai"], "max_jobs": 500}]})

    providers: Annotated[list[_Provider], Field(min_length=1)] | None = None
    job_types: list[_JobType] = []
    job_ids: Annotated[list[Id], Field(max_length=10_000)] = []
    max_jobs: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    dry_run: bool = False


class Started(BaseModel):
    """The run that was started. While the Dag is paused, it waits in Airflow."""

    dag_id: str
    run_id: str
    paused: bool


class Scheduler(BaseModel):
    """Whether the Dag is paused: then no night begins by itself."""

    paused: bool


class BatchStatus(BaseModel):
    """Where an attempt stands.

    ``attempt`` is there where a person may want to look, or can decide; ``job_types`` counts the jobs.
    """

    batch: Progress
    job_types: Mapping[str, int]
    attempt: Attempt | None


class ResultsPage(BaseModel):
    """A page of results. ``next_cursor`` is None on the last page."""

    results: Sequence[ResultRow]
    next_cursor: str | None


class JobDetail(BaseModel):
    """A job with every answer that it ever had, the newest first."""

    job: Job
    results: Sequence[ResultRow]


class AlertsPage(BaseModel):
    """A page of alerts. ``next_cursor`` is None on the last page."""

    alerts: Sequence[Alert]
    next_cursor: str | None


class Decision(_Body):
    """A person's decision. ``dry_run`` only tells what would be done and what it costs."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "No longer needed", "dry_run": True}]})

    reason: _Reason = ""
    dry_run: bool = False

    @model_validator(mode="after")
    def _has_a_reason(self) -> Self:
        if not (self.dry_run or self.reason.strip()):
            raise ValueError("say why: a decision needs a reason")
        return self


class Release(Decision):
    """What to do with a held attempt; ``adopt`` needs the id that the provider's console shows."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"choice": "resend", "reason": "Not in the console", "dry_run": True}]}
    )

    choice: Literal["adopt", "resend", "drop"]
    provider_batch_id: Annotated[str, Field(min_length=1, max_length=500)] | None = None


class Told(BaseModel):
    """The answer to a decision.

    ``message`` says what was done, or would be. ``price_usd`` is about what it costs; None where that is not known.
    """

    done: bool
    message: str
    price_usd: Decimal | None = None


class CancelledJob(BaseModel):
    """A queued job that ended."""

    job_id: int
    message: str


class EstimateWish(_Body):
    """What to estimate: the queue; with ``from_day``, past jobs sent again by another model or provider."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{}, {"from_day": "2026-11-01", "to_model": "gpt-6-luna"}]}
    )

    providers: list[_Provider] = []
    job_types: list[_JobType] = []
    max_jobs: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    from_day: date | None = None
    to_day: date | None = None
    to_model: _Model | None = None
    to_provider: _Provider | None = None


class Price(BaseModel):
    """What a model costs now, in USD per million tokens; None where the price is not known."""

    provider: ProviderName
    model: str
    source: str | None
    realtime_input: Decimal | None = None
    realtime_cached_input: Decimal | None = None
    realtime_output: Decimal | None = None
    batch_input: Decimal | None = None
    batch_cached_input: Decimal | None = None
    batch_output: Decimal | None = None


class Creatives(_Body):
    """Creatives to be scored. With ``council``, each by all of the ``providers``, as one group each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"creatives": [{"headline": "Coffee"}], "providers": ["openai", "gemini"], "council": True}]
        }
    )  # fmt: skip

    creatives: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1000)]
    providers: Annotated[list[_Provider], Field(min_length=1, max_length=len(profiles()))] = ["openai"]
    council: bool = False
    priority: Annotated[int, Field(ge=1, le=10)] = 5
    labels: dict[str, str] = {}


class Texts(_Body):
    """Texts to be turned into vectors, a job each."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": ["A short text to be found again."]}]})

    texts: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000)]
    provider: _Embedder = "openai"
    model: _Model | None = None
    dimensions: Annotated[int, Field(ge=1, le=4096)] | None = None
    priority: Annotated[int, Field(ge=1, le=10)] = 5
    labels: dict[str, str] = {}


class Integrated(BaseModel):
    """What was queued: ``job_ids`` in the order of the request, or the names of councils (the view ``nightbatch.council``)."""

    job_ids: list[int] = []
    councils: list[str] = []

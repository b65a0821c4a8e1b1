"""The ledger's rows as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from nightbatch.core.models import BatchState, Endpoint, ProviderName, Submission
from nightbatch.core.profiles import Dialect


@dataclass(frozen=True, slots=True)
class Batch:
    """One submission attempt of one provider batch: a row of ``nightbatch.batch``."""

    id: int
    run_id: str
    provider: ProviderName
    model: str
    endpoint: Endpoint
    part: int
    replaces: int | None
    tag: str
    state: BatchState
    epoch: int
    job_count: int
    account_fingerprint: str | None
    payload_sha256: str | None
    input_file: str | None
    provider_batch_id: str | None
    error: str | None
    planned_at: datetime
    intent_at: datetime | None
    fenced_at: datetime | None
    submitted_at: datetime | None
    closed_at: datetime | None
    duplicate_of: int | None
    cancel_wanted_at: datetime | None
    mode: Literal["batch", "realtime"] = "batch"
    sent_as: int | None = None
    """The batch number that its requests carry, if it was adopted after a restore and could not keep that number."""
    nonce: str | None = None
    """The end of the custom_ids of its rendered requests; None before rendering, and for batches of an earlier release."""

    @property
    def fresh_nonce(self) -> str:
        """Return the nonce for requests rendered now: 16 digits of the tag, those of the installation first."""
        return self.tag.removeprefix("nb-").replace("-", "")[:16]

    @property
    def unsent(self) -> bool:
        """Return whether, as far as the ledger knows, no create of the batch was meant, or all were refused."""
        return self.intent_at is None or self.state in ("planned", "uploaded")

    @property
    def submission(self) -> Submission:
        """Return what a provider needs to send this attempt, or to find it again."""
        return Submission(
            batch_id=self.id,
            tag=self.tag,
            model=self.model,
            endpoint=self.endpoint,
            job_count=self.job_count,
            input_file=self.input_file,
            intent_at=self.intent_at,
        )


@dataclass(frozen=True, slots=True)
class RunParams:
    """Which jobs a run takes; an empty member means all of them."""

    providers: tuple[ProviderName, ...] = ()
    job_types: tuple[str, ...] = ()
    job_ids: tuple[int, ...] = ()
    max_jobs: int | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One job type on one provider, as planning sees it.

    ``capacity`` is the most bytes that a batch's requests may sum up to, ``overhead`` what the type adds to each input.
    ``fallback``: whether the type's jobs may go to the realtime API when no batch would be back by their deadline;
    ``turnaround`` is how long a batch takes, in seconds. ``ready``: the type has a route for each endpoint, and the body of a
    job tells which is its own, in the words of the ``dialect``. ``model_in``: where an input may name the model, as a path in the
    words of Postgres; ``model_prefix`` is what may stand before its name.
    """

    job_type: str
    provider: ProviderName
    default_model: str
    endpoint: Endpoint
    overhead: int
    capacity: int
    max_requests: int
    max_request_bytes: int
    dialect: Dialect
    model_prefix: str
    fallback: bool = False
    turnaround: float = 86_400.0
    ready: bool = False
    model_in: str | None = None


class JobRow(NamedTuple):
    """A staging row as it is rendered; ``input`` is the JSON text as the producer wrote it.

    Type and input of a reprocessing are those of the past job; ``prompt_version`` is the one that it asks for.
    """

    id: int
    job_type: str
    input: bytes
    prompt_version: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load found, in requests. ``requeued`` ones had no usable answer and go again."""

    batch_id: int
    jobs: int
    succeeded: int
    failed: int
    requeued: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class Alert:
    """A row of ``nightbatch.alert``: something that a person should know of. It is open while ``resolved_at`` is None."""

    id: int
    kind: str
    subject: str
    message: str
    raised_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_at: datetime | None

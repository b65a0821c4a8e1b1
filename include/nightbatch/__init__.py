"""nightbatch: LLM work that nobody waits for, at half the price, inside Airflow.

The names in ``__all__`` are for you, and stay; everything else may move. A name is imported when it is first asked for, since
Dag files are parsed again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

    from nightbatch.core.errors import ConfigurationError, NightbatchError, Rejected
    from nightbatch.core.models import Answer, EmbeddingInput, Media, Prompt, RawRequest, Tool, Turn
    from nightbatch.job_types.base import EmbeddingType, JobInput, JobType, OutputInvalid, ParsedOutput, Tuned
    from nightbatch.job_types.tool_calls import tool_calls
    from nightbatch.jobs.intake import BadLine, Enqueued, JobsRefused

__all__ = [
    "Answer",
    "BadLine",
    "ConfigurationError",
    "EmbeddingInput",
    "EmbeddingType",
    "Enqueued",
    "JobInput",
    "JobType",
    "JobsRefused",
    "Media",
    "NightbatchError",
    "OutputInvalid",
    "ParsedOutput",
    "Prompt",
    "RawRequest",
    "Rejected",
    "Tool",
    "Tuned",
    "Turn",
    "enqueue",
    "enqueue_file",
    "tool_calls",
]

_HOMES = {
    "nightbatch.core.errors": ("ConfigurationError", "NightbatchError", "Rejected"),
    "nightbatch.jobs.intake": ("BadLine", "Enqueued", "JobsRefused"),
    "nightbatch.job_types.base": ("EmbeddingType", "JobInput", "JobType", "OutputInvalid", "ParsedOutput", "Tuned"),
    "nightbatch.job_types.tool_calls": ("tool_calls",),
    "nightbatch.core.models": ("Answer", "EmbeddingInput", "Media", "Prompt", "RawRequest", "Tool", "Turn"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def enqueue(jobs: DataFrame | Iterable[Mapping[str, Any]], *, dsn: str | None = None) -> list[int]:
    """Queue jobs from Python, a pandas DataFrame or dicts, and return their ids in the same order.

    Columns, or keys, are those of ``nightbatch.job``: ``job_type``, ``provider``, ``input`` (a dict or JSON text, or its
    members as ``input.<member>``), and if wanted ``model, priority, dedup_key, labels, not_before, deadline, cache_days,
    fallback``. NaN, NaT and None count as not given; decimals keep their digits, and UUIDs, dates and times are written as text.
    A row with a dedup key that is known has the id of that key's first job.

    All rows are queued, or none: `JobsRefused` names every row that is no job, by its position from 0.
    ``dsn`` is the database, by default the one in ``NIGHTBATCH_DSN``. Raises `ConfigurationError` when
    there is none, when it cannot be reached, and for columns with other names.
    """
    # Here, so that `import nightbatch` stays quick: Dag files are parsed again and again.
    from nightbatch.core.settings import database
    from nightbatch.job_types import job_types
    from nightbatch.jobs.intake import enqueue_rows
    from nightbatch.postgres.store import open_store

    with open_store(dsn or database()) as store:
        return enqueue_rows(store, job_types(), jobs)


def enqueue_file(
    path: str | Path,
    *,
    model: str | None = None,
    all_or_nothing: bool = False,
    again: bool = False,
    dsn: str | None = None,
) -> Enqueued:
    """Queue the jobs of a file as `nightbatch enqueue` does, and return what became of its lines, the bad ones with reasons.

    ``path`` may also be an address such as ``s3://bucket/jobs.jsonl``, which Airflow's ``ObjectStoragePath`` opens.
    ``model`` is for lines of a provider's batch file that name none, ``again`` queues lines anew that were queued from a
    file before. Raises `ConfigurationError` for a file that cannot be read, and with ``all_or_nothing``
    `JobsRefused` where a line is bad.
    """
    from pathlib import Path

    from nightbatch.core.errors import ConfigurationError
    from nightbatch.core.settings import database
    from nightbatch.job_types import job_types
    from nightbatch.jobs import intake
    from nightbatch.jobs.input_formats import Source
    from nightbatch.postgres.store import open_store

    if "://" in str(path):
        from nightbatch.airflow.storage import object_at

        source: Source = object_at(str(path))
    elif Path(path).is_file():
        source = Path(path)
    else:
        raise ConfigurationError(f"{path} is no file.")
    with open_store(dsn or database()) as store:
        return intake.enqueue_file(store, job_types(), source, model=model, all_or_nothing=all_or_nothing, again=again)

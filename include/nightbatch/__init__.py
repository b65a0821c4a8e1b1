"""nightbatch: LLM work that nobody waits for, at half the price, inside Airflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame


def enqueue(jobs: DataFrame | Iterable[Mapping[str, Any]], *, dsn: str | None = None) -> list[int]:
    """Queue jobs from Python: a pandas DataFrame, or dicts; their ids in the same order.

    Columns, or keys, are those of ``nightbatch.job``: ``job_type``, ``provider``, ``input`` (a dict or JSON text, or its
    members as ``input.<member>``), and if wanted ``model, priority, dedup_key, labels, not_before, deadline, cache_days,
    fallback``. NaN, NaT and None are not given. A row with a dedup key that is known has the id of that key's first job.

    All rows are queued, or none: `nightbatch.intake.JobsRefused` names every row that is no job, by its position from 0.
    ``dsn`` is the database, by default the one in ``NIGHTBATCH_DSN``. Raises `nightbatch.errors.ConfigurationError` when
    there is none, when it cannot be reached, and for columns with other names.
    """
    # Here, so that `import nightbatch` stays quick: Dag files are parsed again and again.
    from nightbatch.intake import enqueue_rows
    from nightbatch.job_types import job_types
    from nightbatch.postgres.store import open_store
    from nightbatch.settings import database

    with open_store(dsn or database()) as store:
        return enqueue_rows(store, job_types(), jobs)

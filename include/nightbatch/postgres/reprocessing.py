"""Jobs that were answered before, and are to be asked again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nightbatch.core.models import ProviderName
from nightbatch.postgres.store import Store


class Expected(NamedTuple):
    """What the past usage of one group adds up to; ``unknown`` jobs have none."""

    job_type: str
    provider: ProviderName
    model: str
    jobs: int
    input_tokens: int
    output_tokens: int
    unknown: int
    moves: bool


def gather(store: Store, wish: Mapping[str, Any], *, max_jobs: int | None) -> list[Expected]:
    """Gather the past jobs to ask again, within a transaction, and return what they add up to.

    See the queries for the names in ``wish``.
    """
    store.run("make_past", wish, file="reprocessing")
    store.run("drop_unchanged", file="reprocessing")
    store.run("drop_erased", file="reprocessing")
    if max_jobs is not None:
        store.run("keep_first", {"max_jobs": max_jobs}, file="reprocessing")
    return [Expected(*row) for row in store.run("expected", file="reprocessing")]


def insert(store: Store, prompt_version: str | None) -> int:
    """Queue the jobs that were gathered, and return how many are new."""
    return store.run("insert_again", {"prompt_version": prompt_version}, file="reprocessing").rowcount

"""Erase inputs and outputs after the time that their job type sets; hashes, figures and costs stay."""

from __future__ import annotations

from collections.abc import Mapping

from nightbatch.core.settings import Settings
from nightbatch.job_types import broken_job_types
from nightbatch.job_types.base import JobType
from nightbatch.postgres import lifecycle
from nightbatch.postgres.lifecycle import Due, Retention
from nightbatch.postgres.store import Store

PIECE = 10_000
"""Jobs per transaction: a plan, or a producer, never waits for long."""


def erase(store: Store, types: Mapping[str, JobType], settings: Settings) -> list[str]:
    """Erase inputs and outputs of ended jobs that were kept for long enough; return a sentence about it, if there were any.

    It goes in pieces, each a transaction of its own: whoever comes after a crash goes on where it stopped.
    """
    retention = _retention(types, settings)
    if not any(retention.by_type.values()) and not retention.otherwise:
        return []
    erased = sum(_erase_batch(store, due) for due in lifecycle.due_batches(store, retention))
    erased += _erase_others(store, retention)
    return [f"Inputs and outputs of {erased:,} jobs are erased; their retention is over."] if erased else []


def _retention(types: Mapping[str, JobType], settings: Settings) -> Retention:
    given = {name: kind.retention_days for name, kind in types.items()}
    days = {name: settings.retention_days if own is None else own for name, own in given.items()}
    # A type whose file cannot be read may want more than the setting says.
    return Retention(days, 0 if broken_job_types() else settings.retention_days)


def _erase_batch(store: Store, due: Due) -> int:
    after, erased = 0, 0
    while True:
        with lifecycle.between_plans(store):  # a plan may be copying these very outputs
            page = lifecycle.erase_members(store, due, after, PIECE)
            if page is None:
                lifecycle.finish_batch(store, due)
                return erased
        after = page[0]
        erased += page[1]


def _erase_others(store: Store, retention: Retention) -> int:
    erased = 0
    while True:
        with lifecycle.between_plans(store):
            page = lifecycle.erase_others(store, retention, PIECE)
        erased += page
        if page < PIECE:
            return erased

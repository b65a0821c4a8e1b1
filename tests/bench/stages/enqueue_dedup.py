"""A file of jobs into the staging table, each with a dedup key; the reference has none."""

from __future__ import annotations

from tests.bench.stages import Place, enqueue
from tests.bench.stages.enqueue import ours, reference, reset

__all__ = ["ours", "prepare", "reference", "reset"]


def prepare(place: Place) -> None:
    enqueue.prepare(place, keyed=True)

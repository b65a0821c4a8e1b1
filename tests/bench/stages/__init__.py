"""The stages of a night, each beside its own limit: the same bytes by the quickest way that Postgres has.

A stage is a module with four functions of a `Place`: ``prepare`` once per size, and then, in each round, ``reset`` and
``reference``, ``reset`` and ``ours``. The last two are timed; they may return the seconds that count.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage works: a migrated database, as its owner; a folder that the server can read too; how many jobs."""

    dsn: str
    folder: Path
    jobs: int


@dataclass(frozen=True, slots=True)
class Stage:
    """``goal``: how many times the reference's speed; ``against`` says what the reference does; ``only`` at this size."""

    name: str
    module: str
    goal: float
    against: str
    only: int | None = None


STAGES = [
    Stage("enqueue by file, no dedup", "enqueue", 0.9, "server-side COPY into the same type"),
    Stage("enqueue by file, with dedup", "enqueue_dedup", 0.5, "server-side COPY into the same type, no dedup keys"),
    Stage("plan and write", "plan", 0.3, "psql COPY out of the narrow columns"),
    Stage("render ready requests", "render_raw", 0.8, "psql COPY of the payloads"),
    Stage("render from job types", "render_types", 0.4, "psql COPY of the payloads"),
    Stage("load", "load", 0.9, "server-side COPY of the parsed columns"),
    Stage("a whole night", "night", 8, "row by row, with json and pandas", only=100_000),
]

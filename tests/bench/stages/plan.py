"""Claim the queued jobs and cut them into batches, committed, with estimates; a fresh night and no ready statistics."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg

from nightbatch.batches import submission
from nightbatch.core.ledger import RunParams
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.planning.estimates import count_tokens
from nightbatch.postgres.store import open_store
from nightbatch_local.postgres.embedded import binaries
from tests.bench.stages import Place, jobs

count_tokens("")  # the vocabulary is a part of what is imported

# What a plan decides by, and no payload.
_NARROW = """COPY (SELECT id, job_type, provider, model, priority, not_before, deadline, created_at, cache_days, fallback
    FROM nightbatch.job) TO STDOUT"""


def prepare(place: Place) -> None:
    insert(place, "creative_scoring", jobs.creative)


def insert(place: Place, job_type: str, text: object) -> None:
    """The jobs of a stage, by COPY, priorities mixed."""
    assert callable(text)
    with (
        psycopg.connect(place.dsn, autocommit=True) as database,
        database.cursor() as cursor,
        cursor.copy("COPY nightbatch.job (job_type, provider, priority, input) FROM STDIN") as copy,
    ):
        for number in range(place.jobs):
            copy.write_row((job_type, "openai", 1 + number % 10, text(number).decode()))
    with psycopg.connect(place.dsn, autocommit=True) as database:
        database.execute("VACUUM (FREEZE, ANALYZE) nightbatch.job")


def reset(place: Place) -> None:
    with psycopg.connect(place.dsn, autocommit=True) as database:
        database.execute("TRUNCATE nightbatch.run, nightbatch.batch, nightbatch.batch_job, nightbatch.open_job CASCADE")
        database.execute("UPDATE nightbatch.gathered SET seen_before = '0'")
        database.execute("CHECKPOINT")


def reference(place: Place) -> None:
    with Path("/dev/null").open("wb") as nowhere:
        subprocess.run([binaries() / "psql", "-qX", "-c", _NARROW, place.dsn], check=True, stdout=nowhere)


def ours(place: Place) -> None:
    with open_store(place.dsn) as store:
        batches = submission.plan_run(
            store, job_types(), Settings.from_env(), run_id="bench", queued_before=None, params=RunParams()
        )
    assert sum(batch.job_count for batch in batches) == place.jobs

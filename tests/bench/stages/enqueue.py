"""A file of jobs into the staging table."""

from __future__ import annotations

from pathlib import Path

import psycopg

from nightbatch.job_types import job_types
from nightbatch.jobs import intake
from nightbatch.postgres.store import open_store
from tests.bench.stages import Place, jobs

KEYED = False


def prepare(place: Place, *, keyed: bool = KEYED) -> None:
    with (place.folder / "jobs.jsonl").open("wb") as file:
        file.writelines(jobs.lines(place.jobs, keyed=keyed))
    with _readable(place).open("wb") as file:
        for number in range(place.jobs):
            row = b"creative_scoring\topenai\t\\N\t5\t%b\t\\N\t{}\t\\N\t\\N\t\\N\t\\N\n"
            file.write(row % jobs.creative(number).replace(b"\\", b"\\\\"))
    _readable(place).chmod(0o644)
    with psycopg.connect(place.dsn, autocommit=True) as database:
        database.execute("CREATE TABLE public.same (LIKE nightbatch.job INCLUDING ALL)")


def _readable(place: Place) -> Path:
    return place.folder / "rows.copy"


def reset(place: Place) -> None:
    with psycopg.connect(place.dsn, autocommit=True) as database:
        database.execute("TRUNCATE nightbatch.job, public.same")
        database.execute("CHECKPOINT")


def reference(place: Place) -> None:
    with psycopg.connect(place.dsn, autocommit=True) as database:
        done = database.execute(
            f"""COPY public.same (job_type, provider, model, priority, input, dedup_key, labels, not_before, deadline,
                cache_days, fallback) FROM '{_readable(place)}'"""
        )
        assert done.rowcount == place.jobs


def ours(place: Place) -> None:
    with open_store(place.dsn) as store:
        done = intake.enqueue_file(store, job_types(), place.folder / "jobs.jsonl", again=True)
    assert done == intake.Enqueued(new=place.jobs), done

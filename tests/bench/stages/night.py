"""A whole night without Airflow and network, from a file of jobs to its report, against the straightforward way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from nightbatch import reporting
from nightbatch.batches import loading, submission
from nightbatch.core.ledger import RunParams
from nightbatch.core.pricing import rates_for
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.jobs import intake
from nightbatch.planning.estimates import count_tokens
from nightbatch.postgres.store import open_store
from tests.bench import straightforward
from tests.bench.offline import OfflineOpenAI, answer
from tests.bench.stages import Place, jobs

count_tokens("")  # the vocabulary is a part of what is imported


class Clock:
    """Seconds by step; what lies between the steps, such as the provider's work, does not count."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def prepare(place: Place) -> None:
    with (place.folder / "jobs.jsonl").open("wb") as file:
        file.writelines(jobs.lines(place.jobs))
    straightforward.make_tables(place.dsn)


def reset(place: Place) -> None:
    with psycopg.connect(place.dsn, autocommit=True) as database:
        database.execute(
            "TRUNCATE nightbatch.job, nightbatch.run, nightbatch.batch, nightbatch.batch_job, nightbatch.open_job,"
            " nightbatch.result, nightbatch.reject, nightbatch_report.batch_rollup, nightbatch_report.label_rollup,"
            " public.queue, public.answer CASCADE"
        )
        database.execute("UPDATE nightbatch.gathered SET seen_before = '0'")
        database.execute("CHECKPOINT")


def ours(place: Place) -> float:
    return sum(one_night(place, "bench").seconds.values())


def one_night(place: Place, run_id: str) -> Clock:
    """Every step of a night as the Dag takes it, with the real ledger, adapter, prices and report."""
    clock, types, settings = Clock(), job_types(), Settings(work_dir=str(place.folder / "work"))
    provider = OfflineOpenAI(place.folder)
    with open_store(place.dsn) as store:
        with clock.step("enqueue"):
            intake.enqueue_file(store, types, place.folder / "jobs.jsonl")
        with clock.step("plan"):
            batches = submission.plan_run(store, types, settings, run_id=run_id, queued_before=None, params=RunParams())
        for batch in batches:
            with clock.step("submit"):
                submission.submit_batch(store, provider, types, settings, batch.id)
            answer(place.folder, batch.tag)
            with clock.step("load"):
                loading.load_batch(store, provider, types, batch.id)
        with clock.step("report"):
            report = reporting.run_report(store, run_id)
    succeeded = reporting.to_json(report)["succeeded"]
    assert succeeded >= place.jobs - place.jobs // 5_000, succeeded  # what was garbled goes again with the next night
    return clock


def reference(place: Place) -> float:
    clock, names = Clock(), []
    with clock.step("enqueue"):
        straightforward.enqueue(place.dsn, place.folder / "jobs.jsonl")
    with clock.step("submit"):
        paths = straightforward.write_batches(place.dsn, place.folder)
    for path in paths:
        answered = _answers(path)
        names.append(answered)
    with clock.step("load"):
        straightforward.load(place.dsn, names, _prices())
    return sum(clock.seconds.values())


def _answers(path: Path) -> Path:
    path.rename(path.with_suffix(".requests"))
    answer(path.parent, path.stem)
    return path.with_suffix(".answers")


def _prices() -> tuple[float, float]:
    rates = rates_for("openai", straightforward.MODEL, at=datetime.now(UTC), overrides=[])
    assert rates is not None
    return float(rates.batch.input.base) / 1e6, float(rates.batch.output.base) / 1e6

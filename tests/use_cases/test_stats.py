"""The figures: the same from whatever side one looks at them, and the same when they are all made again."""

from __future__ import annotations

import json
import time
from dataclasses import astuple, fields, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from nightbatch.postgres import sums
from nightbatch.postgres.queries import queries
from nightbatch.postgres.store import Store, open_store
from nightbatch.reporting import stats
from nightbatch.reporting.stats import Days, Figures
from tests.use_cases.conftest import World

COUNTS = [field.name for field in fields(Figures)]


def added(parts: list[Figures]) -> tuple[object, ...]:
    return tuple(sum((getattr(part, name) for part in parts), Decimal(0)) for name in COUNTS)


def test_each_way_to_slice_a_range_adds_up_to_the_whole_and_to_the_bill(world: World) -> None:
    world.insert("openai", 4, labels=json.dumps({"team": "ads", "try": 1}))
    world.insert("anthropic", 3, labels=json.dumps({"team": "ads"}))
    world.insert("gemini", 2, labels=json.dumps({"team": "shop", "deep": {"left": "out"}}))
    world.insert("openai", 1, model="emulator-preview-1")
    world.night("r1")
    found = stats.savings(world.store, stats.last_days(world.store))
    whole = astuple(found.total)
    for parts in (found.by_day, found.by_provider, found.by_model, found.by_job_type):
        assert added([part.figures for part in parts]) == whole
    assert found.total.jobs == 10 and found.total.unpriced == 1
    assert found.total.batch_cost_usd == sum(
        Decimal(line["cost_usd"]) for line in world.bill() if line["model"] != "emulator-preview-1"
    )
    assert {part.key: part.figures.jobs for part in found.by_label} == {"team=ads": 7, "team=shop": 2, "try=1": 4}
    assert [(row.provider, row.batches) for row in found.turnaround] == [
        ("anthropic", 1),
        ("gemini", 1),
        ("openai", 1),
        ("openai", 1),
    ]
    assert found.trend is None and found.before.jobs == 0
    assert found.total.success_rate == 1 and found.total.batched_share == 1


def test_a_label_that_names_jobs_instead_of_kinds_is_left_out(world: World) -> None:
    for number in range(101):
        world.insert("openai", 1, labels=json.dumps({"user": number, "team": "ads"}))
    world.settings = replace(world.settings, max_batch_jobs=200)
    world.night("r1")
    found = stats.savings(world.store, stats.last_days(world.store))
    assert [(part.key, part.figures.jobs) for part in found.by_label] == [("team=ads", 101)]


def test_all_roll_ups_computed_again_from_the_results_are_the_same(world: World) -> None:
    world.insert("openai", 5, labels=json.dumps({"team": "ads"}))
    world.insert("anthropic", 5, headline="[[emulator:error=500]]", labels=json.dumps({"team": "ads"}))
    world.insert("gemini", 5, headline="[[emulator:misfit]]")
    world.night("r1")
    world.night("r2")
    world.night("r3")
    kept = {
        table: sorted(world.rows(f"SELECT * FROM nightbatch_report.{table}"), key=str)
        for table in ("batch_rollup", "label_rollup")
    }
    assert kept["batch_rollup"]
    loaded = world.rows("SELECT id FROM nightbatch.batch WHERE state = 'loaded' ORDER BY id")
    with world.store.transaction():
        world.store.connection.execute("TRUNCATE nightbatch_report.batch_rollup, nightbatch_report.label_rollup")
        for batch_id in loaded:
            world.store.connection.execute(queries("load")["roll_up"], {"batch_id": batch_id})
    again = {table: sorted(world.rows(f"SELECT * FROM nightbatch_report.{table}"), key=str) for table in kept}
    assert again == kept


def test_the_trend_compares_with_as_many_days_before(world: World) -> None:
    world.insert("openai", 4)
    world.night("r1")
    today = stats.last_days(world.store, 1)
    assert stats.savings(world.store, today).trend is None
    world.store.connection.execute(
        "INSERT INTO nightbatch_report.batch_rollup"
        " SELECT batch_id + 1000, job_type, run_id, day - 1, provider, model, jobs, succeeded, failed, requeued,"
        " input_tokens, cached_tokens, output_tokens, realtime_cost_usd / 2, batch_cost_usd / 2, 0, 0, 0, 0"
        " FROM nightbatch_report.batch_rollup"
    )
    assert stats.savings(world.store, today).trend == 1
    both = Days(today.since - timedelta(days=1), today.until)
    assert stats.savings(world.store, both).total.jobs == 8


def test_the_night_shows_how_far_it_has_come(world: World) -> None:
    assert stats.dashboard(world.store, world.settings).jobs_ever is False
    assert stats.night(world.store).run is None
    world.insert("openai", 3)
    world.insert("gemini", 2)
    planned = world.plan("r1")
    shown = stats.night(world.store)
    assert (shown.jobs_sent, shown.jobs_back) == (5, 0) and {batch.state for batch in shown.batches} == {"planned"}
    sent = [world.submit_until_certain(batch) for batch in planned]
    world.load(sent[0] or 0)
    shown = stats.night(world.store)
    assert shown.jobs_back in (2, 3) and sorted(batch.state for batch in shown.batches) == ["loaded", "submitted"]
    assert [batch.succeeded for batch in shown.batches if batch.state == "loaded"] == [shown.jobs_back]
    seen = stats.dashboard(world.store, world.settings)
    assert (
        len(seen.outcomes) == shown.jobs_back
        and seen.saved_usd == seen.saved_month_usd == seen.recent.total.savings_usd > 0
    )
    assert seen.jobs_ever and str(seen.first_day) == seen.recent.by_day[0].key


def test_a_night_is_shown_as_of_one_moment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a batch is loaded while the figures are read."""
    world.insert("openai", 3)
    (batch,) = world.plan("r1")
    world.submit_until_certain(batch)
    progress = sums.progress

    def read_late(store: Store, run_id: str | None) -> Any:
        world.load(batch.id)
        return progress(store, run_id)

    monkeypatch.setattr(sums, "progress", read_late)
    with open_store(world.dsn) as other:
        seen = stats.night(other)
    assert seen.run is not None
    assert (seen.run.succeeded, seen.jobs_back) == (0, 0)
    monkeypatch.undo()
    assert stats.night(world.store).jobs_back == 3


def test_a_30_day_question_over_a_decade_of_nights_takes_milliseconds(world: World) -> None:
    """Ten million results: 3,650 nights of 30 batches each."""
    world.store.connection.execute(
        "INSERT INTO nightbatch_report.batch_rollup SELECT n * 30 + b, 'creative_scoring', 'r' || n, current_date - n,"
        " (ARRAY['openai', 'anthropic', 'gemini'])[b % 3 + 1], 'model-' || b % 6,"
        " 92, 90, 2, 0, 1000, 0, 500, 0.02, 0.01, 0, 0, 0, 0"
        " FROM generate_series(0, 3649) AS n, generate_series(0, 29) AS b"
    )
    world.store.connection.execute("ANALYZE nightbatch_report.batch_rollup")
    days, times = stats.last_days(world.store), []
    for _ in range(5):
        began = time.perf_counter()
        assert stats.savings(world.store, days).total.jobs == 30 * 30 * 92
        times.append(time.perf_counter() - began)
    print(f"a 30-day question: {min(times) * 1000:.1f} ms")
    assert min(times) < 0.25, "generous: a busy machine"

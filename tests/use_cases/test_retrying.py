"""A person may have asked again what was not answered usably, knowing what it costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nightbatch.batches import retrying, submission
from nightbatch.cli import app
from nightbatch.core.errors import NightbatchError
from nightbatch.core.ledger import RunParams
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.reporting import stats
from tests.use_cases.conftest import World


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_a_retry_sends_the_unusable_ones_again_and_nothing_else(world: World, provider: ProviderName) -> None:
    world.insert(provider, 3)
    bad = world.insert(provider, 2, headline="[[emulator:misfit]]")
    refused = world.insert(provider, 1, headline="[[emulator:error=400]]")
    (first,) = world.night("r1")
    planned = retrying.preview(world.store, first.batch_id)
    assert (planned.jobs, planned.paid_again) == (3, 2)
    assert planned.price == stats.savings(world.store, stats.last_days(world.store)).total.wasted_cost_usd
    told = retrying.retry(world.store, first.batch_id, by="ada", reason="a better prompt")
    assert told == str(planned)
    assert {job for job, state in world.states().items() if state == "queued"} == {*bad, *refused}
    assert world.rows("SELECT choice, decided_by, reason FROM nightbatch.decision") == [
        ("retry", "ada", "a better prompt")
    ]
    with pytest.raises(NightbatchError, match="no job to send again"):
        retrying.retry(world.store, first.batch_id, by="ada", reason="twice")
    (second,) = world.night("r2")
    assert second.jobs == 3 and {world.states()[job] for job in (*bad, *refused)} == {"failed"}
    assert stats.savings(world.store, stats.last_days(world.store)).total.paid_again == 2


def test_only_what_is_loaded_can_be_sent_again(world: World) -> None:
    world.insert("openai", 1)
    (batch,) = world.plan("r1")
    with pytest.raises(NightbatchError, match="is planned: only the jobs of a batch whose results are loaded"):
        retrying.preview(world.store, batch.id)
    with pytest.raises(NightbatchError, match="4711"):
        retrying.retry(world.store, 4711, by="ada", reason="no such batch")


def test_the_figures_of_the_first_try_stay_as_they_were(world: World) -> None:
    world.insert("openai", 2, headline="[[emulator:misfit]]")
    (first,) = world.night("r1")
    before = world.rows("SELECT * FROM nightbatch_report.batch_rollup")
    retrying.retry(world.store, first.batch_id, by="ada", reason="again")
    assert world.rows("SELECT bool_or(requeued) FROM nightbatch.request") == [False]
    assert world.rows("SELECT * FROM nightbatch_report.batch_rollup") == before


def test_a_run_may_be_asked_for_certain_jobs_only(world: World) -> None:
    jobs = world.insert("openai", 4)
    world.night("r1", job_ids=tuple(jobs[1:3]))
    assert [world.states()[job] for job in jobs] == ["queued", "succeeded", "succeeded", "queued"]


def rejected(world: World, provider: str, count: int, **columns: str) -> list[int]:
    """Jobs that were wrongly ended: their type was not there in that night."""
    ids = world.insert(provider, count, **columns)
    types = {name: kind for name, kind in job_types().items() if name != "creative_scoring"}
    submission.plan_run(world.store, types, world.settings, run_id="bad", queued_before=None, params=RunParams())
    assert {world.states()[job] for job in ids} == {"rejected"}
    return ids


@pytest.mark.fault(64)
@pytest.mark.parametrize("by", ["jobs", "run", "reason"])
def test_what_was_wrongly_rejected_is_asked_again(world: World, provider: ProviderName, by: str) -> None:
    jobs = rejected(world, provider, 2)
    chosen = {
        "jobs": retrying.Choice(job_ids=tuple(jobs)),
        "run": retrying.Choice(run_id="bad"),
        "reason": retrying.Choice(words="NO JOB TYPE creative"),
    }[by]
    planned = retrying.preview_jobs(world.store, chosen)
    assert (planned.jobs, planned.rejected, planned.paid_again) == (2, 2, 0)
    assert retrying.retry_jobs(world.store, chosen, by="ann", reason="the file was not mounted") == str(planned)
    assert {world.states()[job] for job in jobs} == {"queued"}
    ((choice, batch_id, who, asked),) = world.rows(
        "SELECT choice, batch_id, decided_by, asked FROM nightbatch.decision"
    )
    assert (choice, batch_id, who) == ("retry", None, "ann") and asked
    assert world.rows("SELECT reason FROM nightbatch.reopened") == ["there is no job type creative_scoring"] * 2
    with pytest.raises(NightbatchError, match="No such job ended"):
        retrying.retry_jobs(world.store, chosen, by="ann", reason="twice")
    world.night("r2")
    assert {world.states()[job] for job in jobs} == {"succeeded"}
    world.judge()


def test_jobs_that_were_paid_for_are_told_with_their_price(world: World, provider: ProviderName) -> None:
    world.insert(provider, 1)
    bad = world.insert(provider, 2, headline="[[emulator:misfit]]")
    world.night("r1")
    planned = retrying.preview_jobs(world.store, retrying.Choice(run_id="r1"))
    wasted = stats.savings(world.store, stats.last_days(world.store)).total.wasted_cost_usd
    assert (planned.jobs, planned.paid_again, planned.price) == (2, 2, wasted)
    retrying.retry_jobs(world.store, retrying.Choice(job_ids=(bad[0],)), by="ann", reason="one of them")
    assert [world.states()[job] for job in bad] == ["queued", "failed"]


def test_nothing_is_chosen_by_accident(world: World) -> None:
    with pytest.raises(NightbatchError, match="Say which jobs"):
        retrying.preview_jobs(world.store, retrying.Choice())


@pytest.mark.fault(64)
def test_a_dedup_key_of_a_rejected_job_is_told_and_the_job_can_be_asked_again(world: World, tmp_path: Path) -> None:
    (job,) = rejected(world, "openai", 1, dedup_key="order-17")
    path = tmp_path / "jobs.jsonl"
    line = {"job_type": "creative_scoring", "provider": "openai", "input": {"headline": "x"}, "dedup_key": "order-17"}
    path.write_text(json.dumps(line) + "\n" + json.dumps({**line, "dedup_key": "order-18"}) + "\n")
    run = CliRunner(env={"NIGHTBATCH_DSN": world.dsn, "NO_COLOR": "1", "COLUMNS": "200"})
    done = run.invoke(app, ["enqueue", str(path)])
    assert f"`nightbatch retry --job-ids {job}` asks them again" in done.stderr
    again = ["retry", "--job-ids", str(job), "--reason", "mended"]
    assert "1 jobs go with the next run, 1 of them rejected" in run.invoke(app, [*again, "--dry-run"]).stdout
    assert world.states()[job] == "rejected"
    assert run.invoke(app, [*again, "--yes"]).exit_code == 0
    world.night("r2")
    assert world.states()[job] == "succeeded"
    assert run.invoke(app, ["retry", "--reason", "x"]).exit_code == 2
    assert run.invoke(app, ["load", "1", "--reason", "x"]).exit_code == 0

"""A person may have asked again what was not answered usably, knowing what it costs."""

from __future__ import annotations

import pytest

from nightbatch import insights, retrying
from nightbatch.errors import NightbatchError
from nightbatch.models import ProviderName
from tests.use_cases.conftest import World


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_a_retry_sends_the_unusable_ones_again_and_nothing_else(world: World, provider: ProviderName) -> None:
    world.insert(provider, 3)
    bad = world.insert(provider, 2, headline="[[emulator:misfit]]")
    refused = world.insert(provider, 1, headline="[[emulator:error=400]]")
    (first,) = world.night("r1")
    planned = retrying.preview(world.store, first.batch_id)
    assert (planned.jobs, planned.paid_again) == (3, 2)
    assert planned.price == insights.savings(world.store, insights.last_days(world.store)).total.wasted_cost_usd
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
    assert insights.savings(world.store, insights.last_days(world.store)).total.paid_again == 2


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

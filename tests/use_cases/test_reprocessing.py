"""A past job again; and the types whose answers are read with their inputs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nightbatch.core.models import ProviderName
from tests.use_cases.conftest import World


def insert(world: World, kind: str, provider: str, job: Any) -> int:
    return world.store.insert_job(kind, provider, job if isinstance(job, str) else json.dumps(job))


def errors(world: World) -> dict[int, str]:
    return dict(world.rows("SELECT job_id, error FROM nightbatch.job_status WHERE state <> 'succeeded'"))


def test_a_past_job_goes_again_to_another_provider_and_old_stands_beside_new(world: World) -> None:
    (past,) = world.insert("openai", 1)
    world.night("r1")
    again = insert(world, "historical_reprocessing", "anthropic", {"job_id": past, "prompt_version": "1"})
    world.night("r2")
    assert world.rows(
        "SELECT job_id, past_job_id, job_type, prompt_version, old_provider, old_outcome, new_provider, new_outcome,"
        " old_output IS NOT NULL AND new_output IS NOT NULL FROM nightbatch.reprocessed"
    ) == [(again, past, "creative_scoring", "1", "openai", "succeeded", "anthropic", "succeeded", True)]
    assert (
        world.rows("SELECT job_type, prompt_version FROM nightbatch.batch_prompt ORDER BY batch_id")
        == [("creative_scoring", "1")] * 2
    )
    world.judge()


def test_a_reprocessing_of_a_reprocessing_is_one_of_the_first_job(world: World) -> None:
    (past,) = world.insert("openai", 1)
    first = insert(world, "historical_reprocessing", "openai", {"job_id": past})
    second = insert(world, "historical_reprocessing", "openai", {"job_id": first})
    assert world.rows("SELECT past_job_id FROM nightbatch.reprocessed ORDER BY job_id") == [past, past]
    world.night("r1")
    assert world.states()[second] == "succeeded"


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ('{"job_id": 999999}', "there is no job 999999"),
        ('{"job_id": "no number"}', "job_id: "),
        ('{"job_id": 1e400}', "job_id: "),
        ('{"job_id": 99999999999999999999999}', "job_id: "),
        ('{"job_id": 1, "prompt_version": "7"}', "no prompt version '7'"),
        ('{"job_id": 2}', "there is no job"),
        ('{"job_id": 3, "x": "\\u0000"}', "x: there is no such member"),
        ("{}", "job_id: Field required"),
    ],
)
def test_a_wrong_reference_costs_its_own_job_only(world: World, reference: str, reason: str) -> None:
    (past,) = world.insert("openai", 1)
    assert past == 1
    bad = insert(world, "historical_reprocessing", "openai", reference)  # job 2: {"job_id": 2} names itself
    assert [row.succeeded for row in world.night("r1")] == [1]
    assert world.states() == {past: "succeeded", bad: "rejected"}
    assert reason in errors(world)[bad]
    world.judge()


def test_an_embedding_cannot_be_reprocessed_as_text(world: World) -> None:
    past = insert(world, "embedding_generation", "openai", {"text": "A text"})
    bad = insert(world, "historical_reprocessing", "openai", {"job_id": past})
    world.night("r1")
    assert world.states() == {past: "succeeded", bad: "rejected"}
    assert "other endpoint" in errors(world)[bad]


def test_hooks_and_predictions_are_read_with_what_was_asked(world: World, provider: ProviderName) -> None:
    hooks = insert(world, "hook_generation", provider, {"product": "Tea", "audience": "all", "count": 2})
    schema = {"type": "object", "properties": {"complaint": {"type": "boolean"}}, "required": ["complaint"]}
    job = {"template": "Is this a complaint? $text", "values": {"text": "The tea was cold."}, "schema": schema}
    prediction = insert(world, "bulk_predictions", provider, job)
    world.night("r1")
    found = dict(world.rows("SELECT job_id, output FROM nightbatch.result WHERE outcome = 'succeeded'"))
    assert len(found[hooks]["hooks"]) == 2
    assert isinstance(found[prediction]["complaint"], bool)
    world.judge()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("openai", {"messages": [{"role": "user", "content": "Say yes."}]}),
        ("anthropic", {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 1000}),
        ("gemini", {"contents": [{"role": "user", "parts": [{"text": "Say yes."}]}]}),
    ],
)
def test_a_ready_body_goes_out_as_it_is(world: World, name: str, body: dict[str, Any]) -> None:
    job = insert(world, "raw", name, {"body": body})
    world.night("r1")
    assert world.rows("SELECT output ->> 'text' <> '' FROM nightbatch.result WHERE job_id = %s", job) == [True]
    world.judge()

"""What a job asks is what is sent: ready bodies to any endpoint, models that think, functions that are called."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from nightbatch.core.models import Prompt, ProviderName, Tool
from nightbatch.job_types import job_types
from nightbatch.job_types.base import JobType
from tests.samples import png
from tests.use_cases.conftest import World

Json = dict[str, Any]


def put(world: World, kind: str, provider: str, asked: Json, model: str | None = None) -> int:
    query = "INSERT INTO nightbatch.job (job_type, provider, input, model) VALUES (%s, %s, %s, %s) RETURNING id"
    found: int = world.rows(query, kind, provider, json.dumps(asked), model)[0]
    return found


def batches(world: World) -> list[tuple[str, str]]:
    return list(world.rows("SELECT model, endpoint FROM nightbatch.batch ORDER BY endpoint, model"))


READY: dict[str, tuple[Json, str]] = {
    "chat": ({"body": {"messages": [{"role": "user", "content": "Say yes."}]}}, "gpt-6-luna"),
    "responses": ({"body": {"input": "Say yes.", "reasoning": {"effort": "low"}}}, "gpt-6-luna"),
    "embeddings": ({"body": {"model": "text-embedding-3-small", "input": ["a", "b"]}}, "text-embedding-3-small"),
    "completions": ({"url": "/v1/completions", "body": {"prompt": "Say yes."}}, "gpt-6-luna"),
    "moderations": ({"body": {"model": "omni-moderation-latest", "input": "x"}}, "omni-moderation-latest"),
    "images": ({"body": {"model": "gpt-image-1", "prompt": "A cat"}}, "gpt-image-1"),
}


def test_ready_bodies_go_to_the_endpoint_and_the_model_that_they_name(world: World) -> None:
    jobs = {endpoint: put(world, "raw", "openai", asked) for endpoint, (asked, _) in READY.items()}
    world.night("r1")
    assert batches(world) == sorted(
        ((model, endpoint) for endpoint, (_, model) in READY.items()), key=lambda b: b[::-1]
    )
    states = world.states()
    assert {endpoint: states[job] for endpoint, job in jobs.items() if endpoint != "moderations"} == {
        endpoint: "succeeded" for endpoint in READY if endpoint != "moderations"
    }
    output = dict(world.rows("SELECT job_id, output FROM nightbatch.result"))
    assert output[jobs["embeddings"]] == {"text": "", "count": 2}
    assert world.rows("SELECT count(*) FROM nightbatch.embedding WHERE job_id = %s", jobs["embeddings"]) == [2]
    assert output[jobs["images"]]["message"]["data"][0]["b64_json"]
    world.judge()


def test_a_ready_body_of_gemini_with_one_content_is_an_embedding(world: World) -> None:
    body = {
        "model": "models/gemini-embedding-001",
        "content": {"parts": [{"text": "q"}]},
        "taskType": "RETRIEVAL_QUERY",
    }
    job = put(world, "raw", "gemini", {"body": body})
    world.night("r1")
    assert (batches(world), world.states()[job]) == ([("gemini-embedding-001", "embeddings")], "succeeded")


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("openai", {"model": "gpt-6-sol", "messages": [{"role": "user", "content": "x"}]}),
        (
            "anthropic",
            {"model": "claude-sonnet-5-5", "max_tokens": 900, "messages": [{"role": "user", "content": "x"}]},
        ),
    ],
)
def test_a_model_in_the_body_is_asked_and_one_that_differs_from_the_job_s_is_rejected(
    world: World, provider: str, body: Json
) -> None:
    asked = put(world, "raw", provider, {"body": body})
    torn = put(world, "raw", provider, {"body": body}, model=job_types()["raw"].models[provider])
    world.night("r1")
    assert world.states()[asked] == "succeeded", world.rows("SELECT error FROM nightbatch.job_status ORDER BY job_id")
    assert world.states()[torn] == "rejected"
    assert {model for model, _ in batches(world)} >= {body["model"]}
    reason = world.rows("SELECT error FROM nightbatch.job_status WHERE job_id = %s", torn)[0]
    assert "which one is meant" in reason


@pytest.mark.parametrize("name", ['"model"', '"\\u006dodel"'])
def test_an_input_may_name_its_model_and_one_that_differs_from_the_column_s_is_rejected(
    world: World, name: str
) -> None:
    query = "INSERT INTO nightbatch.job (job_type, provider, input, model) VALUES (%s, 'openai', %s, %s) RETURNING id"
    given = f'{{{name}: " gpt-6-sol ", "headline": "x"}}'
    asked, alike, torn = [
        world.rows(query, "creative_scoring", given, model)[0] for model in (None, "gpt-6-sol", "gpt-6-luna")
    ]
    usual = world.rows(query, "creative_scoring", '{"headline": "a \\"model\\""}', None)[0]
    world.night("r1")
    assert world.states() == {asked: "succeeded", alike: "succeeded", usual: "succeeded", torn: "rejected"}
    found = world.rows(
        "SELECT r.job_id, b.model FROM nightbatch.result AS r JOIN nightbatch.batch AS b ON b.id = r.batch_id"
    )
    default = job_types()["creative_scoring"].models["openai"]
    assert dict(found) == {asked: "gpt-6-sol", alike: "gpt-6-sol", usual: default}
    reason = "model: the input asks for gpt-6-sol, and the job for gpt-6-luna: which one is meant?"
    assert world.rows("SELECT error FROM nightbatch.job_status WHERE job_id = %s", torn) == [reason]
    world.judge()


ENDPOINT_OF = [
    ("openai", {"body": {"messages": []}}, "chat"),
    ("openai", {"body": {"input": "x"}}, "responses"),
    ("openai", {"body": {"prompt": {"id": "pmpt_1"}}}, "responses"),
    ("openai", {"body": {"input": "x", "encoding_format": "float"}}, "embeddings"),
    ("openai", {"body": {"prompt": "x"}}, "completions"),
    ("openai", {"body": {"prompt": "x", "model": "sora-2"}}, "videos"),
    ("openai", {"body": {"prompt": "x"}, "url": "/v1/images/edits"}, "image_edits"),
    ("openai", {"body": {}}, "chat"),
    ("openai", {"body": "x"}, "chat"),
    ("openai", [], "chat"),
    ("openai", {"body": {"messages": None, "input": 1}}, "chat"),
    ("anthropic", {"body": {"input": "x"}}, "chat"),
    ("gemini", {"body": {"content": {}}}, "embeddings"),
    ("gemini", {"body": {"contents": [], "content": {}}}, "chat"),
]


@pytest.mark.parametrize(("provider", "given", "endpoint"), ENDPOINT_OF)
def test_the_endpoint_of_a_body_is_told_by_its_shape(world: World, provider: str, given: Any, endpoint: str) -> None:
    assert world.rows("SELECT nightbatch.raw_endpoint(%s, %s)", provider, json.dumps(given)) == [endpoint]


def deep_thought(kind: str, tokens: int) -> Json:
    """The type's example, with a mark that has the emulator's model think that much about it."""
    example = job_types()[kind].example
    name = {"creative_scoring": "headline", "hook_generation": "product", "bulk_predictions": "template"}[kind]
    return example | {name: f"{example[name]} [[emulator:think={tokens}]]"}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_no_answer_is_cut_off_by_its_own_thoughts_with_default_settings(
    world: World, provider: ProviderName, tmp_path: Path
) -> None:
    """The emulator's models think as the providers' do, and their thoughts count as output."""
    world.settings = replace(world.settings, media_dir=str(tmp_path))
    (tmp_path / "frame.png").write_bytes(png(4, 4))
    looked_at = {"frames": ["frame.png"], "question": "For whom? [[emulator:think=7600]]"}
    asked = [put(world, "video_analysis", provider, looked_at)]
    if provider != "anthropic":  # it has no embeddings
        asked.append(put(world, "embedding_generation", provider, {"text": "x"}))
    for kind in ("creative_scoring", "hook_generation", "bulk_predictions"):
        for number in range(20):
            asked.append(put(world, kind, provider, deep_thought(kind, number * 400)))
            put(world, kind, provider, job_types()[kind].example)
    world.night("r1")
    again = put(world, "historical_reprocessing", provider, {"job_id": asked[-1]})
    world.night("r2")
    outcomes = world.rows("SELECT outcome, count(*) FROM nightbatch.result GROUP BY outcome")
    assert outcomes == [("succeeded", len(asked) + 60 + 1)]
    thoughts = "(units ->> 'output_reasoning_tokens')::bigint"
    assert world.rows(f"SELECT max({thoughts}) FROM nightbatch.result") == [7_600]
    assert world.rows(f"SELECT {thoughts} FROM nightbatch.result WHERE job_id = %s", again) == [7_600]
    world.judge()


def test_thoughts_without_room_cut_the_answer_off(world: World) -> None:
    """The emulator is no kinder than a provider."""
    body = {"input": "[[emulator:think=5000]] Say yes.", "max_output_tokens": 1024, "reasoning": {"effort": "high"}}
    job = put(world, "raw", "openai", {"body": body})
    world.night("r1")
    assert world.rows("SELECT outcome FROM nightbatch.result WHERE job_id = %s", job) == ["truncated"]


class Ticket(JobType):
    name = "ticket"
    models: ClassVar[dict[ProviderName, str]] = dict(job_types()["creative_scoring"].models)
    example: ClassVar[Json] = {"text": "It burns"}

    class Input(BaseModel):
        text: str

    class Output(BaseModel):
        severity: str

    def request(self, job: Input) -> Prompt:
        parameters = {"type": "object", "properties": {"severity": {"type": "string", "enum": ["low", "high"]}}}
        tool = Tool("file_ticket", parameters | {"required": ["severity"]}, "Files a ticket.")
        return Prompt(user=job.text, tools=(tool,), tool="file_ticket")


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_the_arguments_of_a_forced_call_are_the_output(
    world: World, provider: ProviderName, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = {**job_types(), "ticket": Ticket()}
    monkeypatch.setattr("tests.use_cases.conftest.job_types", lambda: types)
    job = put(world, "ticket", provider, {"text": "It burns"})
    world.night("r1")
    (output,) = world.rows("SELECT output FROM nightbatch.result WHERE job_id = %s", job)
    assert output["severity"] in ("low", "high")
    world.judge()

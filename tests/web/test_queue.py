"""Jobs in through the API: checked as everywhere, counted once, and never all in memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.web.conftest import Client, World

JOB = {"job_type": "creative_scoring", "provider": "openai", "input": {"headline": "Coffee"}}


def lines(count: int, headline: str) -> Iterator[bytes]:
    """In chunks that do not care where lines end."""
    rest = b""
    for number in range(count):
        job = {**JOB, "input": {"headline": headline}, "dedup_key": f"k{number}"}
        rest += json.dumps(job).encode() + b"\n"
        while len(rest) > 65_000:
            yield rest[:65_000]
            rest = rest[65_000:]
    yield rest


def test_a_repeated_request_queues_nothing_twice(client: Client, world: World) -> None:
    body = {"jobs": [{**JOB, "dedup_key": "a"}, {**JOB, "dedup_key": "b", "labels": {"team": "ads"}, "priority": 9}]}
    first = client.post("queue", json=body)
    assert first.status_code == 201
    assert client.post("queue", json=body).json() == first.json()
    assert world.rows("SELECT id, priority, labels FROM nightbatch.job ORDER BY id") == [
        (first.json()["job_ids"][0], 5, {}),
        (first.json()["job_ids"][1], 9, {"team": "ads"}),
    ]
    waiting = client.get("queue/status").json()
    assert waiting["jobs"] == 2
    assert {(row["provider"], row["job_type"], row["priority"]) for row in waiting["waiting"]} == {
        ("openai", "creative_scoring", 5),
        ("openai", "creative_scoring", 9),
    }


def test_one_bad_job_is_named_and_none_is_queued(client: Client, world: World) -> None:
    body = {"jobs": [JOB, {**JOB, "job_type": "no_such_type"}, {**JOB, "input": {"headline": "\u0000"}}]}
    answer = client.post("queue", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"][0]["where"] == "jobs.1"
    assert "there is no such job type" in answer.json()["errors"][0]["what"]
    assert world.rows("SELECT count(*) FROM nightbatch.job") == [0]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"jobs": [{**JOB, "headline": "misplaced"}]}, "body.jobs.0.headline"),
        ({"jobs": []}, "body.jobs"),
        ({"jobs": [{**JOB, "priority": 11}]}, "body.jobs.0.priority"),
        ({"jobs": [{**JOB, "deadline": "2026-11-24T10:00:00"}]}, "body.jobs.0.deadline"),
    ],
)
def test_a_request_that_does_not_fit_says_where_and_repeats_no_input(
    client: Client, body: dict[str, Any], where: str
) -> None:
    answer = client.post("queue", json=body)
    assert answer.status_code == 422
    assert where in {error["where"] for error in answer.json()["errors"]}
    assert "misplaced" not in answer.text and "Coffee" not in answer.text


def test_100_000_jobs_are_copied_in_without_being_held_in_memory(
    served: str, tokens: dict[str, str], world: World
) -> None:
    headline = "A long headline. " * 50
    headers = {"content-type": "application/x-ndjson", "authorization": f"Bearer {tokens['op']}"}
    tracemalloc.start()
    try:
        answer = httpx.post(f"{served}queue/bulk", content=lines(100_000, headline), headers=headers, timeout=120)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.json() == {"new": 100_000, "known": 0, "bad_lines": 0, "bad": []}
    assert world.rows("SELECT count(*) FROM nightbatch.job") == [100_000]
    assert peak < 100_000 * len(headline) / 2, f"{peak / 1e6:.0f} MB"
    again = httpx.post(f"{served}queue/bulk", content=lines(10, headline), headers=headers, timeout=120)
    assert (again.json()["new"], again.json()["known"]) == (0, 10)


def test_bad_lines_of_a_bulk_are_left_out_and_named(client: Client, world: World) -> None:
    body = json.dumps(JOB) + "\nnonsense\n" + json.dumps(JOB) + "\n"
    answer = client.post("queue/bulk", content=body, headers={"content-type": "application/jsonl"})
    assert (answer.json()["new"], answer.json()["bad_lines"], answer.json()["bad"][0]["number"]) == (2, 1, 2)
    csv = "job_type,provider,input.headline\ncreative_scoring,gemini,Tea\ncreative_scoring,nobody,Tea\n"
    answer = client.post("queue/bulk", content=csv, headers={"content-type": "text/csv; charset=utf-8"})
    assert (answer.json()["new"], answer.json()["bad_lines"]) == (1, 1)
    assert client.post("queue/bulk", content=body, headers={"content-type": "text/html"}).status_code == 415
    assert world.rows("SELECT count(*) FROM nightbatch.job") == [3]


def test_a_bulk_again_queues_nothing_and_wishes_are_heeded(client: Client, world: World) -> None:
    body = json.dumps(JOB) + "\n" + json.dumps({**JOB, "input": {"headlin": "x"}}) + "\n"
    headers = {"content-type": "application/jsonl"}
    checked = client.post("queue/bulk?check=true", content=body, headers=headers)
    assert (checked.json()["new"], checked.json()["bad_lines"]) == (1, 1)
    refused = client.post("queue/bulk?all_or_nothing=true", content=body, headers=headers)
    assert (refused.status_code, refused.json()["errors"][0]["where"]) == (422, "lines.2")
    assert world.rows("SELECT count(*) FROM nightbatch.job") == [0]
    assert client.post("queue/bulk", content=body, headers=headers).json()["new"] == 1
    assert client.post("queue/bulk", content=body, headers=headers).json()["known"] == 1
    assert client.post("queue/bulk?again=true", content=body, headers=headers).json()["new"] == 1
    assert client.post("queue/bulk?allornothing=true", content=body, headers=headers).status_code == 422


def test_the_digits_of_an_input_are_kept_and_what_the_night_would_reject_is_refused(
    client: Client, world: World
) -> None:
    schema = {"type": "object", "properties": {"dear": {"type": "boolean"}}}
    job = {
        "job_type": "bulk_predictions",
        "provider": "openai",
        "input": {"template": "$n", "values": {"n": 0}, "schema": schema},
    }
    body = json.dumps({"jobs": [job]}).replace('"n": 0', '"n": 1234567890123456.780')
    assert client.post("queue", content=body, headers={"content-type": "application/json"}).status_code == 201
    assert world.rows("SELECT input -> 'values' ->> 'n' FROM nightbatch.job") == ["1234567890123456.780"]
    answer = client.post("queue", content=body.replace("$n", "{{n}}"), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, "jobs.0")
    assert "is no place for it; write $n" in answer.json()["errors"][0]["what"]


@pytest.mark.fault(51)
@pytest.mark.parametrize("told", [True, False])
def test_a_huge_body_is_refused_before_it_is_parsed(client: Client, told: bool) -> None:
    """Whether its length is told or not; what is inside would be refused as no JSON if anybody had looked."""
    body = b"[" * 1_000_001
    answer = client.post(
        "queue", content=body if told else (body[start : start + 50_000] for start in range(0, len(body), 50_000))
    )
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert "queue/bulk" in answer.json()["detail"]


def test_services_insert_creatives_and_texts(client: Client, world: World) -> None:
    scored = client.post(
        "integrate/creative-scoring",
        json={"creatives": [{"headline": "A"}, {"headline": "B"}], "providers": ["openai", "gemini"]},
    )
    assert len(scored.json()["job_ids"]) == 4
    panel = client.post(
        "integrate/creative-scoring",
        json={
            "creatives": [{"headline": "A"}],
            "providers": ["openai", "anthropic"],
            "council": True,
            "labels": {"team": "ads"},
        },
    )
    (name,) = panel.json()["councils"]
    assert (
        world.rows("SELECT labels FROM nightbatch.job ORDER BY id DESC LIMIT 2")
        == [{"council": name, "team": "ads"}] * 2
    )
    vectors = client.post("integrate/embeddings", json={"texts": ["one", "two"], "dimensions": 256})
    assert world.rows(
        "SELECT input FROM nightbatch.job WHERE id = ANY (%s) ORDER BY id", vectors.json()["job_ids"]
    ) == [
        {"text": "one", "dimensions": 256},
        {"text": "two", "dimensions": 256},
    ]
    alone = client.post("integrate/creative-scoring", json={"creatives": [{"headline": "A"}], "council": True})
    assert alone.status_code == 409 and "at least two members" in alone.json()["detail"]
    world.night("r1")
    assert set(world.states().values()) == {"succeeded"}


def test_a_queued_job_can_be_looked_at_and_taken_back(client: Client, world: World) -> None:
    queued, sent = world.insert("openai", 1), None
    shown = client.get(f"jobs/{queued[0]}").json()
    assert (shown["job"]["state"], shown["job"]["input"], shown["results"]) == (
        "queued",
        {"headline": "A headline 0"},
        [],
    )
    assert client.delete(f"jobs/{queued[0]}").status_code == 200
    assert world.states() == {queued[0]: "cancelled"}
    assert client.delete(f"jobs/{queued[0]}").status_code == 409
    (sent,) = world.insert("openai", 1)
    world.plan("r1")
    held_back = client.delete(f"jobs/{sent}")
    assert held_back.status_code == 409 and "cannot be taken out" in held_back.json()["detail"]
    assert client.delete("jobs/4711").status_code == client.get("jobs/4711").status_code == 404


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"job_ids": [999_999]}, "There is no job 999999."),
        ({"job_types": ["creative_scorin"]}, "There is no job type 'creative_scorin' (is 'creative_scoring' meant?)"),
        ({"dryrun": True}, "body.dryrun"),
    ],
)
def test_a_run_for_what_there_is_not_is_refused_and_not_started(client: Client, wish: Any, words: str) -> None:
    """Airflow has no Dag here: whoever asks it gets another answer."""
    answer = client.post("process", json=wish)
    assert answer.status_code == 422 and words in answer.text, answer.text

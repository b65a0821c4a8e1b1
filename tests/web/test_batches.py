"""Batches through the API: where they stand, what came back, what a person decides, and what that costs."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

from tests.unguarded import unguarded
from tests.web.conftest import Client, World


def test_results_come_in_pages_and_as_a_stream(client: Client, world: World) -> None:
    jobs = world.insert("openai", 7)
    (loaded,) = world.night("r1")
    seen, cursor = [], None
    while True:
        page = client.get(
            f"results/{loaded.batch_id}", params={"limit": 3, **({"cursor": cursor} if cursor else {})}
        ).json()
        seen += page["results"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [row["job_id"] for row in seen] == jobs
    assert seen[0]["output"]["verdict"] in ("run", "revise", "drop")
    lines = client.get(f"results/{loaded.batch_id}?format=jsonl").text.splitlines()
    streamed = [json.loads(line) for line in lines]
    assert [(row["job_id"], row["output"], Decimal(row["batch_cost_usd"])) for row in streamed] == [
        (row["job_id"], row["output"], Decimal(row["batch_cost_usd"])) for row in seen
    ]
    table = list(csv.DictReader(io.StringIO(client.get(f"results/{loaded.batch_id}?format=csv").text)))
    assert [(int(row["job_id"]), json.loads(row["output"])) for row in table] == [
        (row["job_id"], row["output"]) for row in seen
    ]
    assert client.get(f"results/{loaded.batch_id}?cursor=nonsense").status_code == 422
    assert client.get("results/4711").status_code == client.get("status/4711").status_code == 404


def test_a_batch_is_followed_from_its_plan_to_its_load(client: Client, world: World) -> None:
    world.insert("openai", 2)
    (batch,) = world.plan("r1")
    (active,) = client.get("active").json()
    assert (active["batch_id"], active["state"], active["jobs"]) == (batch.id, "planned", 2)
    world.submit(batch)
    assert client.get(f"status/{batch.id}").json()["batch"]["state"] == "submitted"
    world.load(batch.id)
    status = client.get(f"status/{batch.id}").json()
    assert (status["batch"]["state"], status["batch"]["succeeded"]) == ("loaded", 2)
    assert (status["job_types"], status["attempt"]) == ({"creative_scoring": 2}, None)
    assert client.get("active").json() == []


def test_a_cancellation_tells_its_price_first_and_is_recorded(client: Client, world: World) -> None:
    world.insert("openai", 3)
    (batch,) = world.plan("r1")
    early = client.post(f"batches/{batch.id}/cancel", json={"dry_run": True})
    assert early.status_code == 409 and "only one that is with its provider" in early.json()["detail"]
    world.submit(batch)
    asked = client.post(f"batches/{batch.id}/cancel", json={"dry_run": True}).json()
    assert (asked["done"], Decimal(asked["price_usd"]) > 0) == (False, True)
    assert "What has finished by then is paid for" in asked["message"]
    assert world.rows("SELECT count(*) FROM nightbatch.decision") == [0]
    assert client.post(f"batches/{batch.id}/cancel", json={"reason": " "}).status_code == 422
    assert client.post(f"batches/{batch.id}/cancel", json={"reason": "not needed"}).json()["done"]
    assert world.rows("SELECT choice, decided_by, reason FROM nightbatch.decision") == [
        ("cancel", "a-op", "not needed")
    ]


def test_a_retry_tells_its_price_first(client: Client, world: World) -> None:
    world.insert("openai", 2, headline="[[emulator:misfit]]")
    (loaded,) = world.night("r1")
    asked = client.post(f"batches/{loaded.batch_id}/retry", json={"dry_run": True}).json()
    assert Decimal(asked["price_usd"]) == sum(Decimal(line["cost_usd"]) for line in world.bill())
    assert "are paid for again" in asked["message"]
    assert client.post(f"batches/{loaded.batch_id}/retry", json={"reason": "better luck"}).json()["done"]
    assert set(world.states().values()) == {"queued"}
    assert client.post(f"batches/{loaded.batch_id}/retry", json={"reason": "twice"}).status_code == 409


def test_a_held_attempt_is_decided_on_with_its_price(client: Client, world: World) -> None:
    world.insert("anthropic", 2)
    (batch,) = world.plan("r1")
    with unguarded(world.store.connection):
        world.rows(
            "UPDATE nightbatch.batch SET state = 'held', intent_at = now(), epoch = 1, uploaded_at = now(),"
            " payload_sha256 = 'x', account_fingerprint = 'y', error = 'held for a test' WHERE id = %s RETURNING id",
            batch.id,
        )
    attempt = client.get(f"status/{batch.id}").json()["attempt"]
    assert set(attempt["choices"]) == {"adopt", "resend", "drop"}
    asked = client.post(f"batches/{batch.id}/release", json={"choice": "resend", "dry_run": True}).json()
    assert Decimal(asked["price_usd"]) > 0 and "as much was paid before" in asked["message"]
    missing = client.post(f"batches/{batch.id}/release", json={"choice": "adopt", "reason": "found it"})
    assert missing.status_code == 409 and "name the id" in missing.json()["detail"]
    done = client.post(f"batches/{batch.id}/release", json={"choice": "drop", "reason": "not worth it"})
    assert done.json()["done"] and set(world.states().values()) == {"cancelled"}

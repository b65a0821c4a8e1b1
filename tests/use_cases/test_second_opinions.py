"""Nights against providers that others wrote: what our emulator takes, they might not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from nightbatch.core.models import ProviderName
from nightbatch.core.provider import BatchProvider
from nightbatch.providers import build
from tests.scratch import scratch
from tests.second_opinions import aimock, mock_ai_api
from tests.use_cases.conftest import World
from tests.use_cases.steps import alerts, at_provider

Json = dict[str, Any]


class Elsewhere(World):
    """A world with one provider, which is somebody else's server."""

    url: str

    def provider(self, name: ProviderName, *, account: str | None = None) -> BatchProvider:
        return build(name, api_key=f"sk-{account or self.account}", base_url=self.url)


def elsewhere(world: World, url: str) -> Elsewhere:
    there = Elsewhere(world.dsn, world.store, world.emulator, world.settings)
    there.url = url
    return there


@pytest.fixture(scope="module")
def openai_url() -> Iterator[str]:
    with scratch() as folder, aimock(folder) as url:
        yield url


@pytest.fixture(scope="module")
def anthropic_url() -> Iterator[str]:
    with scratch() as folder, mock_ai_api(folder) as url:
        yield url


def put(world: World, provider: str, asked: Json, count: int = 1) -> None:
    query = "INSERT INTO nightbatch.job (job_type, provider, input) SELECT 'raw', %s, %s FROM generate_series(1, %s)"
    world.store.connection.execute(query, (provider, json.dumps(asked), count))


MESSAGES = {"messages": [{"role": "user", "content": "Say yes."}]}
ASKED: dict[str, Json] = {
    "chat": {"body": MESSAGES},
    "completions": {"url": "/v1/completions", "body": {"prompt": "Say yes."}},
    "embeddings": {"body": {"model": "text-embedding-3-small", "input": "Say yes."}},
    "responses": {"body": {"input": "Say yes."}},
}


def test_a_night_on_every_endpoint_of_aimock(world: World, openai_url: str) -> None:
    there = elsewhere(world, openai_url)
    for asked in ASKED.values():
        put(there, "openai", asked, 5)
    there.insert("openai", 1)
    there.night("r1")
    told = there.rows(
        "SELECT b.endpoint, j.job_type, r.outcome, r.billed, count(*) FROM nightbatch.result AS r"
        " JOIN nightbatch.batch AS b ON b.id = r.batch_id JOIN nightbatch.job AS j ON j.id = r.job_id"
        " GROUP BY 1, 2, 3, 4 ORDER BY 2 DESC, 1"
    )
    # It answers everybody with the same sentence, which is no score: that job failed, and is paid for all the same.
    scoring = ("responses", "creative_scoring", "failed", True, 1)
    assert told == [*((endpoint, "raw", "succeeded", True, 5) for endpoint in ASKED), scoring], alerts(there)
    assert alerts(there) == []


def test_a_night_on_the_anthropic_side_of_mock_ai_api(world: World, anthropic_url: str) -> None:
    """It ends a batch only once somebody asks for the results."""
    there = elsewhere(world, anthropic_url)
    put(there, "anthropic", {"body": MESSAGES | {"max_tokens": 100}}, 5)
    (batch,) = there.plan()
    assert there.submit_until_certain(batch) == batch.id
    assert there.runs(batch.id)
    results = f"{anthropic_url}/v1/messages/batches/{at_provider(there, batch.id)}/results"
    httpx.get(results, trust_env=False).raise_for_status()
    there.load(batch.id)
    assert set(there.states().values()) == {"succeeded"}, alerts(there)
    assert there.rows("SELECT DISTINCT output ->> 'text' FROM nightbatch.result") == ["A unified model API gateway."]
    assert there.rows("SELECT count(*) FROM nightbatch.result WHERE batch_cost_usd > 0") == [5]
    assert alerts(there) == []

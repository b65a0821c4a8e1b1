"""Lines of results as others send them, each with its right value, through a real load."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Container, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest

from nightbatch.batches import loading, submission
from nightbatch.core.ledger import RunParams
from nightbatch.core.models import Counts, Endpoint, ProviderName, ProviderState, ResultLine, UnreadableLine
from nightbatch.job_types import job_types
from nightbatch.job_types.raw import Raw
from tests.use_cases.conftest import World

Case = dict[str, Any]
CASES = [json.loads(line) for line in (Path(__file__).parent / "data" / "result_lines.jsonl").read_text().splitlines()]
BODIES = {
    "openai": {"messages": [{"role": "user", "content": "Say yes."}]},
    "anthropic": {"max_tokens": 9, "messages": [{"role": "user", "content": "Say yes."}]},
    "gemini": {"contents": [{"parts": [{"text": "Say yes."}]}]},
}


class RawResponses(Raw):
    """A ready body for the newer of OpenAI's two endpoints."""

    name = "raw_responses"
    openai_endpoint: ClassVar[Endpoint] = "responses"


TYPES = {**job_types(), RawResponses.name: RawResponses()}


def input_of(case: Case) -> str:
    if case["inputs"]:
        return json.dumps(case["inputs"][0])
    body = {"input": "Say yes."} if case["job_type"] == "raw_responses" else BODIES[case["provider"]]
    return json.dumps({"body": body})


async def _told(state: ProviderState, provider_batch_id: str) -> ProviderState:
    return state


def answers(world: World, provider: ProviderName, cases: dict[int, Case]) -> None:
    """A night in which the provider answers every job with the line of its case."""
    adapter = world.provider(provider)
    whole, read = adapter.iter_results, import_module(f"nightbatch.providers.{provider}_results").read

    def instead(batch_id: str, known: Container[int] = ()) -> Iterator[ResultLine | UnreadableLine]:
        for line in whole(batch_id):
            assert isinstance(line, ResultLine)
            case = cases[int(line.custom_id.partition("_")[0][1:])]
            yield read(json.dumps(case["line"]).replace("{CID}", line.custom_id).encode())

    adapter.iter_results = instead  # type: ignore[method-assign, assignment]
    alone, params = replace(world.settings, max_batch_jobs=1), RunParams()
    batches = submission.plan_run(world.store, TYPES, alone, run_id="r1", queued_before=None, params=params)
    for batch in batches:
        sent = submission.submit_batch(world.store, adapter, TYPES, world.settings, batch.id)
        assert sent is not None
        world.wait_for_the_end(sent)
        (job,) = world.store.members(sent)
        state = asyncio.run(world.provider(provider).get_state(world.store.batch(sent).provider_batch_id or ""))
        counts = Counts(1, 0, 1) if cases[job]["right"].get("billed") is False else Counts(1, 1, 0)
        # Long ago: what has just ended is waited for where no line can be read.
        told = replace(state, counts=counts, tokens=None, ended_at=datetime.now(UTC) - timedelta(days=2))
        adapter.get_state = partial(_told, told)  # type: ignore[method-assign]
        loading.load_batch(world.store, adapter, TYPES, sent)


def seen(world: World, job: int) -> Case:
    (row,) = world.rows(
        "SELECT outcome, billed, finish_reason, input_tokens, cached_tokens, output_tokens, batch_cost_usd, output::text"
        " FROM nightbatch.result WHERE job_id = %s",
        job,
    )
    outcome, billed, finish, *tokens, cost, output = row
    return {
        "outcome": outcome, "billed": billed, "finish": finish, "tok": tokens, "cost": cost, "output": output or "null",
        "state": world.states()[job],
    }  # fmt: skip


def is_right(key: str, value: Any, found: Case) -> bool:
    match key:
        case "not_outcome":
            return bool(found["outcome"] != value)
        case "output":
            return bool(json.loads(found["output"]) == value)
        case "not_output":
            return bool(json.loads(found["output"]) != value)
        case "has":
            return value in found["output"]
        case "cost":
            return bool(found["cost"] == (Decimal(value) if value else None))
        case _:
            return bool(found[key] == value)


def faults(case: Case, found: Case) -> list[str]:
    """What is not as it should be."""
    return [
        f"{case['id']}: {key} should be {value}: {found}"
        for key, value in case["right"].items()
        if not is_right(key, value, found)
    ]


@pytest.mark.fault(49, 66, 67)
def test_every_line_gives_its_right_value(world: World, provider: ProviderName) -> None:
    mine = [case for case in CASES if case["provider"] == provider]
    assert len(CASES) == 79 and mine
    insert = "INSERT INTO nightbatch.job (job_type, provider, model, input) VALUES (%s, %s, %s, %s) RETURNING id"
    jobs = {world.rows(insert, case["job_type"], provider, case["model"], input_of(case))[0]: case for case in mine}
    answers(world, provider, jobs)
    assert [fault for job, case in jobs.items() for fault in faults(case, seen(world, job))] == []

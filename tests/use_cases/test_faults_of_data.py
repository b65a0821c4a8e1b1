"""Odd data from end to end: the job at fault tells why, and the rest of the night goes on."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from nightbatch.core.models import ProviderName
from tests.use_cases.conftest import World

ODD = [
    '{"headline": "a\\u0000b"}',
    '{"headline": "half \\ud800"}',
    '{"headline": "big", "weight": 1e400}',
    '{"headline": "once", "headline": "twice"}',
    '{"headline": "\'; DROP TABLE nightbatch.job; --"}',
    '{\n  "headline" :   "spaces"\n}',
    '{"headline": ' + "[" * 500 + "]" * 500 + "}",
    '"no object"',
    "null",
]


@pytest.mark.fault(39, 43)
def test_odd_inputs_reach_the_provider_or_say_why_not_and_stop_nobody(world: World, provider: ProviderName) -> None:
    odd = [world.store.insert_job("creative_scoring", provider, text) for text in ODD]
    good = world.insert(provider, 2)
    assert world.rows("SELECT input::text FROM nightbatch.job WHERE id = ANY (%s) ORDER BY id", odd) == ODD
    world.night("r1")
    states = world.states()
    assert [states[job] for job in good] == ["succeeded"] * 2
    assert {states[job] for job in odd} <= {"succeeded", "rejected"}
    assert [states[job] for job in odd[1:2] + odd[6:]] == ["rejected"] * 4
    reasons = world.rows("SELECT error FROM nightbatch.job_status WHERE state = 'rejected'")
    assert all(reasons), "each says why"
    assert world.rows("SELECT input::text FROM nightbatch.job WHERE id = ANY (%s) ORDER BY id", odd) == ODD
    world.judge()


HOSTILE = [
    ("raw", '{"body": {"max_tokens": 1000000000000000000000000000000}}'),
    ("raw", '{"body": {"max_tokens": -5}}'),
    ("bulk_predictions", '{"template": "x", "schema": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1/"}}}}'),
    ("bulk_predictions", '{"template": "x", "schema": {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}}'),
    ("bulk_predictions", '{"template": "x", "schema": {"type": "object", "$ref": "#"}}'),
    ("bulk_predictions", '{"template": "x", "schema": {"type": "object", "maximum": 1000000000000000000000000000000}}'),
    ("fragile", '{"fails_on": "the input"}'),
    ("fragile", '{"fails_on": "the request"}'),
]  # fmt: skip
FRAGILE = """
from typing import ClassVar
from pydantic import BaseModel
from nightbatch.job_types.base import JobType
from nightbatch.core.models import Prompt

class Fragile(JobType):
    name = "fragile"
    models: ClassVar = {"openai": "gpt-6-luna", "anthropic": "claude-haiku-5-5", "gemini": "gemini-3.5-flash-lite"}
    example: ClassVar = {"fails_on": "nothing"}
    keeps_context = True

    class Input(BaseModel):
        fails_on: str
        def model_post_init(self, context):
            if self.fails_on == "the input":
                raise KeyError("canary-in-an-input")

    class Output(BaseModel):
        text: str

    def request(self, job):
        if job.fails_on == "the request":
            raise TypeError("canary-in-an-input")
        return Prompt(user="Say something.", schema=self.schema)

    def context(self, job):
        if job.fails_on == "the context":
            raise IndexError("canary-in-an-input")
        return job.fails_on.encode()

    def read_answer(self, answer, context=b""):
        if context == b"the answer":
            raise ZeroDivisionError("canary-in-an-answer")
        return super().read_answer(answer)
"""


@pytest.mark.fault(39)
def test_a_job_that_makes_its_own_type_fail_ends_with_a_reason_and_stops_nobody(
    world: World, provider: ProviderName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the plan, which looks at a few jobs of each kind, in the rendering, and in the load, which is paid for by then."""
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.setenv("NIGHTBATCH_JOB_TYPES", str(tmp_path))
    odd = [world.store.insert_job(kind, provider, text) for kind, text in HOSTILE]
    unread = world.store.insert_job("fragile", provider, '{"fails_on": "the answer"}')
    good = [
        world.store.insert_job("fragile", provider, json.dumps({"fails_on": on})) for on in ("the context", "nothing")
    ]
    good += world.insert(provider, 2)
    world.night("r1")
    states = world.states()
    assert [states[job] for job in good] == ["succeeded"] * 4
    assert {states[job] for job in odd} <= {"rejected", "failed"}
    assert [states[job] for job in (*odd[:1], *odd[2:])] == ["rejected"] * 7
    assert world.rows(
        "SELECT outcome, billed, error, output IS NOT NULL FROM nightbatch.result WHERE job_id = %s", unread
    ) == [("failed", True, "The job type fragile failed with ZeroDivisionError on it.", True)]
    reasons = world.rows("SELECT error FROM nightbatch.job_status WHERE state IN ('rejected', 'failed')")
    assert all(reasons) and "canary" not in str(reasons)
    world.judge()


@pytest.mark.fault(41)
def test_a_model_that_the_provider_does_not_have_ends_with_its_words(world: World, provider: ProviderName) -> None:
    (bad,) = world.insert(provider, 1, model="no-such-model-1")
    (good,) = world.insert(provider, 1)
    world.night("r1")
    world.night("r2")
    world.night("r3")
    states = world.states()
    assert states[good] == "succeeded"
    assert states[bad] in ("rejected", "failed")
    (error,) = world.rows("SELECT error FROM nightbatch.job_status WHERE job_id = %s", bad)
    assert "no-such-model-1" in error or "model" in error


@pytest.mark.fault(44)
def test_a_job_without_a_price_runs_and_is_counted_as_unpriced(world: World) -> None:
    world.insert("openai", 1, model="emulator-preview-1")
    assert [loaded.succeeded for loaded in world.night("r1")] == [1]
    assert world.rows("SELECT billed, batch_cost_usd, realtime_cost_usd, price_source FROM nightbatch.result") == [
        (True, None, None, None)
    ]
    assert world.rows("SELECT unpriced, batch_cost_usd FROM nightbatch_report.savings_daily") == [(1, 0)]


@pytest.mark.fault(45)
def test_a_price_that_changed_since_does_not_touch_what_was_sent(world: World, provider: ProviderName) -> None:
    """Sent three days ago, loaded today: the price of the day before yesterday is none of its business."""
    world.insert(provider, 2)
    (batch,) = world.plan("r1")
    assert world.submit(batch) == batch.id
    world.store.connection.execute(
        "UPDATE nightbatch.batch SET intent_at = intent_at - interval '3 days', submitted_at = submitted_at - interval '3 days'"
    )
    sent = world.store.batch(batch.id).submitted_at
    assert sent
    world.store.connection.execute(
        "INSERT INTO nightbatch.price_override (provider, model, valid_from, input_usd, output_usd, batch_input_usd,"
        " batch_output_usd, note) VALUES (%s, %s, %s, 1000, 1000, 1000, 1000, 'a day later')",
        [provider, batch.model, (sent + timedelta(days=1)).date()],
    )
    world.load(batch.id)
    world.judge()
    assert 0 < sum(world.rows("SELECT batch_cost_usd FROM nightbatch.result"), Decimal(0)) < 1
    world.insert(provider, 1)
    world.night("r2")
    in_force = world.rows("SELECT count(*) FROM nightbatch.result WHERE price_source LIKE '%%a day later%%'")
    assert in_force == [1], "what is sent now has the new price"


@pytest.mark.fault(49)
def test_a_candidate_without_parts_is_a_refusal_and_not_a_success(world: World) -> None:
    (job,) = world.insert("gemini", 1, headline="[[emulator:no-parts]]")
    world.night("r1")
    assert world.states() == {job: "failed"}
    assert world.rows("SELECT outcome, billed FROM nightbatch.result") == [("refused", True)]
    world.judge()

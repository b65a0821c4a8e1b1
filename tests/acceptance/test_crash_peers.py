"""The same crash for nightbatch and for Airflow's own batch operators; `make crash-peers` plays more of it, as a table."""

from __future__ import annotations

import pytest

from tests.bench.crash_peers import CRASHES, Row, measure, show

_FAIL = 'LLMBatchOperator, on_orphaned_intent="fail"'


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], Row]:
    """Killed after the provider accepted and before the id was recorded, then run again; by tool and provider."""
    played = measure(CRASHES[:1])
    show(played)
    return {(row.tool, row.provider): row for row in played}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_nightbatch_is_billed_once_and_has_every_answer(rows: dict[tuple[str, str], Row], provider: str) -> None:
    row = rows["nightbatch", provider]
    assert (row.lines, row.paid_twice, row.answers, row.person) == (row.jobs, 0, row.jobs, "nothing")


def test_what_the_operators_are_billed(rows: dict[tuple[str, str], Row]) -> None:
    """Ten jobs each: lines billed, and answers in hand. Where a newer release does better: say so in the table's words."""
    peers = {who: (row.lines, row.answers) for who, row in rows.items() if row.tool != "nightbatch"}
    assert peers == {
        ("OpenAITriggerBatchOperator", "openai"): (20, 10),
        ("AnthropicBatchOperator", "anthropic"): (20, 10),
        ("AnthropicBatchOperator, retries=0", "anthropic"): (10, 0),
        ("LLMBatchOperator", "openai"): (10, 10),
        ("LLMBatchOperator", "anthropic"): (20, 10),
        (_FAIL, "openai"): (10, 10),
        (_FAIL, "anthropic"): (10, 0),
    }
    assert rows[_FAIL, "anthropic"].error.startswith("LLMBatchOrphanedIntentError")
    assert not any(row.error for row in rows.values() if row.answers)

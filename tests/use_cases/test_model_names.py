"""What a model's name may hold, whichever way a job comes in."""

from __future__ import annotations

import psycopg
import pytest

from tests.use_cases.conftest import World


@pytest.mark.parametrize(
    "name",
    ["", " ", "gpt 6", "gpt-6\n-luna", "gpt-6\tluna", "'gpt-6'", '"gpt-6"', "`gpt-6`", "gpt\u20116", "gpt-6\u200b", "“gpt-6”",
     "gpt\xa06", "gpt\x016", "g" * 201],
)  # fmt: skip
def test_the_database_refuses_what_no_name_holds(world: World, name: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        world.insert("openai", 1, model=name)


@pytest.mark.parametrize(
    "name",
    [
        "ft:gpt-4.1-mini-2025-04-14:acme::abc",
        "models/gemini-3.5-flash-lite",
        "anthropic.claude-v1:0",
        "a@b#c+d_e~1",
        "modèle-模型",
    ],
)
def test_what_names_do_hold_is_taken(world: World, name: str) -> None:
    assert world.insert("openai", 1, model=name)


def test_a_name_with_white_space_around_it_is_the_same_model(world: World) -> None:
    for model in ("gpt-6-luna", "gpt-6-luna ", "\tgpt-6-luna\r\n"):
        world.insert("openai", 1, model=model)
    world.insert("openai", 1)
    (batch,) = world.plan()
    assert (batch.model, batch.job_count) == ("gpt-6-luna", 4)

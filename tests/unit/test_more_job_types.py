"""Hooks, predictions, ready bodies and prompt versions: what is asked, and what an answer has to be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightbatch.errors import Rejected
from nightbatch.job_types import job_types
from nightbatch.job_types.base import JobType, Misfit
from nightbatch.models import Answer, Prompt, ReadyBody

HOOKS = job_types()["hook_generation"]
PREDICTIONS = job_types()["bulk_predictions"]
SCORING = job_types()["creative_scoring"]
SCHEMA = {"type": "object", "properties": {"complaint": {"type": "boolean"}}, "required": ["complaint"]}


def answer(value: Any) -> Answer:
    return Answer("succeeded", text=json.dumps(value))


def hooks(*texts: str) -> Answer:
    return answer({"hooks": [{"text": text, "angle": "any"} for text in texts]})


@pytest.mark.parametrize("name", sorted(job_types()))
def test_every_types_example_is_a_valid_input(name: str) -> None:
    kind = job_types()[name]
    job = kind.read_input(json.dumps(kind.example).encode())
    if name != "historical_reprocessing":  # its request is the past job's
        assert kind.request(job)


@pytest.mark.parametrize("name", sorted(job_types()))
@given(raw=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: json.dumps({"text": text}).encode()))
def test_any_bytes_are_a_request_or_a_reason_for_every_type(name: str, raw: bytes) -> None:
    try:
        job_types()[name].render_request(raw)
    except Rejected as rejected:
        assert len(str(rejected)) < 300


# -- hooks


def test_near_duplicates_are_removed_and_no_more_are_kept_than_were_asked_for() -> None:
    given_hooks = hooks("Wake to coffee", "wake to COFFEE!", "Sleep five minutes longer", "Your kitchen, before you")
    read = json.loads(HOOKS.read_answer(given_hooks, b"2").json)
    assert [hook["text"] for hook in read["hooks"]] == ["Wake to coffee", "Sleep five minutes longer"]


def test_fewer_hooks_than_were_wanted_are_kept_and_none_do_not_fit() -> None:
    read = HOOKS.read_answer(hooks("Wake to coffee", "Wake to coffee."), b"2")
    assert len(json.loads(read.json)["hooks"]) == 1
    with pytest.raises(Misfit, match="it holds no hook"):
        HOOKS.read_answer(hooks(), b"2")


def test_more_hooks_are_asked_for_than_are_kept() -> None:
    job = HOOKS.read_input(b'{"product": "Tea", "audience": "all", "count": 4}')
    request = HOOKS.request(job)
    assert isinstance(request, Prompt)
    assert request.user.startswith("Write 6 hooks.\nproduct: Tea\naudience: all")
    assert request.schema is not None
    assert request.schema["properties"]["hooks"]["minItems"] == 6
    assert HOOKS.context(job) == b"4"


# -- predictions


def predict(template: str, values: dict[str, Any], schema: Any = SCHEMA) -> Prompt:
    job = {"template": template, "values": values, "schema": schema}
    request = PREDICTIONS.render_request(json.dumps(job).encode())
    assert isinstance(request, Prompt)
    return request


def test_the_values_stand_in_the_template() -> None:
    assert predict("$$5? $text, ${n}th", {"text": "{x.__class__}", "n": 3}).user == "$5? {x.__class__}, 3th"


def test_the_schema_asks_for_what_it_names_and_nothing_else() -> None:
    assert predict("$text", {"text": "cold"}).schema == {**SCHEMA, "additionalProperties": False}


@pytest.mark.parametrize(
    ("template", "schema", "reason"),
    [
        ("$other", SCHEMA, "values: the template's other is missing"),
        ("100 $ ", SCHEMA, "template: a dollar sign stands alone"),
        ("$text", {"type": "array"}, "schema: Value error, its type has to be"),
        ("$text", {"type": "object", "properties": 3}, "schema: Value error, no JSON schema"),
    ],
)
def test_a_template_or_schema_that_is_wrong_is_rejected_with_the_reason(
    template: str, schema: Any, reason: str
) -> None:
    with pytest.raises(Rejected) as caught:
        predict(template, {"text": "canary"}, schema)
    assert str(caught.value).startswith(reason)


def test_an_answer_is_checked_against_the_jobs_own_schema() -> None:
    context = json.dumps(SCHEMA).encode()
    assert PREDICTIONS.read_answer(answer({"complaint": True}), context).json == b'{"complaint":true}'
    for wrong in ({"complaint": "canary"}, {}, [1]):
        with pytest.raises(Misfit, match="does not fit") as caught:
            PREDICTIONS.read_answer(answer(wrong), context)
        assert "canary" not in str(caught.value)
    with pytest.raises(Misfit, match="no JSON"):
        PREDICTIONS.read_answer(Answer("succeeded", text="Certainly!"), context)


# -- ready bodies


def test_a_ready_body_is_passed_through_and_its_answer_kept_as_text() -> None:
    raw = job_types()["raw"]
    body = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
    assert raw.render_request(json.dumps({"body": body}).encode()) == ReadyBody(body)
    assert raw.read_answer(Answer("succeeded", text="Yes.")).json == b'{"text":"Yes."}'


# -- prompt versions


def test_a_type_is_asked_with_its_newest_prompt_and_may_be_asked_with_another() -> None:
    class Two(type(SCORING)):  # type: ignore[misc]  # the class of the registered type
        prompts = {"1": "The first.", "2": "The second."}  # noqa: RUF012

    kind: JobType = Two()
    assert (kind.prompt_version, kind.system) == ("2", "The second.")
    assert (kind.at_version("1").system, kind.at_version(None), kind.at_version("2")) == ("The first.", kind, kind)
    with pytest.raises(Rejected, match="no prompt version '3'; there are 1, 2"):
        kind.at_version("3")

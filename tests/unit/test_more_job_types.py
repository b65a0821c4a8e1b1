"""Hooks, predictions, ready bodies and prompt versions: what is asked, and what an answer has to be."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightbatch.core.errors import Rejected
from nightbatch.core.models import Answer, Prompt, RawRequest
from nightbatch.job_types import job_types
from nightbatch.job_types.base import JobType, OutputInvalid

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
    with pytest.raises(OutputInvalid, match="it holds no hook"):
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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("19.90", "19.90"),
        ("1234567890123456.78", "1234567890123456.78"),
        ("10.0", "10.0"),
        ("1e22", "1e22"),
        ("340282366920938463463374607431768211456", "340282366920938463463374607431768211456"),
        ("true", "true"),
        ("null", "null"),
        ('["a", 1.10]', '["a",1.10]'),
        ('{"price": 19.90, "of": "caf\\u00e9"}', '{"price":19.90,"of":"café"}'),
        ('"\\"said\\" caf\\u00e9"', '"said" café'),
    ],
)
def test_a_value_stands_in_the_prompt_with_the_digits_that_were_given(value: str, text: str) -> None:
    raw = f'{{"template": "v=$v", "values": {{"v" : {value} }}, "schema": {json.dumps(SCHEMA)}}}'
    request = PREDICTIONS.render_request(raw.encode())
    assert isinstance(request, Prompt)
    assert request.user == f"v={text}"


@pytest.mark.parametrize("place", ["{{text}}", "{{ text }}", "{text}", "%(text)s", "<text>", "[text]"])
def test_a_place_as_other_tools_write_it_is_rejected_with_how_to_write_it(place: str) -> None:
    with pytest.raises(Rejected, match=r"is no place for it; write \$text or \$\{text\}"):
        predict(f"Is this a complaint? {place}", {"text": "cold"})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"text": "x", "unused": "y"}, "values: unused is given, and nothing in the template uses it"),
        ({"text": "x", "first name": "y"}, "values: no $name can be written for 'first name'"),
        ({"Text": "x"}, "values: the template's text is missing"),
    ],
)
def test_a_value_that_no_place_takes_is_rejected(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        predict("$text", values)
    assert str(caught.value).startswith(reason)


def test_braces_of_the_text_itself_are_no_places() -> None:
    assert predict('Answer as {"text": "..."}: $text', {"text": "cold"}).user == 'Answer as {"text": "..."}: cold'
    assert predict("Explain {{text}} in a template", {}).user == "Explain {{text}} in a template"


@pytest.mark.parametrize("number", ["1e400", "-1e999"])
def test_a_number_that_no_request_can_hold_is_rejected(number: str) -> None:
    with pytest.raises(Rejected, match="body: Value error, it holds a number that is too large"):
        job_types()["raw"].render_request(f'{{"body": {{"n": {number}}}}}'.encode())


@pytest.mark.parametrize("name", sorted(job_types()))
def test_no_type_takes_an_input_with_a_member_that_it_does_not_have(name: str) -> None:
    kind = job_types()[name]
    with pytest.raises(Rejected, match=r"^boddyy: there is no such member"):
        kind.render_request(json.dumps(kind.example | {"boddyy": "x"}).encode())


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("creative_scoring", {"headlin": "x"}, "headlin: there is no such member; headline was probably meant"),
        ("bulk_predictions", {"max_token": 9}, "max_token: there is no such member; max_tokens was probably meant"),
        (
            "bulk_predictions",
            {"answer": {}},
            "answer: there is no such member; there are model, effort, max_tokens, ",
        ),
        ("raw", {"bdy": {}}, "bdy: there is no such member; body was probably meant"),
    ],
)
def test_a_misspelt_member_is_named_with_the_one_that_was_meant(name: str, given: dict[str, Any], meant: str) -> None:
    with pytest.raises(Rejected) as caught:
        job_types()[name].render_request(json.dumps(given).encode())
    assert str(caught.value).startswith(meant)


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
        with pytest.raises(OutputInvalid, match="does not fit") as caught:
            PREDICTIONS.read_answer(answer(wrong), context)
        assert "canary" not in str(caught.value)
    with pytest.raises(OutputInvalid, match="no JSON"):
        PREDICTIONS.read_answer(Answer("succeeded", text="Certainly!"), context)


class Listener(ThreadingHTTPServer):
    """Whoever asks for anything is written down."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BaseHTTPRequestHandler)
        self.callers: list[object] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.callers.append(client_address)
        self.shutdown_request(request)


@pytest.mark.fault(54)
def test_nothing_is_fetched_for_a_schema_that_refers_to_an_address() -> None:
    with Listener() as listener:
        address = f"http://127.0.0.1:{listener.server_port}/schema"
        for reference in (address, "file:///etc/hostname", "other.json", "#/enum/0", "#anchor"):
            schema = {**SCHEMA, "properties": {"complaint": {"$ref": reference}}}
            with pytest.raises(Rejected, match=r"a \$ref has to be # or begin with #/\$defs/"):
                predict("$text", {"text": "x"}, schema)
            with pytest.raises(OutputInvalid, match="refers to itself without end, or to nothing"):
                PREDICTIONS.read_answer(answer({"complaint": True}), json.dumps(schema).encode())
        assert listener.callers == []
        listener.shutdown()


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"$ref": "#/$defs/none"}, "a $ref names what is not in $defs"),
        ({"$dynamicRef": "#"}, "no provider's structured output knows $dynamicRef"),
        ({"type": "object", "patternProperties": {"(a+)+$": {}}}, "no provider's structured output knows patternProp"),
        ({"type": "string", "pattern": "(?=a)b"}, "a pattern is no regular expression, or looks around or back"),
        ({"type": "string", "pattern": "("}, "a pattern is no regular expression"),
        ({"type": "integer", "maximum": 10**30}, "it holds a whole number of more than 64 bits"),
    ],
)
def test_a_schema_that_no_answer_could_be_checked_against_is_rejected(part: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        predict("$text", {"text": "x"}, {**SCHEMA, "properties": {"complaint": {"anyOf": [part, {"type": "null"}]}}})
    assert str(caught.value).startswith(f"schema: Value error, {reason}")


def test_a_schema_without_an_end_is_rejected_or_read_as_a_misfit() -> None:
    with pytest.raises(Rejected, match="it refers to itself without end"):
        predict("$text", {"text": "x"}, {"type": "object", "$ref": "#"})
    inner = {
        "type": "object",
        "properties": {"complaint": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"$ref": "#/$defs/a"}},
    }
    with pytest.raises(Rejected, match=r"\$\.properties\.complaint: it refers to itself without end"):
        predict("$text", {"text": "x"}, inner)
    with pytest.raises(OutputInvalid, match="without end"):
        PREDICTIONS.read_answer(answer({"complaint": True}), json.dumps(inner).encode())


def test_a_schema_that_names_itself_too_often_ends_all_the_same() -> None:
    """Thirty definitions, each naming the next one twice: a thousand million ways to its end."""
    chain = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {"d30": {}}
    began = time.process_time()
    with pytest.raises(Rejected, match="it refers to itself without end, or too often"):
        predict("$text", {"text": "x"}, {"type": "object", "allOf": [{"$ref": "#/$defs/d0"}], "$defs": chain})
    deep = {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": chain}
    with pytest.raises(Rejected, match="too large when all that it refers to is written out"):
        predict("$text", {"text": "x"}, deep)
    with pytest.raises(OutputInvalid, match="without end"):
        PREDICTIONS.read_answer(answer({"a": 1}), json.dumps(deep).encode())
    assert time.process_time() - began < 60


def test_a_tree_of_nodes_is_read_as_its_schema_says() -> None:
    node = {"type": "object", "properties": {"name": {"type": "string"}, "below": {"items": {"$ref": "#/$defs/node"}}}}
    tree = {**node, "$defs": {"node": {**node, "required": ["name"]}}}
    predict("$text", {"text": "x"}, tree)
    context = json.dumps(tree).encode()
    assert PREDICTIONS.read_answer(answer({"name": "a", "below": [{"name": "b"}]}), context).json
    with pytest.raises(OutputInvalid, match=r"\$\.below\[0\] breaks the rule 'required'"):
        PREDICTIONS.read_answer(answer({"name": "a", "below": [{}]}), context)


def test_a_pattern_is_quick_whatever_it_says() -> None:
    schema = {"type": "object", "properties": {"complaint": {"type": "string", "pattern": r"^(\p{L}+)+$"}}}
    predict("$text", {"text": "x"}, schema)
    context = json.dumps(schema).encode()
    assert PREDICTIONS.read_answer(answer({"complaint": "é" * 5000}), context)
    with pytest.raises(OutputInvalid, match="breaks the rule 'pattern'"):
        PREDICTIONS.read_answer(answer({"complaint": "a" * 5000 + "!"}), context)


# -- ready bodies


def test_a_ready_body_is_passed_through_and_its_answer_kept_as_text() -> None:
    raw = job_types()["raw"]
    body = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
    assert raw.render_request(json.dumps({"body": body}).encode()) == RawRequest(body)
    assert raw.read_answer(Answer("succeeded", text="Yes.")).json == b'{"text":"Yes."}'
    with pytest.raises(Rejected, match="body: Value error, it holds a whole number of more than 64 bits"):
        raw.render_request(b'{"body": {"max_tokens": 1000000000000000000000000000000}}')


# -- prompt versions


def test_a_type_is_asked_with_its_newest_prompt_and_may_be_asked_with_another() -> None:
    class Two(type(SCORING)):  # type: ignore[misc]  # the class of the registered type
        prompts = {"1": "The first.", "2": "The second."}  # noqa: RUF012

    kind: JobType = Two()
    assert (kind.prompt_version, kind.system) == ("2", "The second.")
    assert (kind.at_version("1").system, kind.at_version(None), kind.at_version("2")) == ("The first.", kind, kind)
    with pytest.raises(Rejected, match="no prompt version '3'; there are 1, 2"):
        kind.at_version("3")

"""What is rendered quickly is, byte for byte, what the plain way renders: the adapter's dictionary through orjson."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nightbatch.core.errors import Rejected
from nightbatch.core.models import EmbeddingInput, Endpoint, Prompt, ProviderName, RawRequest, Request, Tool, Turn
from nightbatch.core.profiles import BUILT_IN
from nightbatch.job_types import job_types
from nightbatch.job_types.base import JobType
from nightbatch.providers import anthropic_requests, build, gemini_requests, openai_requests

LINES = {"openai": openai_requests.line, "anthropic": anthropic_requests.line, "gemini": gemini_requests.line}
ENDPOINTS: tuple[Endpoint, ...] = ("chat", "responses", "embeddings")

text = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["", "\ud800", "\0", '"', "\\", "a\r\nb", "\u2028", "🧪", "j1_a2", "nb-id", "nb-text", '{"model": 1}']
)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)
schema = st.sampled_from([kind.schema for kind in job_types().values()]) | st.dictionaries(text, text, max_size=3).map(
    lambda described: {"type": "object", "properties": {"a": {"type": "string"}}, "description": json.dumps(described)}
)
prompt = st.builds(
    Prompt,
    user=text,
    system=st.none() | text,
    schema=st.none() | schema,
    schema_name=st.sampled_from(["answer", "score"]),
    max_tokens=st.integers(1, 3) | st.booleans(),
    turns=st.just(()) | st.tuples(st.builds(Turn, role=st.sampled_from(["user", "assistant"]), text=text)),
    shared=st.none() | text | st.just("S" * 20_000),
    effort=st.sampled_from([None, "light", "none", "high"]),
    thinking_tokens=st.none() | st.integers(0, 5_000),
    temperature=st.sampled_from([None, None, 0.5]),
    tools=st.just(()) | st.tuples(st.builds(Tool, name=text, parameters=schema, description=text)),
    tool=st.sampled_from([None, "required", "a"]),
    cache=st.sampled_from(["auto", "off", "1h"]),
    provider_options=st.sampled_from([{}, {"openai": {"store": True}, "gemini": {"generationConfig": {"seed": 1}}}]),
)
request = (
    prompt
    | st.dictionaries(text | st.just("model"), json_value, min_size=1, max_size=4).map(RawRequest)
    | st.builds(
        EmbeddingInput, texts=st.lists(text, min_size=1, max_size=3).map(tuple), dimensions=st.none() | st.just(8)
    )
)


def plainly(provider: ProviderName, custom_id: str, model: str, endpoint: Endpoint, asked: Request) -> bytes | None:
    try:
        return orjson.dumps(LINES[provider](custom_id, model, endpoint, asked))
    except (Rejected, orjson.JSONEncodeError):
        return None


def quickly(provider: ProviderName, custom_id: str, model: str, endpoint: Endpoint, asked: Request) -> bytes | None:
    try:
        return build(provider, api_key="k", base_url="http://127.0.0.1:9").render(custom_id, model, endpoint, asked)
    except Rejected:
        return None


@pytest.fixture(autouse=True, scope="module")
def one_adapter_each() -> Any:
    """Making one takes longer than a hundred lines."""
    made = {provider: build(provider, api_key="k", base_url="http://127.0.0.1:9") for provider in BUILT_IN}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "build", lambda provider, **_: made[provider])
        yield


@pytest.mark.parametrize("provider", BUILT_IN)
@settings(max_examples=100, deadline=None)
@given(
    asked=st.lists(request, min_size=1, max_size=4),
    endpoint=st.sampled_from(ENDPOINTS),
    model=st.sampled_from(["m", 'a "model"', "é"]),
)
def test_a_line_is_the_one_that_the_plain_way_makes(
    provider: ProviderName, asked: list[Request], endpoint: Endpoint, model: str
) -> None:
    for number, one in enumerate([*asked, *asked], start=1):
        wanted = plainly(provider, f"j{number}_a2", model, endpoint, one)
        assert quickly(provider, f"j{number}_a2", model, endpoint, one) == wanted


@pytest.mark.parametrize("provider", BUILT_IN)
def test_a_schema_that_a_type_changes_in_place_is_sent_as_it_is_now(provider: ProviderName) -> None:
    shared = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    for least in (1, 2, 3):
        shared["minItems"] = least
        asked = Prompt(user="Hooks, please.", schema={"type": "object", "properties": {"hooks": shared}})
        line = quickly(provider, "j1_a2", "m", "chat", asked)
        assert line == plainly(provider, "j1_a2", "m", "chat", asked)


def test_more_kinds_of_prompts_than_are_remembered() -> None:
    for number in range(100):
        asked = Prompt(user=f"Text {number}", system=f"System {number % 70}")
        assert quickly("openai", "j1_a2", "m", "chat", asked) == plainly("openai", "j1_a2", "m", "chat", asked)


# -- ready bodies, which are read without pydantic


def told(kind: JobType, raw: bytes, *, quick: bool) -> str:
    """The request, or the reason for none. As text, in which a number that is none equals itself."""
    try:
        return repr(kind.render_request(raw) if quick else JobType.render_request(kind, raw))
    except Rejected as error:
        return f"Rejected: {error}"


@settings(max_examples=200, deadline=None)
@given(raw=st.dictionaries(text | st.just("body"), json_value, max_size=3).map(json.dumps) | json_value.map(json.dumps))
@example(raw='{"body":{"a":1e400}}')
@example(raw='{"body":{"a":-1e400,"b":NaN}}')
@example(raw='{"body":{"a":1,"a":2}}')
@example(raw='{"body":{"a":1},"body":{"b":2}}')
@example(raw='{"body":{}}')
@example(raw='{"body":{"a":123456789012345678901234567890}}')
@example(raw='{"body":{"a":"\\ud800"}}')
@example(raw='{"body":{"\\udc00":1}}')
@example(raw='{"\\u0062ody":{"a":"\\u0000"}}')
@example(raw='{\n "body" : {\r\n\t"a" : [ 1.50, 1E5, -0, -0.0, 1e-400 ] }, "x": 1 }')
@example(raw='{"body":{"a":1}}{')
@example(raw='{"body":null}')
@example(raw="null")
@example(raw='{"body":{"a":%s}}' % ("[" * 2000 + "]" * 2000))
def test_a_ready_body_is_read_as_pydantic_reads_it(raw: str) -> None:
    kind = job_types()["raw"]
    for given_as in (raw.encode("utf-8", "surrogatepass"), raw.encode("utf-16")):
        assert told(kind, given_as, quick=True) == told(kind, given_as, quick=False)


def test_a_type_made_from_raw_asks_in_its_own_way() -> None:
    class Polite(type(job_types()["raw"])):  # type: ignore[misc]  # the class of the registered type
        def request(self, job: Any) -> RawRequest:
            return RawRequest(job.body | {"please": True})

    assert Polite().render_request(b'{"body":{"a":1}}') == RawRequest({"a": 1, "please": True})

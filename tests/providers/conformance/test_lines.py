"""Result lines: nothing that a provider may send breaks the reading, and every line is accounted for once."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from importlib import import_module
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightbatch.core.errors import Transient
from nightbatch.core.models import ProviderName, ResultLine, UnreadableLine, Usage
from nightbatch.providers import plain
from nightbatch.providers.wire import lines
from tests.providers.bodies import Json, result_line
from tests.providers.loopback import Reply, Wire

_quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_WORDS = st.sampled_from(
    [
        *("custom_id", "key", "result", "response", "error", "type", "message", "content", "text", "usage", "code"),
        *("body", "status_code", "object", "choices", "output", "data", "candidates", "parts", "embedding", "values"),
        *("index", "usageMetadata", "promptTokenCount", "input_tokens", "prompt_tokens", "finish_reason", "status"),
        *("stop_reason", "finishReason", "incomplete_details", "promptFeedback"),
    ]
)
_ANYTHING = st.recursive(
    _LEAVES
    | st.sampled_from(["succeeded", "errored", "chat.completion", "response", "list", "message", "output_text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=3), inner, max_size=5),
    max_leaves=12,
)


def read(name: ProviderName, line: Json | bytes) -> ResultLine | UnreadableLine:
    """One line, without the download around it."""
    reader = import_module(f"nightbatch.providers.{name}_results")
    found: ResultLine | UnreadableLine = reader.read(line if isinstance(line, bytes) else json.dumps(line).encode())
    return found


def read_in_full(name: ProviderName, line: Json) -> ResultLine | UnreadableLine:
    """The way of every line that is not a plain success."""
    reader = import_module(f"nightbatch.providers.{name}_results")
    found: ResultLine | UnreadableLine = reader.read_in_full(json.dumps(line).encode())
    return found


def check_shape(line: ResultLine | UnreadableLine) -> None:
    """What a load relies on without looking."""
    if isinstance(line, UnreadableLine):
        return
    assert isinstance(line.custom_id, str)
    assert line.error is None or isinstance(line.error, str)
    if line.answer:
        assert line.answer.text is None or isinstance(line.answer.text, str)
        assert line.answer.finish_reason is None or isinstance(line.answer.finish_reason, str)
        (line.answer.text or "").encode()
    if line.billed:
        assert line.answer


@pytest.mark.fault(33)
@_quick
@given(line=_ANYTHING.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_no_line_whatsoever_breaks_the_reading(name: ProviderName, line: bytes) -> None:
    found = read(name, line)
    assert found.raw == line
    check_shape(found)


@pytest.mark.fault(33)
@settings(_quick, max_examples=250)
@given(data=st.data())
def test_a_line_that_is_wrong_in_one_place_is_read_or_kept(name: ProviderName, data: st.DataObject) -> None:
    """One value of a good line is replaced or taken away."""
    line = result_line(name, "j1_a1", "fine", Usage(10, 5, 3))
    paths = list(_paths(line))
    path = data.draw(st.sampled_from(paths))
    holder: Any = line
    for step in path[:-1]:
        holder = holder[step]
    if isinstance(holder, dict) and data.draw(st.booleans()):
        del holder[path[-1]]
    else:
        holder[path[-1]] = data.draw(_ANYTHING)
    found = read(name, line)
    check_shape(found)
    assert found == read_in_full(name, line)


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from _paths(inner, (*at, key))


def test_a_good_line_is_read(name: ProviderName) -> None:
    line = read(name, result_line(name, "j1_a1", "Grüße 🙂", Usage(10, 5, 3)))
    assert isinstance(line, ResultLine)
    assert (line.custom_id, line.outcome, line.billed, line.usage) == ("j1_a1", "succeeded", True, Usage(10, 5, 3))
    assert line.answer and line.answer.text == "Grüße 🙂"


@_quick
@given(
    text=st.text(min_size=1), usage=st.builds(Usage, st.integers(3, 2**31), st.integers(0, 2**31), st.integers(0, 3))
)
def test_a_plain_success_is_read_at_once_and_in_full_alike(name: ProviderName, text: str, usage: Usage) -> None:
    line = result_line(name, "j1_a1", text, usage)
    quick = getattr(plain, f"{name}_line")(json.dumps(line).encode())
    if max(usage.input_tokens, usage.output_tokens) < 2**31 and name != "openai":
        assert quick is not None
    assert quick is None or quick == read_in_full(name, line)


def test_a_plain_response_of_openai_is_read_at_once_with_or_without_thoughts() -> None:
    message = {"type": "message", "content": [{"type": "output_text", "text": "fine", "annotations": []}]}
    tokens = {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 3}}
    body = {"object": "response", "status": "completed", "model": "m", "usage": tokens, "incomplete_details": None}
    for output in ([message], [{"type": "reasoning", "summary": []}, message]):
        response = {"status_code": 200, "body": body | {"output": output}}
        line = {"custom_id": "j1_a1", "response": response, "error": None}
        quick = plain.openai_line(json.dumps(line).encode())
        assert quick is not None
        assert quick == read_in_full("openai", line)
        assert quick.usage == Usage(10, 5, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        {"status": "failed", "error": {"code": "server_error", "message": "no"}},
        {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]},
        {
            "output": [
                {"type": "web_search_call"},
                {"type": "message", "content": [{"type": "output_text", "text": "a"}]},
            ]
        },
        {"output": []},
        {"usage": None},
        {"usage": {"input_tokens": 3, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}},
        {"model": 5},
    ],
)
def test_any_other_response_of_openai_is_read_in_full(change: Json) -> None:
    message = {"type": "message", "content": [{"type": "output_text", "text": "fine"}]}
    tokens = {"input_tokens": 10, "output_tokens": 5}
    body = {"object": "response", "status": "completed", "model": "m", "usage": tokens, "output": [message]} | change
    line = {"custom_id": "j1_a1", "response": {"status_code": 200, "body": body}}
    assert plain.openai_line(json.dumps(line).encode()) is None
    assert read("openai", line) == read_in_full("openai", line)


def test_lines_that_are_known_are_left_out(wire: Wire) -> None:
    """A second download brings what was lost in the first, and is not read again for the rest."""
    first, second = (json.dumps(result_line(wire.name, f"j{n}_a1", "fine", Usage(1, 1))).encode() for n in (1, 2))
    got = wire.results(first + b"\n" + second, known={hash(first)})
    assert [line.custom_id for line in got if isinstance(line, ResultLine)] == ["j2_a1"]
    assert wire.results(first + b"\n" + second, known={hash(first), hash(second)}) == []


@_quick
@given(text=st.text(min_size=1).filter(str.strip))
def test_the_text_of_an_answer_comes_through(name: ProviderName, text: str) -> None:
    line = read(name, result_line(name, "j1_a1", text, Usage(1, 1)))
    assert isinstance(line, ResultLine) and line.answer
    assert line.answer.text == text


@pytest.mark.parametrize("text", ["cut \ud83d", "\ude42 whole 🙂", "\ud83d\ud83d\ude42"])
def test_half_a_character_does_not_lose_a_paid_answer(name: ProviderName, text: str) -> None:
    """JSON may hold it, as in an answer cut inside an emoji; neither orjson nor Postgres takes it."""
    raw = json.dumps(result_line(name, "j1_a1", text, Usage(10, 5))).encode()
    line = read(name, raw)
    assert isinstance(line, ResultLine) and line.answer and line.answer.text
    assert (line.custom_id, line.billed, line.usage) == ("j1_a1", True, Usage(10, 5))
    assert line.answer.text == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\ufffd", "?")
    assert line.raw == raw


def test_a_last_line_with_half_a_character_and_no_break_is_whole(wire: Wire) -> None:
    raw = json.dumps(result_line(wire.name, "j1_a1", "cut \ud83d", Usage(10, 5))).encode()
    (line,) = wire.results(raw)
    assert isinstance(line, ResultLine)


@pytest.mark.fault(29)
def test_duplicates_come_twice_and_in_order(wire: Wire) -> None:
    """Which of them counts is the load's to say."""
    first, second = (result_line(wire.name, "j1_a1", text, Usage(1, 1)) for text in ("one", "two"))
    got = wire.results(b"\n".join(json.dumps(line).encode() for line in (first, second, first)))
    assert [line.answer.text for line in got if isinstance(line, ResultLine) and line.answer] == ["one", "two", "one"]


@pytest.mark.parametrize("gap", [b"", b"\n", b"\r\n", b"  \n\n"])
def test_blank_lines_and_other_line_ends_are_no_lines(wire: Wire, gap: bytes) -> None:
    raw = json.dumps(result_line(wire.name, "j1_a1", "fine", Usage(1, 1))).encode()
    got = wire.results(gap + raw + b"\r\n" + gap + raw + gap)
    assert [type(line) for line in got] == [ResultLine, ResultLine]


@pytest.mark.fault(32)
def test_a_stream_that_ends_inside_a_line_is_cut_short(wire: Wire) -> None:
    raw = json.dumps(result_line(wire.name, "j1_a1", "fine", Usage(1, 1))).encode()
    got = wire.iter_results(iter([raw + b"\n" + raw[:-5]]))
    assert isinstance(next(got), ResultLine)
    with pytest.raises(Transient):
        list(got)


@pytest.mark.parametrize("empty", [b"", b"\n"])
def test_a_download_of_nothing_has_no_lines(wire: Wire, empty: bytes) -> None:
    assert wire.results(empty) == []


def test_results_are_streamed(wire: Wire) -> None:
    """40 MB pass through with a few MB of memory, for a batch may hold gigabytes."""
    raw = json.dumps(result_line(wire.name, "j1_a1", "x" * 400_000, Usage(1, 1))).encode() + b"\n"
    got = wire.iter_results(iter([raw] * 100))
    next(got)
    tracemalloc.start()
    try:
        assert sum(1 for _ in got) == 99
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()


def test_a_reader_that_is_given_up_leaves_the_client_usable(wire: Wire) -> None:
    raw = json.dumps(result_line(wire.name, "j1_a1", "fine", Usage(1, 1))).encode() + b"\n"
    got = wire.iter_results(raw * 50)
    next(got)
    del got
    assert len(wire.results(raw)) == 1


@pytest.mark.fault(32)
def test_a_download_that_loses_its_last_bytes_is_cut_short(wire: Wire) -> None:
    raw = json.dumps(result_line(wire.name, "j1_a1", "fine", Usage(1, 1))).encode() + b"\n"
    with pytest.raises(Transient):
        wire.results(Reply(raw, short=1))
    with pytest.raises(Transient, match="middle of a line"):
        wire.results(raw[:-9])


@given(st.lists(st.binary(min_size=1, max_size=30).map(lambda raw: raw.hex().encode()), max_size=20), st.data())
def test_lines_do_not_depend_on_how_a_download_was_cut(whole: list[bytes], data: st.DataObject) -> None:
    text = b"".join(line + b"\r\n\n" for line in whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert [line.strip() for line in lines(chunks)] == whole


@pytest.mark.fault(32)
@pytest.mark.parametrize("cut", range(1, 8))
def test_a_last_line_that_was_cut_is_never_taken_for_whole(cut: int) -> None:
    with pytest.raises(Transient):
        list(lines([b'{"a":1}\n{"b":22}'[:-cut]]))


def test_a_last_line_needs_no_line_break() -> None:
    assert list(lines([b'{"a":1}\n{"b', b'":2}'])) == [b'{"a":1}', b'{"b":2}']


@pytest.mark.fault(34)
@pytest.mark.parametrize("count", [None, -1, "5", 2**40, 1.5, True, [5], {}])
def test_a_count_of_tokens_that_cannot_be_makes_the_usage_unknown(name: ProviderName, count: Any) -> None:
    """Of the input or of the output; the answer stays an answer."""
    for place in range(2):
        line = result_line(name, "j1_a1", "fine", Usage(10, 5))
        usage = usage_in(name, line)
        usage[[key for key in usage if "cach" not in key and "details" not in key][place]] = count
        found = read(name, line)
        assert isinstance(found, ResultLine)
        expected = None if not (name == "gemini" and count is None and place) else Usage(10, 0)
        assert (found.outcome, found.usage) == ("succeeded", expected)


@pytest.mark.fault(34)
@pytest.mark.parametrize("usage", [None, {}])
def test_a_usage_that_is_not_there_is_unknown(name: ProviderName, usage: Any) -> None:
    line = result_line(name, "j1_a1", "fine", Usage(10, 5))
    holder = {"openai": ["response", "body"], "anthropic": ["result", "message"], "gemini": ["response"]}[name]
    at: Any = line
    for key in holder:
        at = at[key]
    at["usageMetadata" if name == "gemini" else "usage"] = usage
    found = read(name, line)
    assert isinstance(found, ResultLine)
    assert (found.outcome, found.billed, found.usage) == ("succeeded", True, None)


def usage_in(name: ProviderName, line: Json) -> Json:
    """Where a line says what it cost."""
    if name == "openai":
        return cast(Json, line["response"]["body"]["usage"])
    return cast(Json, line["result"]["message"]["usage"] if name == "anthropic" else line["response"]["usageMetadata"])

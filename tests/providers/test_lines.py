"""Result lines: nothing that a provider may send breaks the reading, and every line is accounted for once."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightbatch.errors import Transient
from nightbatch.models import ProviderName, ResultLine, UnreadableLine, Usage
from tests.providers.bodies import Json, expired_line, result_line
from tests.providers.loopback import Wire

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
    reader = import_module(f"nightbatch.providers.{name}")
    found: ResultLine | UnreadableLine = reader._read(line if isinstance(line, bytes) else json.dumps(line).encode())
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


@_quick
@given(line=_ANYTHING.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_no_line_whatsoever_breaks_the_reading(name: ProviderName, line: bytes) -> None:
    found = read(name, line)
    assert found.raw == line
    check_shape(found)


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
    check_shape(read(name, line))


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


def test_openai_reads_both_files(wires: dict[ProviderName, Wire]) -> None:
    wire = wires["openai"]
    good, late = result_line("openai", "j1_a1", "fine", Usage(1, 1)), expired_line("j2_a1")
    got = wire.results(json.dumps(good).encode() + b"\n", json.dumps(late).encode())
    assert [(line.custom_id, line.outcome) for line in got if isinstance(line, ResultLine)] == [
        ("j1_a1", "succeeded"),
        ("j2_a1", "expired"),
    ]

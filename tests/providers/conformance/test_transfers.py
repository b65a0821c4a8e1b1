"""Uploads and downloads: streamed, and resumed where they broke off."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from nightbatch.core.errors import Transient
from nightbatch.core.models import ResultLine, Usage, custom_id
from tests.providers.bodies import DOWNLOADS, error_body, result_line
from tests.providers.lab import Lab, ids, texts
from tests.providers.loopback import Reply, Wire

TAG = '"a1"'


@pytest.mark.fault(32)
def test_a_download_that_breaks_off_goes_on_from_there(lab: Lab) -> None:
    batch_id = lab.send(*texts(6))
    lab.end(batch_id)
    lab.fault(DOWNLOADS[lab.name], "truncate")
    assert ids(lab.lines(batch_id)) == [custom_id(number, 7, None) for number in range(1, 7)]
    deadline = time.monotonic() + 10  # the emulator writes its log once an answer is sent
    while (seen := lab.posts(DOWNLOADS[lab.name])) != [200, 206]:
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)


def body(wire: Wire) -> bytes:
    """Three result lines."""
    lines = (result_line(wire.name, custom_id(number, 7, None), "fine", Usage(5, 5)) for number in (1, 2, 3))
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def cut(whole: bytes, at: int, **headers: str) -> Reply:
    """A download that ends too early."""
    return Reply(whole, headers={"content-type": "text/plain", "etag": TAG, **headers}, short=len(whole) - at)


def rest(whole: bytes, start: int, **headers: str) -> Reply:
    """The part from a byte on."""
    told = {"content-range": f"bytes {start}-{len(whole) - 1}/{len(whole)}", "etag": TAG, **headers}
    return Reply(whole[start:], 206, {"content-type": "text/plain", **told})


def test_the_rest_is_asked_for_with_the_validator_and_joined_in_the_middle_of_a_line(wire: Wire) -> None:
    whole = body(wire)
    found = wire.results(cut(whole, 100), rest(whole, 100), b"")
    assert [line.custom_id for line in found if isinstance(line, ResultLine)] == [
        custom_id(n, 7, None) for n in (1, 2, 3)
    ]
    (asked,) = (seen.headers.lower() for seen in wire.server.seen if "range: bytes" in seen.headers.lower())
    assert "range: bytes=100-" in asked and f"if-range: {TAG}" in asked


def test_a_download_breaks_off_twice(wire: Wire) -> None:
    whole = body(wire)
    second = rest(whole, 100)
    second.short = len(whole) - 200
    assert len(wire.results(cut(whole, 100), second, rest(whole, 200), b"")) == 3


@pytest.mark.parametrize(
    "answer",
    [
        lambda whole: Reply(whole, headers={"content-type": "text/plain", "etag": TAG}),
        lambda whole: rest(whole, 100, etag='"another"'),
        lambda whole: rest(whole, 99),
        lambda whole: rest(whole, 100, **{"content-range": f"bytes 100-{len(whole)}/{len(whole) + 1}"}),
        lambda whole: rest(whole, 100, **{"content-range": ""}),
        lambda whole: Reply(status=416),
    ],
    ids=["from the beginning", "another file", "another start", "another length", "no range", "nothing there"],
)
def test_a_rest_that_does_not_fit_is_not_taken(wire: Wire, answer: Any) -> None:
    whole = body(wire)
    with pytest.raises(Transient):
        wire.results(cut(whole, 100), answer(whole), b"")


def test_a_416_in_the_providers_words_is_no_verdict_on_the_batch(wire: Wire) -> None:
    whole = body(wire)
    with pytest.raises(Transient):
        wire.results(cut(whole, 100), Reply(error_body(wire.name, 416), 416), b"")


def test_a_download_of_unknown_length_is_not_resumed(wire: Wire) -> None:
    def chunks() -> Iterator[bytes]:
        yield body(wire)[:100]
        raise ConnectionResetError

    with pytest.raises(Transient):
        wire.results(Reply(chunks()), rest(body(wire), 100), b"")
    assert not any("range: bytes" in seen.headers.lower() for seen in wire.server.seen)


def test_a_large_input_never_stands_in_memory_whole(lab: Lab) -> None:
    """40 MB; Gemini's pieces are 8 MB."""
    submission, path = lab.job(["z" * (1 << 20)] * 40)
    tracemalloc.start()
    try:
        lab.provider.upload(submission, path)
        if lab.name == "anthropic":
            lab.provider.submit(submission, path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_a_large_output_never_stands_in_memory_whole(wire: Wire) -> None:
    line = json.dumps(result_line(wire.name, custom_id(1, 7, None), "z" * (1 << 20), Usage(5, 5))).encode() + b"\n"

    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield line

    tracemalloc.start()
    try:
        count = sum(1 for _ in wire.iter_results(Reply(chunks()), b""))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert count == 40


@pytest.mark.parametrize("name", ["gemini"])  # the others have no uploads that could be resumed
def test_an_upload_goes_on_after_a_broken_piece(lab: Lab) -> None:
    submission, path = lab.job(["z" * (1 << 20) for _ in range(20)])
    before = len(lab.emulator.log())
    for fault in ("reset", "lose_answer", "error_after"):
        lab.emulator.fault("gemini", "file_upload", fault, after_matches=2)
        name = lab.provider.upload(submission, path)
        assert name
        lab.emulator.control("DELETE", "faults")
    uploads = [seen["fault"] for seen in lab.emulator.log()[before:] if seen["operation"] == "file_upload"]
    assert [fault for fault in uploads if fault] == ["reset", "lose_answer", "error_after"]
    lab.end(lab.provider.submit(*lab.uploaded(["One."])))


@pytest.mark.parametrize("name", ["gemini"])
def test_an_upload_whose_last_answer_is_lost_has_arrived(lab: Lab) -> None:
    submission, path = lab.job(["One."])
    lab.emulator.fault("gemini", "file_upload", "lose_answer", after_matches=1)
    assert lab.provider.upload(submission, path)

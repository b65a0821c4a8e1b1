"""What may be asked about a video, and what never leaves the house or is fetched from it (fault 54)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightbatch.core.errors import Rejected
from nightbatch.core.models import Answer, Media, Prompt
from nightbatch.job_types import job_types
from nightbatch.job_types.base import OutputInvalid

VIDEO = job_types()["video_analysis"]
FILES = "https://generativelanguage.googleapis.com/v1beta/files/"
WATCH = "https://www.youtube.com/watch?v="
GOOD: dict[str, Any] = {
    "summary": "A cup fills by itself.",
    "scenes": [{"start_seconds": 0, "end_seconds": 2.5, "description": "A dark kitchen."}],
    "hook": {"score": 8, "reason": "The light goes on by itself."},
    "on_screen_text": ["Wake up."],
    "brand": {"visible": True, "first_seen_seconds": 2.0, "score": 6},
    "call_to_action": None,
    "answer": None,
    "verdict": "run",
    "verdict_reason": "It holds.",
}


def asked(**job: Any) -> Prompt:
    request = VIDEO.render_request(json.dumps(job).encode())
    assert isinstance(request, Prompt)
    return request


@pytest.mark.parametrize(
    ("uri", "sent"),
    [
        ("files/abc-123", f"{FILES}abc-123"),
        (f"{FILES}abc", f"{FILES}abc"),
        ("https://generativelanguage.googleapis.com/v1/files/abc", f"{FILES}abc"),
        (f"{WATCH}dQw4w9WgXcQ", f"{WATCH}dQw4w9WgXcQ"),
        (f"{WATCH}dQw4w9WgXcQ&t=42s", f"{WATCH}dQw4w9WgXcQ"),
        ("https://youtu.be/dQw4w9WgXcQ?si=x", f"{WATCH}dQw4w9WgXcQ"),
        ("https://youtube.com/shorts/dQw4w9WgXcQ", f"{WATCH}dQw4w9WgXcQ"),
    ],
)
def test_a_reference_that_gemini_opens_is_sent_in_one_form(uri: str, sent: str) -> None:
    assert asked(uri=uri).media == (Media(uri=sent),)


HOSTILE = [
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://127.0.0.1:8080/files/a",
    "http://localhost/files/abc",
    "http://[::1]/files/abc",
    "http://10.0.0.7/a.mp4",
    "https://example.com/a.mp4",
    "https://generativelanguage.googleapis.com.evil.com/v1beta/files/abc",
    "https://generativelanguage.googleapis.com@127.0.0.1/v1beta/files/abc",
    "https://evil.com/?https://generativelanguage.googleapis.com/v1beta/files/abc",
    "http://generativelanguage.googleapis.com/v1beta/files/abc",
    "https://generativelanguage.googleapis.com:8080/v1beta/files/abc",
    "https://generativelanguage.googleapis.com/v1beta/models/x",
    f"{FILES}../models/x",
    f"{FILES}abc/../../x",
    f"{FILES}abc?key=1",
    f"{FILES}abc#x",
    f"{FILES}{'a' * 41}",
    "files/",
    "files/../x",
    "files/ABC",
    "files/abc\n",
    "files/abc\u0000",
    "files/ａｂｃ",
    " files/abc",
    "gs://bucket/a.mp4",
    "file:///etc/passwd",
    "ftp://youtube.com/watch?v=dQw4w9WgXcQ",
    "http://www.youtube.com/watch?v=dQw4w9WgXcQ",
    "https://www.youtube.com.evil.com/watch?v=dQw4w9WgXcQ",
    "https://www.youtube.com@evil.com/watch?v=dQw4w9WgXcQ",
    "https://www.youtube.com/redirect?q=http://10.0.0.1",
    f"{WATCH}dQw4w9WgXcQ\n",
    f"{WATCH}dQw4w9WgXcQ&u=http://10.0.0.1/",
    "https://youtu.be/short",
    "data:video/mp4;base64,AAAA",
    "javascript:alert(1)",
    "",
]


@pytest.mark.parametrize("provider", sorted(VIDEO.models))
@pytest.mark.parametrize("uri", HOSTILE)
def test_every_other_address_is_rejected_before_anything_is_sent(provider: str, uri: str) -> None:
    with pytest.raises(Rejected, match=r"^uri: Value error, only a file of Gemini's Files API") as caught:
        asked(uri=uri)
    assert "169.254" not in str(caught.value)


@given(st.text(max_size=120) | st.from_regex(r"https?://[a-z0-9.@:/?=-]{1,60}", fullmatch=True))
def test_what_is_sent_on_is_a_file_of_gemini_or_a_video_of_youtube(uri: str) -> None:
    try:
        (media,) = asked(uri=uri).media
    except Rejected:
        return
    assert media.uri is not None and media.path is None
    assert re.fullmatch(re.escape(FILES) + r"[a-z0-9-]{1,40}|" + re.escape(WATCH) + r"[\w-]{11}", media.uri, re.ASCII)


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ({}, "input: Value error, give one of file, frames and uri"),
        ({"file": "a", "uri": "files/a"}, "input: Value error, give one of file, frames and uri"),
        ({"file": "a", "frames": ["b"]}, "input: Value error, give one of file, frames and uri"),
        ({"frames": []}, "frames: List should have at least 1 item"),
        ({"frames": ["a"] * 101}, "frames: List should have at most 100 items"),
        ({"frames": ["a", ""]}, "frames.1: String should have at least 1 character"),
        ({"file": "n" * 1025}, "file: String should have at most 1024 characters"),
        ({"file": "a", "fps": 0}, "fps: Input should be greater than 0"),
        ({"file": "a", "fps": 25}, "fps: Input should be less than or equal to 24"),
        ({"file": "a", "fps": "NaN"}, "fps: Input should be"),
        ({"uri": "files/a", "mime_type": "text/html"}, "mime_type: String should match pattern"),
        ({"uri": "files/a", "mime_type": "video/mp4; x"}, "mime_type: String should match pattern"),
        ({"uri": "files/a", "mime_type": "video/mp4\n"}, "mime_type: String should match pattern"),
    ],
)
def test_a_bad_input_is_rejected_with_the_field(job: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        asked(**job)
    assert str(caught.value).startswith(reason)


def test_frames_keep_their_order_and_the_model_is_told_how_far_apart_they_are() -> None:
    prompt = asked(frames=["b.png", "a.png"], fps=0.5, language="German", question="Who is it for?")
    assert prompt.media == (Media(path="b.png"), Media(path="a.png"))
    assert "The 2 images are frames of one video in their order, one every 2 seconds." in prompt.user
    assert "language: German" in prompt.user and "Question: Who is it for?" in prompt.user


def test_a_video_is_looked_at_as_often_as_the_job_says() -> None:
    assert asked(file="a.mp4", fps=3).media == (Media(path="a.mp4", fps=3),)
    assert asked(uri="files/a", mime_type="video/mp4", fps=3).media == (
        Media(uri=f"{FILES}a", mime_type="video/mp4", fps=3),
    )


@given(name=st.text(min_size=1, max_size=200), question=st.text(max_size=200))
def test_any_name_and_question_reach_the_request_as_they_came(name: str, question: str) -> None:
    try:
        prompt = asked(file=name, question=question)
    except Rejected as rejected:  # half a character
        assert "surrogate" in str(rejected) or "JSON" in str(rejected)
        return
    assert prompt.media == (Media(path=name),)
    assert question in prompt.user


def test_an_answer_that_fits_is_read_whole() -> None:
    read = VIDEO.read_answer(Answer("succeeded", text=json.dumps(GOOD)))
    assert json.loads(read.json) == GOOD


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"hook": {"score": 11, "reason": "x"}}, "hook.score"),
        ({"verdict": "maybe"}, "verdict"),
        ({"scenes": [{"start_seconds": -1, "end_seconds": 2, "description": "x"}]}, "scenes.0.start_seconds"),
        ({"brand": {"visible": True, "score": 3}}, "brand.first_seen_seconds"),
        ({"on_screen_text": "canary"}, "on_screen_text"),
    ],
)
def test_an_answer_that_does_not_fit_names_the_place(change: dict[str, Any], where: str) -> None:
    with pytest.raises(OutputInvalid, match=f"the answer does not fit: {where}: ") as caught:
        VIDEO.read_answer(Answer("succeeded", text=json.dumps(GOOD | change)))
    assert "canary" not in str(caught.value)

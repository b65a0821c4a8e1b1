"""What a file is by its first bytes, and where it may go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightbatch.core.errors import Rejected
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN, profiles
from nightbatch.jobs.media_types import HEAD_BYTES, LocalFile, goes_inside, in_base64, kind_of
from tests.samples import mp4, png


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (png(), "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0AVI LIST", "video/avi"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        (b"ID3\x04\0", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (b"OggS\0\x02", "audio/ogg"),
        (mp4(), "video/mp4"),
        (b"\0\0\0\x14ftypqt  ", "video/mov"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "video/mov"),
        (b"\0\0\0\x14ftyp3gp5", "video/3gpp"),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"\0\0\0\x18ftypavif", None),
        (b"\0\0\0\x18ftypM4A ", None),
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\x01B\x82\x84webm", "video/webm"),
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x82\x88matroska", None),
        (b"\0\0\x01\xba", "video/mpeg"),
        (b"FLV\x01", "video/x-flv"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6", "video/wmv"),
        (b"", None),
        (b"#!/bin/sh", None),
        (b"<svg xmlns=", None),
        (b"%PDF-1.7", "application/pdf"),
        (b"%!PS-Adobe", None),
    ],
)
def test_the_first_bytes_tell_the_kind_whatever_the_name(head: bytes, kind: str | None) -> None:
    assert kind_of(head[:HEAD_BYTES]) == kind


@given(st.binary(max_size=HEAD_BYTES))
def test_any_bytes_are_a_kind_that_some_provider_takes_or_none(head: bytes) -> None:
    media = [facts.media for facts in profiles().values()]
    taken = set().union(*(rules.images | rules.videos | rules.others for rules in media))
    assert kind_of(head) in {None, *taken}


def files(count: int, size: int, kind: str = "image/png") -> list[LocalFile]:
    return [LocalFile(f"/m/{number}", kind, size) for number in range(count)]


@pytest.mark.parametrize("provider", BUILT_IN)
def test_images_go_inside_as_long_as_they_fit(provider: ProviderName) -> None:
    assert goes_inside(provider, files(100, 100_000))
    assert goes_inside(provider, [])


def test_what_does_not_fit_is_uploaded_or_rejected_with_size_and_limit() -> None:
    assert not goes_inside("gemini", files(100, 1_000_000))
    assert not goes_inside("gemini", files(1, 100, "video/mp4"))
    assert not goes_inside("gemini", [*files(1, 100), *files(1, 100, "video/mp4")])
    for provider, given_files, reason in (
        ("openai", files(100, 1_000_000), "the images have 133333600 bytes as base64; OpenAI takes 48000000"),
        ("anthropic", files(1, 6_000_000), "an image has 6000000 bytes; Anthropic takes 5000000"),
        ("gemini", files(1, 3_000_000_000, "video/mp4"), "the file has 3000000000 bytes; Gemini takes 2000000000"),
        ("openai", files(1, 9, "video/mp4"), "OpenAI cannot watch videos: give frames"),
        ("anthropic", files(1, 9, "image/heic"), "Anthropic takes no image/heic"),
        ("gemini", files(1, 9, "image/gif"), "Gemini takes no image/gif"),
    ):
        with pytest.raises(Rejected, match=f"^{reason}"):
            goes_inside(provider, given_files)


@given(st.binary(max_size=1000))
def test_the_length_of_base64_is_known_beforehand(body: bytes) -> None:
    import base64

    assert in_base64(len(body)) == len(base64.b64encode(body))

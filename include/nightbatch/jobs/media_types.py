"""What videos, images, documents and sounds each provider takes, and how: pure decisions on kind and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightbatch.core.errors import Rejected
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import profile

HEAD_BYTES = 64
"""How many bytes at the beginning of a file tell its kind."""

_STARTS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"\x00\x00\x01\xba": "video/mpeg",
    b"\x00\x00\x01\xb3": "video/mpeg",
    b"FLV\x01": "video/x-flv",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "video/wmv",
    b"%PDF-": "application/pdf",
    b"ID3": "audio/mpeg",
    b"fLaC": "audio/flac",
    b"OggS": "audio/ogg",
}
_RIFF = {b"WEBP": "image/webp", b"AVI ": "video/avi", b"WAVE": "audio/wav"}
# The first 11 bits of a frame of MPEG sound, layer III: https://www.rfc-editor.org/rfc/rfc3003
_MP3 = (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa")
# What ISO files are called inside: https://mp4ra.org/registered-types/brands
_BRANDS = {
    b"heic": "image/heic", b"heix": "image/heic", b"hevc": "image/heic", b"mif1": "image/heif", b"msf1": "image/heif",
    b"qt  ": "video/mov", b"avif": None, b"avis": None, b"M4A ": None, b"M4B ": None,
}  # fmt: skip
_OLD_MOVIE = (b"moov", b"mdat", b"wide", b"free")  # QuickTime from before it had brands


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of the media folder; ``size`` in bytes."""

    path: str
    mime_type: str
    size: int


def kind_of(head: bytes) -> str | None:
    """Return the MIME type by a file's first `HEAD_BYTES`, in the words of Gemini's documentation; None for other kinds."""
    for start, kind in _STARTS.items():
        if head.startswith(start):
            return kind
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "video/webm" if b"webm" in head else None
    if head[4:8] == b"ftyp":
        return "video/3gpp" if head[8:11] in (b"3gp", b"3g2") else _BRANDS.get(head[8:12], "video/mp4")
    if head.startswith(_MP3):
        return "audio/mpeg"
    return "video/mov" if head[4:8] in _OLD_MOVIE else None


def in_base64(size: int) -> int:
    """Return how long so many bytes are as base64."""
    return (size + 2) // 3 * 4


def goes_inside(provider: ProviderName, files: Sequence[LocalFile]) -> bool:
    """Return whether a request carries these files itself; else they are uploaded. Raises `Rejected` for what it cannot take."""
    title, rules = profile(provider).title, profile(provider).media
    for file in files:
        if file.mime_type.startswith("video/") and not rules.videos:
            raise Rejected(f"{title} cannot watch videos: give frames")
        if file.mime_type not in rules.images | rules.videos | rules.others:
            raise Rejected(f"{title} takes no {file.mime_type}")
    whole = sum(in_base64(file.size) for file in files)
    largest = max((file.size for file in files), default=0)
    image = max((file.size for file in files if file.mime_type in rules.images), default=0)
    still = not any(file.mime_type in rules.videos for file in files)
    if still and whole <= rules.inside and image <= rules.image:
        return True
    if rules.file:
        if largest > rules.file:
            raise Rejected(f"the file has {largest} bytes; {title} takes {rules.file}")
        return False
    if image > rules.image:
        raise Rejected(f"an image has {image} bytes; {title} takes {rules.image}")
    what = "images" if image == largest else "files"
    raise Rejected(f"the {what} have {whole} bytes as base64; {title} takes {rules.inside} in a request")

"""Look at images and videos as a provider does: whether they are any, and how long they run."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from pathlib import Path

from nightbatch_local.emulator.errors import ApiError

_HEAD, _TAIL = 1 << 16, 1 << 20
_BYTES_PER_SECOND = 250_000  # two megabits a second, for a video that does not say how long it is
_IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_VIDEOS = (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"FLV\x01", b"\x30\x26\xb2\x75")
_ISO_VIDEOS = (b"ftyp", b"moov", b"mdat", b"wide", b"free")


def decoded(data: object, message: str, *, code: str | None = None) -> bytes:
    """Return the bytes behind base64. Raises `ApiError` 400 with the message."""
    try:
        if isinstance(data, str) and data:
            return binascii.a2b_base64(data.encode(), strict_mode=True)
    except ValueError:
        pass
    raise ApiError(400, message, code=code)


def picture(digest: str) -> str:
    """Return a PNG of one pixel, in base64; its colour follows from the digest."""
    pixel = zlib.compress(b"\0" + bytes.fromhex(digest[:6]))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)), (b"IDAT", pixel), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def image_type(body: bytes) -> str | None:
    """Return the MIME type by the first bytes, None for what is no image."""
    for start, kind in _IMAGES.items():
        if body.startswith(start):
            return kind
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    return "image/heic" if body[4:8] == b"ftyp" and body[8:12] in (b"heic", b"heix", b"mif1") else None


def is_video(path: Path) -> bool:
    """Return whether the file begins as a video does; an MP4 without the box that says what is in it cannot be played."""
    head = _head(path)
    if head[4:8] in _ISO_VIDEOS:
        return b"moov" in head or b"moov" in _tail(path)
    return head.startswith(_VIDEOS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def video_seconds(path: Path) -> float:
    """Return the length by the movie header of an MP4 (ISO 14496-12, `mvhd`) if it is near the beginning, else by the size."""
    head = _head(path)
    at = head.find(b"mvhd")
    wide = at >= 0 and head[at + 4 : at + 5] == b"\x01"  # version 1 has times of 64 bits
    scale_at = at + (24 if wide else 16)
    scale = int.from_bytes(head[scale_at : scale_at + 4], "big")
    ticks = int.from_bytes(head[scale_at + 4 : scale_at + (12 if wide else 8)], "big")
    return ticks / scale if at >= 0 and scale else path.stat().st_size / _BYTES_PER_SECOND


def _head(path: Path) -> bytes:
    with path.open("rb") as body:
        return body.read(_HEAD)


def _tail(path: Path) -> bytes:
    with path.open("rb") as body:
        body.seek(max(0, path.stat().st_size - _TAIL))
        return body.read()

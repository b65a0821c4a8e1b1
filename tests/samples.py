"""Small videos and images, made by code: no binary file stands in the repository."""

from __future__ import annotations

from nightbatch_local.demo.media import box, mp4, png

__all__ = ["broken_mp4", "mp4", "png"]


def broken_mp4() -> bytes:
    """What begins as an MP4 and lacks the box that says what is in it."""
    return box(b"ftyp", b"isom\0\0\2\0isommp41") + box(b"mdat", b"cut")

"""Make small pictures and videos by code: the demo downloads nothing, and no binary file stands in the repository."""

from __future__ import annotations

import struct
import zlib
from random import Random


def png(width: int = 4, height: int = 4, *, seed: int = 0) -> bytes:
    """Return a whole PNG of noise; about three bytes a pixel, since noise does not shrink."""
    noise = Random(seed)
    rows = b"".join(b"\0" + noise.randbytes(width * 3) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def mp4(seconds: int = 10, *, seed: int = 0, size: int = 64) -> bytes:
    """Return an MP4 of a little more than ``size`` bytes, without tracks.

    Its header says how long it is; another ``seed`` makes another one.
    """
    times = struct.pack(">IIIIII", 0, 0, 0, 1000, seconds * 1000, 0x00010000)
    rest = struct.pack(">H10x9I24xI", 0x0100, 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000, 1)
    movie = box(b"moov", box(b"mvhd", times + rest))
    return box(b"ftyp", b"isom\0\0\2\0isommp41") + movie + box(b"mdat", Random(seed).randbytes(size))


def box(name: bytes, body: bytes) -> bytes:
    """Return one box of an MP4: its length, its name, what is in it."""
    return struct.pack(">I", len(body) + 8) + name + body

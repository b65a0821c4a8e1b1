"""Folders that go with the tests, in memory where it has room: most tests make a database and drop it again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30  # bytes; a container has 64 MB there if nobody asked for more


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of a short name, for a socket's path has little room; nothing of it outlasts the block."""
    folder = Path(tempfile.mkdtemp(prefix=f"nb-{os.getpid()}-", dir=_in_memory()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_memory() -> Path | None:
    """None is the system's folder for temporary files."""
    if not os.access(_MEMORY, os.W_OK | os.X_OK):
        return None
    for folder in _MEMORY.glob("nb-[0-9]*-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[1])):  # its process was killed
            shutil.rmtree(folder, ignore_errors=True)
    return _MEMORY if shutil.disk_usage(_MEMORY).free > _ROOM else None

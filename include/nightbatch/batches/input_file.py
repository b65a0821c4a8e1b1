"""Write the input file of an attempt to disk, and keep the folder where it lies private."""

from __future__ import annotations

import hashlib
import os
import stat
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import IO, Self

from xxhash import xxh3_64_digest as line_hash

from nightbatch.core.errors import ConfigurationError

__all__ = ["InputFile", "line_hash", "private_folder"]

# Bytes. The thread waits up to 5 ms for its turn: a smaller chunk would be full again before the last one is written.
_CHUNK = 1 << 21


def private_folder(path: Path) -> Path:
    """Make the folder, unless it is there, and return it.

    Raises `ConfigurationError` where another user of the machine could read what lies in it, or put another file in its
    place between the rendering and the upload.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found, above = path.lstat(), path.parent.stat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise _not_private(path, "it is a link, or belongs to another user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise _not_private(path, f"others may look into it: chmod 700 {path}")
    if above.st_uid not in (0, os.getuid()) or (above.st_mode & 0o022 and not above.st_mode & stat.S_ISVTX):
        raise _not_private(path, f"others may rename it, since {path.parent} is theirs too")
    return path


def _not_private(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The folder {path} is not used for input files, which hold prompts: {why}. NIGHTBATCH_WORK_DIR names another one."
    )


class InputFile:
    """Writes the lines of a file from its beginning: a thread hashes and writes a chunk while the next one fills.

    ``size`` counts the bytes of all lines, and ``hashes`` holds eight bytes of each; ``sha256`` is set, and the file complete,
    once the context has ended without an error.
    Whatever the thread raises, as for a full disk, is raised by `add` or at the end.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.size = 0
        self.hashes = bytearray()
        self.sha256 = ""
        self._file = file
        self._digest = hashlib.sha256()
        self._filling, self._full = BytesIO(), BytesIO()
        self._thread = ThreadPoolExecutor(1, "input-file")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        self._file.seek(0)
        self._file.truncate()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._thread:  # waits for what it has begun
            if kind is None:
                self._hand_over()
                self._wait()
                self._file.flush()
                self.sha256 = self._digest.hexdigest()

    def add(self, line: bytes) -> None:
        """Add a line, which comes without its line break."""
        self._filling.write(line)
        self._filling.write(b"\n")
        self.hashes += line_hash(line)
        self.size += len(line) + 1
        if self._filling.tell() > _CHUNK:
            self._hand_over()

    def _hand_over(self) -> None:
        self._wait()
        self._filling, self._full = self._full, self._filling
        self._writing = self._thread.submit(self._write, self._full)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write(self, chunk: BytesIO) -> None:
        with chunk.getbuffer() as memory, memory[: chunk.tell()] as lines:
            self._digest.update(lines)
            self._file.write(lines)
        chunk.seek(0)

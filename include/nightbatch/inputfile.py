"""The input file of an attempt on its way to disk."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from typing import IO, Self

# Bytes. The thread waits up to 5 ms for its turn: a smaller chunk would be full again before the last one is written.
_CHUNK = 1 << 21


class InputFile:
    """Lines of one file, from its beginning. A thread hashes and writes a chunk while the next one fills.

    ``size`` counts the bytes of all lines; ``sha256`` is there, and the file whole, once the context has ended well.
    Whatever the thread raises, as for a full disk, is raised by `add` or at the end.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.size = 0
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
        """A line without its line break."""
        self._filling.write(line)
        self._filling.write(b"\n")
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

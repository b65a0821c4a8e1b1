"""The input file: what is written, its hash, and what happens when the disk does not take it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO, cast

import pytest

from nightbatch.batches import input_file
from nightbatch.batches.input_file import InputFile, line_hash


@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
def test_the_file_holds_every_line_and_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(input_file, "_CHUNK", chunk)
    lines = [b"x" * (number % 97) for number in range(300)]
    wanted = b"".join(line + b"\n" for line in lines)
    path = tmp_path / "input.jsonl"
    with path.open("wb") as file:
        for _ in range(2):  # the second time in place of the first
            with InputFile(file) as written:
                for line in lines:
                    written.add(line)
            assert path.read_bytes() == wanted
            assert (written.size, written.sha256) == (len(wanted), hashlib.sha256(wanted).hexdigest())
            assert written.hashes == b"".join(map(line_hash, lines)) and len(written.hashes) == 8 * len(lines)


def test_no_lines_are_an_empty_file(tmp_path: Path) -> None:
    with (tmp_path / "input.jsonl").open("wb") as file, InputFile(file) as written:
        pass
    assert (written.size, written.sha256) == (0, hashlib.sha256(b"").hexdigest())


@pytest.mark.parametrize("count", [1, 5000])
def test_a_full_disk_is_told(count: int) -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as file,
        pytest.raises(OSError, match="No space"),
        InputFile(cast("IO[bytes]", _Unbounded(file))) as written,
    ):
        for _ in range(count):
            written.add(b"x" * 1000)
    assert not written.sha256


class _Unbounded:
    """/dev/full cannot be truncated; a file on a full disk can."""

    def __init__(self, file: object) -> None:
        self._file = file

    def __getattr__(self, name: str) -> object:
        return (lambda *_: None) if name in ("seek", "truncate") else getattr(self._file, name)

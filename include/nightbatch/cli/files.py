"""Write the files of commands whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from nightbatch.cli.output import Misuse


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a file that stands under its name only when all of it is written. Raises `Misuse` where it cannot be written.

    What is no file, such as ``/dev/stdout``, is written as it comes.
    """
    special = path.exists() and not path.is_file()
    target = path if special else path.resolve()
    draft = path if special else target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with draft.open("w" if special else "x", encoding="utf-8", newline="") as file:
            yield file
        if not special:
            draft.replace(target)
    except OSError as error:
        raise Misuse(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        if not special:
            draft.unlink(missing_ok=True)


def format_of(path: Path | None, wanted: str | None, endings: dict[str, str], otherwise: str) -> str:
    """Return the format that was asked for, else the one that the file's name says. Raises `Misuse` when it says none."""
    if wanted is not None or path is None:
        return wanted or otherwise
    found = endings.get(path.suffix.lower())
    if found is None:
        raise Misuse(f"{path.name} does not say its format: end it with {', '.join(endings)}, or give --format.")
    return found

"""Somebody who types commands, in a pipe or at a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys

NIGHTBATCH = [sys.executable, "-m", "nightbatch.cli"]
SECONDS = 240


def environment(dsn: str, **more: str) -> dict[str, str]:
    """Nothing of whoever runs the tests decides what is shown."""
    theirs = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    kept = {name: text for name, text in os.environ.items() if name not in theirs}
    return kept | {"NIGHTBATCH_DSN": dsn, "TERM": "xterm-256color", **more}


def piped(dsn: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """With nobody to ask."""
    return subprocess.run(
        [*NIGHTBATCH, *words], env=environment(dsn, **more), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip


def at_terminal(dsn: str, *words: str, typed: str = "", **more: str) -> tuple[int, str]:
    """The exit code, and everything that came on a screen of 100 columns."""
    mine, theirs = pty.openpty()
    if typed:
        os.write(mine, typed.encode())
    begun = subprocess.Popen(
        [*NIGHTBATCH, *words], env=environment(dsn, COLUMNS="100", LINES="30", **more),
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while select.select([mine], [], [], SECONDS)[0]:
            shown += os.read(mine, 65_536)
    except OSError:
        pass  # the command has ended, and the terminal with it
    finally:
        os.close(mine)
    return begun.wait(SECONDS), shown.decode().replace("\r\n", "\n")

"""Keep the billing log: one JSON line per charged request, copied from the billing table."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from sqlite3 import Row

import orjson

from nightbatch_local.emulator.state import State

_AT_ONCE = 20_000
_NOT_SHOWN = ("seq", "line")


class BillingLog:
    """Writes the billing log on from what the state says was written.

    The row that says so is committed after the lines. A crash between the two leaves lines that the next start cuts
    off and writes again, so none is doubled and none is lost.
    """

    def __init__(self, state: State, path: Path) -> None:
        self._state = state
        self._path = path
        self._key = str(path.resolve())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def catch_up(self) -> bool:
        """Copy what is new; return False if nothing was."""
        seq, length = self._written()
        rows = self._state.db.execute("SELECT * FROM billing WHERE seq > ? ORDER BY seq LIMIT ?", (seq, _AT_ONCE))
        new = rows.fetchall()
        if not new:
            return False
        with self._path.open("r+b") as log:
            log.truncate(length)
            log.seek(length)
            log.write(b"".join(_line(row) for row in new))
            log.flush()
            os.fsync(log.fileno())
            length = log.tell()
        self._state.db.execute("INSERT OR REPLACE INTO export VALUES (?, ?, ?)", (self._key, new[-1]["seq"], length))
        return True

    def _written(self) -> tuple[int, int]:
        row = self._state.db.execute("SELECT seq, bytes FROM export WHERE path = ?", (self._key,)).fetchone()
        # a log that somebody has removed begins again
        return (row["seq"], row["bytes"]) if row and self._path.stat().st_size >= row["bytes"] else (0, 0)


def billing_rows(state: State, account: str | None) -> Iterable[dict[str, object]]:
    """Return all charged requests, or one account's, as they stand in the log."""
    if account is None:
        rows = state.db.execute("SELECT * FROM billing ORDER BY seq")
    else:
        rows = state.db.execute("SELECT * FROM billing WHERE account = ? ORDER BY seq", (account,))
    return map(_shown, rows)


def _shown(row: Row) -> dict[str, object]:
    shown = {key: row[key] for key in row.keys() if key not in _NOT_SHOWN}  # noqa: SIM118 (a Row iterates its values)
    return shown | {"units": orjson.loads(row["units"])}


def _line(row: Row) -> bytes:
    return orjson.dumps(_shown(row), option=orjson.OPT_APPEND_NEWLINE)

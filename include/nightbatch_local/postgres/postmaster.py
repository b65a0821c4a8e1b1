"""Find the process behind a data folder by what it is and not by a number in a file."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

_PID_FILE = "postmaster.pid"


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A running server. ``ready`` is whether it takes connections yet."""

    process: psutil.Process
    port: int
    ready: bool

    @classmethod
    def of(cls, data_dir: Path) -> Self | None:
        """Return the server of a folder, or None. A pid alone proves nothing: it may have been given to another program.

        Raises `PermissionError` for a folder of another user.
        """
        try:
            lines = (data_dir / _PID_FILE).read_text().splitlines()
        except FileNotFoundError:
            return None
        if len(lines) < 4 or not lines[3].strip():
            return None
        process = server_process(int(lines[0]), data_dir)
        if process is None:
            return None
        # Line 4 is the port, line 8 the status that pg_ctl waits for (pg_ctl.c, utils/pidfile.h).
        return cls(process, port=int(lines[3]), ready=len(lines) > 7 and lines[7].strip() == "ready")

    def stop(self) -> None:
        """Stop the server: fast (clients are cut off), then immediate, then by force."""
        for how, seconds in ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            with suppress(psutil.NoSuchProcess):
                self.process.send_signal(how)
                _wait(self.process, seconds)
            if not _alive(self.process):
                return


def server_process(pid: int, data_dir: Path) -> psutil.Process | None:
    """Return the process, if it is a postgres that works in this folder; every one of a server's processes does."""
    try:
        process = psutil.Process(pid)
        if process.name() == "postgres" and process.cwd() == str(data_dir) and _alive(process):
            return process
    except psutil.Error:
        pass  # gone, or of another user: not a server that we could talk to
    return None


def clear_away_the_dead(data_dir: Path) -> None:
    """End what is left of a server after a kill -9, then remove its pid file.

    Postgres itself would refuse to start if the pid had been given to any other program since.
    """
    stale = data_dir / _PID_FILE
    if not stale.exists():
        return
    left = [process for process in psutil.process_iter() if server_process(process.pid, data_dir) is not None]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)
    stale.unlink(missing_ok=True)


def _alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _wait(process: psutil.Process, seconds: float) -> None:
    """Wait until a process ended, though it may stay a zombie: in a container often nobody reaps the children of the dead."""
    deadline = time.monotonic() + seconds
    while _alive(process) and time.monotonic() < deadline:
        with suppress(psutil.TimeoutExpired):
            process.wait(0.05)

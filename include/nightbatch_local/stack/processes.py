"""Start, find and stop the processes of one stack.

Every process is started with the stack's folder and its component's name in its environment, and hands both down to
all it starts, however they regroup themselves. A pid file could name a program that was given the pid since; a process
group would miss Airflow's tasks, which make groups of their own.

Airflow makes a worker that runs a task, and the task, non-dumpable (``_make_process_nondumpable`` of its supervisor):
from then on only root can read their environment. Those are known by their session, which is the one of the component's
leader, dead or alive. So the leaders are written down, in ``sessions``, until nothing of their component is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_ROOT = "NIGHTBATCH_STACK_ROOT"
_COMPONENT = "NIGHTBATCH_STACK_COMPONENT"
_LINGER_SECONDS = 2.0


def spawn(root: Path, component: str, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a component in a session of its own, writing to its log."""
    log_file = log_path(root, component)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    tags = {
        _ROOT: str(root),
        _COMPONENT: component,
        "SPT_NOENV": "1",  # setproctitle, which Airflow calls, would else write over the environment that we read
    }
    with log_file.open("ab") as log:
        leader = subprocess.Popen(
            command,
            cwd=root,
            env={**env, **tags},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _remember(root, component, leader.pid)
    return leader


def log_path(root: Path, component: str) -> Path:
    """Return where a component writes its log."""
    return root / "logs" / f"{component}.log"


def last_lines(root: Path, component: str, count: int = 15) -> str:
    """Return the end of a component's log."""
    with suppress(FileNotFoundError):
        return "\n".join(log_path(root, component).read_text(errors="replace").splitlines()[-count:])
    return "(no log)"


def running(root: Path) -> dict[str, list[psutil.Process]]:
    """Return the live processes of each component that runs, its leader first. Orphans of a dead leader do not count."""
    return {name: group for name, group in _groups(root).items() if _leads(group[0])}


def kill(root: Path, components: Collection[str]) -> None:
    """Send SIGKILL until no process of the components is left: one may start another while we look."""
    while doomed := [process for component, process in _tagged(root) if component in components]:
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, timeout=0.1)
    for component in components:
        _sessions_file(root, component).unlink(missing_ok=True)


def stop(root: Path, components: Collection[str], *, patience: float = 10.0) -> None:
    """Ask the leaders to finish (SIGINT), then everybody (SIGTERM), then kill. ``patience`` is in seconds.

    `airflow` leaves orphans after SIGTERM alone; SIGINT is the signal on which it ends its children. It mostly fails
    to notice their end and waits 10 s: a leader that has lost them all and still lingers is not waited for.
    """
    began = time.monotonic()
    alone_since: dict[int, float] = {}
    _signal([group[0] for name, group in running(root).items() if name in components], signal.SIGINT)
    while groups := [group for name, group in _groups(root).items() if name in components]:
        now = time.monotonic()
        if now - began > patience:
            left = [process for group in groups for process in group]
            _signal(left, signal.SIGTERM)
            psutil.wait_procs(left, timeout=3)
            break
        alone = [group[0] for group in groups if len(group) == 1]
        _signal([p for p in alone if now - alone_since.setdefault(p.pid, now) > _LINGER_SECONDS], signal.SIGKILL)
        time.sleep(0.05)
    kill(root, components)


def _groups(root: Path) -> dict[str, list[psutil.Process]]:
    found: dict[str, list[psutil.Process]] = {}
    for component, process in _tagged(root):
        found.setdefault(component, []).append(process)
    for group in found.values():
        group.sort(key=lambda process: not _leads(process))
    return found


def _tagged(root: Path) -> Iterator[tuple[str, psutil.Process]]:
    wanted, sessions = str(root), _sessions(root)
    for process in psutil.process_iter():
        try:
            env = process.environ()
        except (psutil.AccessDenied, PermissionError):
            env = {}
        except (psutil.Error, OSError):
            continue  # gone, or a zombie
        if not env:  # also of one just started: Linux tells `spawn` of the exec before the environment is set
            if component := _by_session(process, sessions):
                yield component, process
        elif env.get(_ROOT) == wanted and _COMPONENT in env and process.pid != os.getpid():
            yield env[_COMPONENT], process


def _by_session(process: psutil.Process, sessions: Mapping[int, tuple[str, float]]) -> str | None:
    """Return the component of a process of ours whose environment cannot be read; None if it is of none.

    Linux gives no process the id of a session that still has members, so a leader's id means that leader's session as
    long as any of them lives; a session that was made later under the same id has a leader younger than the record.
    """
    with suppress(psutil.Error, OSError):
        if process.status() == psutil.STATUS_ZOMBIE:  # its environment cannot be read either
            return None
        session = os.getsid(process.pid)
        component, began = sessions.get(session, (None, 0.0))
        if component and process.uids().real == os.getuid() and not _is_another(session, began):
            return component
    return None


def _is_another(leader: int, began: float) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(leader).create_time() != began
    return False


def _sessions_file(root: Path, component: str) -> Path:
    return root / "sessions" / component


def _remember(root: Path, component: str, leader: int) -> None:
    with suppress(psutil.NoSuchProcess):
        began = psutil.Process(leader).create_time()
        path = _sessions_file(root, component)
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(f"{leader} {began}\n")


def _sessions(root: Path) -> dict[int, tuple[str, float]]:
    """Return component and start of each leader, by its id."""
    found = {}
    for path in (root / "sessions").glob("*"):
        with suppress(FileNotFoundError):
            for leader, began in map(str.split, path.read_text().splitlines()):
                found[int(leader)] = (path.name, float(began))
    return found


def _leads(process: psutil.Process) -> bool:
    with suppress(ProcessLookupError):
        return os.getsid(process.pid) == process.pid
    return False


def _signal(processes: list[psutil.Process], how: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(how)

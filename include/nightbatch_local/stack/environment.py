"""Make the environment of every Airflow process of a stack: configuration, secrets and connections, no file to edit."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from nightbatch.core.profiles import profile
from nightbatch_local.stack.credentials import USERS, Secrets
from nightbatch_local.stack.ports import Ports

PROJECT = Path(__file__).parents[3]
AIRFLOW_SETTINGS = str(Path(__file__).with_name("airflow_settings"))
EMULATOR_KEY = "emu-local"
_EMULATOR_PATHS = {"openai": "/openai/v1", "anthropic": "/anthropic", "gemini": "/gemini"}
KEYS = {name: profile(name).key_variables[0] for name in _EMULATOR_PATHS}
_NOT_INHERITED = ("AIRFLOW_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "PG", "PYTHON", "NIGHTBATCH_")
"""Whatever the caller's shell holds of these would reach into the stack, a real key first of all."""

_QUICK = {
    # A person watches: Airflow's own pauses are made for big installations.
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
    # A task's slot stays taken until the next beat after its end, which Airflow's supervisor mostly fails to notice.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "5",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "2",
}
_QUICK_FOR_THE_EMULATOR = {
    # Its batches take seconds, not hours, and nobody counts how often it is asked.
    "NIGHTBATCH_POLL_SECONDS": "1",
    "NIGHTBATCH_POLL_MAX_SECONDS": "2",
    "NIGHTBATCH_SETTLE_SECONDS": "5",
    "NIGHTBATCH_CREATE_SECONDS": "30",
}


def airflow_environment(
    root: Path,
    *,
    dags: Path,
    ports: Ports,
    secrets: Secrets,
    airflow_dsn: str,
    nightbatch_dsn: str,
    settings: Mapping[str, str],
) -> dict[str, str]:
    """Return everything that Airflow's processes and command line need.

    ``settings`` is what the user gave, in ``.env``: it wins, and the keys in it become connections.
    """
    home = root / "airflow"
    url = f"http://127.0.0.1:{ports.api}"
    metadata = airflow_dsn.replace("postgresql:", "postgresql+psycopg:", 1)
    return {
        **base_environment(home),
        **_QUICK,
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": AIRFLOW_SETTINGS,
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",  # the default of 32 starts 44 processes
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__TRIGGERER__CAPACITY": "10000",  # waits at once; the default is 1,000, and a list answers for many
        "AIRFLOW__CORE__MAX_MAP_LENGTH": "10000",  # batches of one provider in one night; the default is 1,024
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",  # getfqdn waits where no name server answers
        "AIRFLOW__CORE__FERNET_KEY": secrets.fernet_key,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": metadata,  # psycopg speaks both; asyncpg would be one more
        "AIRFLOW__DATABASE__CHECK_MIGRATIONS": "False",  # by every process, though the stack has just migrated
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(ports.api),
        "AIRFLOW__API__SECRET_KEY": secrets.session_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.jwt_secret,
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__LOGGING__UVICORN_LOGGING_LEVEL": "WARNING",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        **(_QUICK_FOR_THE_EMULATOR if len(emulated(settings)) == len(KEYS) else {}),
        "NIGHTBATCH_WORK_DIR": str(root / "work"),
        "NIGHTBATCH_REPORT_DIR": str(root / "reports"),
        **_connections(ports, nightbatch_dsn, settings),
        **{name: value for name, value in settings.items() if name not in KEYS.values()},
        **_allowed_hosts(settings),
    }


def read_env_file(path: Path | None) -> dict[str, str]:
    """Read the lines of a ``.env`` that have a value; nothing if there is no such file."""
    return {name: value for name, value in dotenv_values(path).items() if value} if path and path.exists() else {}


def emulated(settings: Mapping[str, str]) -> list[str]:
    """Return the providers without a real key."""
    return [name for name, variable in KEYS.items() if not settings.get(variable)]


def base_environment(home: Path) -> dict[str, str]:
    """Return the caller's environment without what does not belong here, and with what a bare one lacks."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    path = [str(Path(sys.executable).parent), kept.get("PATH", "/usr/local/bin:/usr/bin:/bin")]
    direct = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1", "localhost"]))
    return {
        "HOME": str(home),
        "LOGNAME": "nightbatch",  # for getpass.getuser() where the uid has no account
        "LANG": "C.UTF-8",
        **kept,
        "PATH": os.pathsep.join(path),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PYTHONUNBUFFERED": "1",
    }


def _connections(ports: Ports, nightbatch_dsn: str, settings: Mapping[str, str]) -> dict[str, str]:
    parts = urlsplit(nightbatch_dsn)
    database = {
        "conn_type": "postgres",
        "host": parts.hostname,
        "port": parts.port,
        "login": parts.username,
        "password": parts.password,
        "schema": parts.path.lstrip("/"),
    }
    connections = {"nightbatch_db": database} | {f"{name}_default": _provider(name, ports, settings) for name in KEYS}
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()}


def _allowed_hosts(settings: Mapping[str, str]) -> dict[str, str]:
    """Name the emulator's address as an allowed host: it is a local one, which a base URL may not lead to otherwise."""
    name = "NIGHTBATCH_ALLOWED_HOSTS"
    return {name: ",".join(filter(None, ["127.0.0.1", settings.get(name)]))} if emulated(settings) else {}


def _provider(name: str, ports: Ports, settings: Mapping[str, str]) -> dict[str, object]:
    if key := settings.get(KEYS[name]):
        return {"conn_type": name, "password": key}
    host = f"http://127.0.0.1:{ports.emulator}{_EMULATOR_PATHS[name]}"
    return {"conn_type": name, "password": EMULATOR_KEY, "host": host}

"""The compose file, as far as it can be checked without a Docker engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from nightbatch.core.ledger import RunParams
from nightbatch.postgres.migrate import migrate
from nightbatch.postgres.store import open_store
from nightbatch_local.postgres.embedded import EmbeddedPostgres, binaries
from tests.scratch import scratch

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
# `$$` is a dollar sign for the container's own shell.
VARIABLES = re.findall(r"(?<!\$)\$\{(\w+)(:[?-][^}]*)?\}", TEXT)


def test_it_follows_the_compose_specification() -> None:
    schema = json.loads((Path(__file__).parent / "data" / "compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(COMPOSE)


def test_every_part_that_a_service_names_is_defined() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in COMPOSE["volumes"], name
        # Compose refuses inline configs and secrets from the environment in containers that are read-only.
        assert "secrets" not in service, name
        assert "configs" not in service, name


def test_every_path_that_the_image_copies_exists() -> None:
    dockerfile = COMPOSE["x-airflow"]["build"]["dockerfile_inline"]
    copied = [path for line in re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE) for path in line.split()[:-1]]
    assert copied
    assert [path for path in copied if not (ROOT / path).exists()] == []


def test_every_variable_stands_in_the_example() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    names = {name for name, _ in VARIABLES}
    assert [name for name in sorted(names) if not re.search(rf"^(# )?{name}=", example, re.MULTILINE)] == []


def test_no_password_and_no_key_has_a_default() -> None:
    secret = [(name, rest) for name, rest in VARIABLES if re.search("PASSWORD|KEY|SECRET", name)]
    assert len(secret) > 8
    assert [name for name, rest in secret if not rest.startswith(":?")] == []
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        assert not re.match(r"\w*(PASSWORD|KEY|SECRET)\w*=.", line), line


def test_every_published_port_is_on_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] not in ("root", "0", "0:0")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("name", ["api-server", "scheduler", "dag-processor", "triggerer", "postgres"])
def test_every_lasting_service_tells_its_health(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_airflow_and_nightbatch_never_share_a_database() -> None:
    environment = SERVICES["scheduler"]["environment"]
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].endswith("/airflow")
    assert environment["NIGHTBATCH_DSN"].endswith("/nightbatch")


SECRETS = {
    "postgres": {"POSTGRES_PASSWORD"},
    "databases": {"POSTGRES_PASSWORD", "AIRFLOW_DB_PASSWORD", "NIGHTBATCH_DB_PASSWORD", "NIGHTBATCH_WORKER_DB_PASSWORD"},
    "init": {"AIRFLOW_FERNET_KEY", "AIRFLOW_DB_PASSWORD", "NIGHTBATCH_DB_PASSWORD"},
    "api-server": {
        "AIRFLOW_FERNET_KEY", "AIRFLOW_DB_PASSWORD", "NIGHTBATCH_WORKER_DB_PASSWORD", "AIRFLOW_JWT_SECRET",
        "AIRFLOW_API_SECRET_KEY", "AIRFLOW_PASSWORDS",
    },
    "scheduler": {
        "AIRFLOW_FERNET_KEY", "AIRFLOW_DB_PASSWORD", "NIGHTBATCH_WORKER_DB_PASSWORD", "AIRFLOW_JWT_SECRET",
        "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY",
    },
    "triggerer": {
        "AIRFLOW_FERNET_KEY", "AIRFLOW_DB_PASSWORD", "NIGHTBATCH_WORKER_DB_PASSWORD",
        "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY",
    },
    "dag-processor": {"AIRFLOW_FERNET_KEY", "AIRFLOW_DB_PASSWORD"},
}  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_the_secrets_that_it_needs_and_no_other(name: str) -> None:
    told = json.dumps(SERVICES[name])
    given = {variable for variable, _ in VARIABLES if re.search("PASSWORD|KEY|SECRET", variable)}
    assert {variable for variable in given if f"${{{variable}:" in told} == SECRETS[name]


def test_the_tasks_are_the_worker_and_only_migrations_are_the_owner() -> None:
    users = {
        name: service["environment"]["NIGHTBATCH_DSN"].removeprefix("postgresql://").partition(":")[0]
        for name, service in SERVICES.items()
        if "NIGHTBATCH_DSN" in service["environment"]
    }
    assert users.pop("init") == "nightbatch"
    assert set(users.values()) == {"nightbatch_worker"}


def test_what_makes_the_databases_can_be_repeated_and_its_roles_suffice() -> None:
    """The script's own SQL, on a server without any of it: the owner migrates, and the worker opens the ledger."""
    script = SERVICES["databases"]["entrypoint"][2].replace("$$", "$")
    passwords = {"AIRFLOW_DB_PASSWORD": "a1", "NIGHTBATCH_DB_PASSWORD": "n1", "NIGHTBATCH_WORKER_DB_PASSWORD": "w1"}
    with scratch() as folder, EmbeddedPostgres(folder / "data", fsync=False, die_with_parent=True) as server:
        there = {"PATH": f"{binaries()}:{os.environ['PATH']}", "PGHOST": "127.0.0.1", "PGPORT": str(server.port)}
        password = conninfo_to_dict(server.dsn())["password"]
        for _ in range(2):
            subprocess.run(
                ["sh", "-euc", script],
                env=there | passwords | {"PGUSER": "postgres", "PGPASSWORD": str(password)},
                check=True,
                capture_output=True,
            )
        migrate(make_conninfo(server.dsn("nightbatch"), user="nightbatch", password="n1"))
        with open_store(make_conninfo(server.dsn("nightbatch"), user="nightbatch_worker", password="w1")) as store:
            assert store.start_run("r1", None, RunParams())
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                store.connection.execute("CREATE TABLE nightbatch.x (i integer)")


def test_every_command_that_it_runs_exists() -> None:
    script = "\n".join(SERVICES["init"]["command"])
    assert "nightbatch migrate" in script
    for pool in ("openai", "anthropic", "gemini"):
        assert pool in script

"""The application as Airflow's api-server mounts it, with Airflow's own login, and a real Postgres behind it."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

# Before the first import of Airflow, which makes its home where it is told; the tests of the Dags may have said so before.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="nightbatch-airflow-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__API_AUTH__JWT_SECRET", secrets.token_hex(32))

from tests.use_cases.conftest import World, emulator, world

__all__ = ["World", "emulator", "world"]

ROLES = ("viewer", "user", "op", "admin")


@pytest.fixture(scope="session")
def airflow_app() -> FastAPI:
    """An application like the api-server's, with nothing but our part mounted."""
    from airflow import settings
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.models import import_all_models
    from airflow.models.base import Base

    from nightbatch.web.app import create_app

    import_all_models()  # type: ignore[no-untyped-call]
    Base.metadata.create_all(settings.get_engine())  # type: ignore[no-untyped-call]
    app = FastAPI()
    init_auth_manager(app)
    app.mount("/batch", create_app())
    return app


@pytest.fixture(scope="session")
def tokens(airflow_app: FastAPI) -> dict[str, str]:
    """A token for each of Airflow's roles."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    manager = get_auth_manager()
    return {
        role: manager.generate_jwt(SimpleAuthManagerUser(username=f"a-{role}", role=role.upper())) for role in ROLES
    }


class Client(TestClient):
    """As somebody: `client.as_("viewer").get(...)`."""

    tokens: dict[str, str]

    def as_(self, role: str | None) -> Client:
        """The same client, logged in so; None logs out."""
        self.headers.pop("authorization", None)
        if role:
            self.headers["authorization"] = f"Bearer {self.tokens[role]}"
        return self


@pytest.fixture
def client(airflow_app: FastAPI, tokens: dict[str, str], dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Logged in as one who may run the Dag."""
    monkeypatch.setenv("NIGHTBATCH_DSN", dsn)
    with Client(airflow_app, base_url="http://testserver/batch/", raise_server_exceptions=False) as found:
        found.tokens = tokens
        yield found.as_("op")


@pytest.fixture
def served(airflow_app: FastAPI, client: Client) -> Iterator[str]:
    """The same application behind a real server, for what a test client would do otherwise; its URL."""
    config = uvicorn.Config(airflow_app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/batch/"
        server.should_exit = True
        thread.join(10)

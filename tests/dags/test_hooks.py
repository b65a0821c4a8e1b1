"""From connections to the store and the providers."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.sdk import Connection

from nightbatch.airflow.hooks import database_dsn, postgres_dsn, provider_for, store
from nightbatch.core.errors import ConfigurationError, Transient


@pytest.fixture(autouse=True)
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("AIRFLOW_CONN_") or name == "NIGHTBATCH_DSN":
            monkeypatch.delenv(name)


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def test_a_dsn_from_a_connection_carries_every_part_even_odd_ones() -> None:
    connection = Connection(
        conn_id="nightbatch_db",
        conn_type="postgres",
        host="/run/postgres",
        port=5433,
        login="o'connor",
        password="p@ss/w+rd ?&=",
        schema="night batch",
        extra=json.dumps({"sslmode": "verify-full", "sslrootcert": "/ca.pem", "cursor": "dictcursor", "iam": False}),
    )
    dsn = postgres_dsn(connection)
    assert "+" not in dsn, "libpq takes a plus sign as it is"
    assert {name: values[0] for name, values in parse_qs(urlsplit(dsn).query).items()} == {
        "host": "/run/postgres",
        "port": "5433",
        "user": "o'connor",
        "password": "p@ss/w+rd ?&=",
        "dbname": "night batch",
        "sslmode": "verify-full",
        "sslrootcert": "/ca.pem",
    }


def test_libpq_reads_the_dsn_as_it_was_meant() -> None:
    from psycopg.conninfo import conninfo_to_dict

    connection = Connection(conn_id="db", conn_type="postgres", host="::1", login="a b", password="%+ü", schema="d")
    assert conninfo_to_dict(postgres_dsn(connection)) == {
        "host": "::1",
        "user": "a b",
        "password": "%+ü",
        "dbname": "d",
    }


def test_the_environments_dsn_goes_before_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "nightbatch_db", conn_type="postgres", host="one")
    assert database_dsn() == "postgresql://?host=one"
    monkeypatch.setenv("NIGHTBATCH_DSN", "postgresql://two")
    assert database_dsn() == "postgresql://two"


def test_a_missing_connection_says_what_to_create() -> None:
    with pytest.raises(ConfigurationError, match=r"airflow connections add nightbatch_db --conn-type postgres"):
        database_dsn()
    with pytest.raises(ConfigurationError, match=r"no Airflow connection 'gemini_default'.*--conn-type gemini"):
        provider_for("gemini")


def test_a_connection_without_a_key_says_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "openai_default", conn_type="openai")
    with pytest.raises(ConfigurationError, match=r"'openai_default' has no key: put it into the password"):
        provider_for("openai")


def test_a_database_that_does_not_answer_may_only_be_restarting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBATCH_DSN", "postgresql://127.0.0.1:1/nightbatch")
    with pytest.raises(Transient, match="cannot be reached"), store():
        pass

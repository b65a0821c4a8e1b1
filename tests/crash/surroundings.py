"""Worlds that are not ours, in which the same lives are led and the same bill judges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from nightbatch.batches import home, recovery
from nightbatch.job_types import job_types
from nightbatch.postgres.store import open_store
from nightbatch.providers import build
from tests.crash import life
from tests.crash.life import Place

PLAIN = "plain"
MEANINGS = {
    PLAIN: "the embedded server, as it comes",
    "pgbouncer": "PgBouncer between, in transaction mode",
    "hostile settings": "a database whose settings are all others",
    "second installation": "another ledger on the same accounts, which numbers its jobs and attempts alike",
    "restored": "the ledger is put back to the moment before the first life",
    "gateway": "a gateway forwards the create, and answers it by itself",
}

HOSTILE = {
    "default_transaction_isolation": "serializable", "synchronous_commit": "off", "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard", "TimeZone": "Asia/Kathmandu", "bytea_output": "escape", "search_path": "",
    "statement_timeout": "40ms", "lock_timeout": "5ms", "idle_in_transaction_session_timeout": "40ms",
    "standard_conforming_strings": "off", "transform_null_equals": "on", "extra_float_digits": "-5", "enable_seqscan": "off",
}  # fmt: skip
CALM = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c standard_conforming_strings=on"


def make_hostile(admin: psycopg.Connection[Any], database: str) -> None:
    """Give a database settings that nobody would choose, and that nobody has to."""
    for name, value in HOSTILE.items():
        admin.execute(f"ALTER DATABASE {database} SET {name} = '{value}'")


def gateways() -> list[dict[str, Any]]:
    """What a gateway may answer after it has forwarded a create."""
    return [
        {"operation": "batch_create", "fault": "gateway_after", "status": 503},
        {"operation": "batch_create", "fault": "gateway_after", "status": 502},
        {"operation": "batch_create", "fault": "gateway_after", "status": 404},
        {"operation": "batch_create", "fault": "gateway_after", "status": 200},
        {"operation": "batch_create", "fault": "error_after"},
        {"operation": "batch_create", "fault": "lose_answer"},
    ]


def make_installation(dsn: str) -> None:
    """Make a copied template a ledger of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE nightbatch.installation SET id = left(replace(gen_random_uuid()::text, '-', ''), 8)")


@contextmanager
def backup(admin: psycopg.Connection[Any], dsn: str) -> Iterator[str]:
    """Copy a database for a while; the DSN of the copy."""
    copy = back_up(admin, dsn)
    try:
        yield copy
    finally:
        admin.execute(f"DROP DATABASE {copy.rpartition('/')[2]} WITH (FORCE)")


def back_up(admin: psycopg.Connection[Any], dsn: str) -> str:
    """Copy a database as it stands, at home where it is; the DSN of the copy."""
    server, _, database = dsn.rpartition("/")
    with open_store(dsn) as store:
        home.require(store)
    admin.execute(f"CREATE DATABASE {database}_backup TEMPLATE {database} STRATEGY FILE_COPY")
    return f"{server}/{database}_backup"


def come_home(place: Place) -> None:
    """Do what a person does after a restore, until nothing of before runs any more."""
    provider = build(place.provider, api_key=f"emu-{place.account}", base_url=place.base_url)
    with open_store(place.dsn) as store:
        home.say(store, "restored", by="the stage", reason="The disk died.")
        for _ in range(500):
            recovery.recover(store, lambda _: provider, job_types(), life.SETTINGS)
            if store.connection.execute("SELECT nightbatch.displaced() IS NULL").fetchone() == (True,):
                return
    raise AssertionError("it does not come home")

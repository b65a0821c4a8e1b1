"""Each role does its own work, all of it, and cannot stop another's."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from nightbatch.batches import recovery, retention
from nightbatch.core.profiles import BUILT_IN
from nightbatch.job_types import job_types
from nightbatch.jobs.cancelling import cancel_jobs
from nightbatch.postgres import media
from nightbatch.postgres.store import Store, open_store
from nightbatch.reporting import alerts
from tests.use_cases.conftest import World


@contextmanager
def login(dsn: str, role: str) -> Iterator[str]:
    """The DSN of somebody who has this role and no other right."""
    name, password = f"a_{role}_{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE {role}")
        yield make_conninfo(dsn, user=name, password=password)
        admin.execute(f"DROP OWNED BY {name}")
        admin.execute(f"DROP ROLE {name}")


def test_the_worker_role_suffices_for_a_whole_night(world: World) -> None:
    for provider in BUILT_IN:
        world.insert(provider, 2)
    (kept,) = world.insert("openai", 1, not_before="2100-01-01")
    with login(world.dsn, "nightbatch_worker") as dsn, open_store(dsn) as store:
        theirs = replace(world, store=store)
        theirs.night("r1")
        recovery.settle_run(store, "r1")
        recovery.recover(store, theirs.provider, job_types(), world.settings)
        alerts.check(store, world.settings)
        retention.erase(store, job_types(), replace(world.settings, retention_days=1))
        assert cancel_jobs(store, [kept], by="ada", reason="test").cancelled == (kept,)
    assert sorted(world.states().values()) == ["cancelled", *["succeeded"] * 6]


@pytest.mark.fault(58)
@pytest.mark.parametrize("role", ["nightbatch_reporter", "nightbatch_producer"])
def test_no_other_role_can_hold_up_a_plan(world: World, role: str) -> None:
    world.insert("openai", 1)
    with login(world.dsn, role) as dsn, psycopg.connect(dsn) as theirs:
        theirs.execute(
            "SELECT pg_advisory_lock(hashtext('nightbatch.plan')), pg_advisory_lock(hashtext('nightbatch.alerts'))"
        )
        for statement in (
            "INSERT INTO nightbatch.named_lock (name) VALUES ('plan')",
            "SELECT FROM nightbatch.named_lock FOR UPDATE",
            "LOCK TABLE nightbatch.named_lock IN SHARE MODE",
            "LOCK TABLE nightbatch.job IN SHARE MODE",
            "LOCK TABLE nightbatch.gathered IN SHARE MODE",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), theirs.transaction():
                theirs.execute(statement)
        with world.store.transaction():
            world.store.connection.execute("SET LOCAL lock_timeout = '5s'")
            (batch,) = world.plan()
        assert batch.job_count == 1
        with world.store.transaction():
            world.store.connection.execute("SET LOCAL lock_timeout = '5s'")
            alerts.check(world.store, world.settings)


CONTENT = media.Content("gemini", "an account", "0" * 64)


@pytest.mark.fault(61)
@pytest.mark.parametrize("ends", ["well", "by an error", "with its connection"])
def test_the_lock_of_an_upload_comes_off_however_it_ends(world: World, ends: str) -> None:
    with open_store(world.dsn) as first, open_store(world.dsn) as second:
        waits, done = threading.Thread(target=take, args=(second,)), [False]
        try:
            with media.alone(first, CONTENT):
                [(pid,)] = first.connection.execute("SELECT pg_backend_pid()").fetchall()  # a pooler makes one up
                waits.start()
                _wait_for_a_lock(world)
                if ends == "by an error":
                    raise KeyError
                if ends == "with its connection":
                    world.rows("SELECT pg_terminate_backend(%s, 5000)", pid)
            done[0] = True
        except (KeyError, psycopg.OperationalError):
            pass
        assert done == [ends == "well"]
        waits.join(30)
        assert not waits.is_alive()
    assert world.rows("SELECT count(*) FROM nightbatch.named_lock WHERE name LIKE 'media%%'") == [0]
    assert world.rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [0]


def take(store: Store) -> None:
    with media.alone(store, CONTENT):
        pass


def _wait_for_a_lock(world: World) -> None:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not world.rows(waiting):
        pass

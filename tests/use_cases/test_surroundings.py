"""A sample of what `make test-pgbouncer` and `make test-postgres-15` do with all use cases."""

from __future__ import annotations

import threading
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from nightbatch.core.errors import ConfigurationError
from nightbatch.job_types import job_types
from nightbatch.jobs.intake import enqueue_rows
from nightbatch.postgres.migrate import migrate
from nightbatch.postgres.store import open_store
from nightbatch_local.emulator.process import EmulatorProcess
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests import surroundings
from tests.scratch import scratch
from tests.use_cases.conftest import SETTINGS, World


def lead_a_night(dsn: str, emulator: EmulatorProcess, account: str, name: str) -> None:
    with open_store(dsn) as store:
        world = World(dsn, store, emulator, replace(SETTINGS), account)
        for place, provider in enumerate(["openai", "gemini", "openai"]):
            rows = [{"job_type": "creative_scoring", "provider": provider, "input": {"headline": f"{name} {place}"}}]
            enqueue_rows(store, job_types(), rows * 4)
        world.night(f"run-{name}")


def test_three_nights_at_once_share_four_sessions_of_a_pooler(
    world: World, postgres_server: EmbeddedPostgres, emulator: EmulatorProcess
) -> None:
    failed: list[Exception] = []

    def night(name: str) -> None:
        try:
            lead_a_night(dsn, emulator, world.account, name)
        except Exception as error:  # noqa: BLE001  # told in the end
            failed.append(error)

    with surroundings.pooled(postgres_server, size=4) as port:
        dsn = make_conninfo(world.dsn, port=port)
        nights = [threading.Thread(target=night, args=(name,)) for name in "abc"]
        for one in nights:
            one.start()
        for one in nights:
            one.join()
    assert failed == []
    assert set(world.states().values()) == {"succeeded"} and len(world.states()) == 36
    world.judge()


def test_a_pooler_by_statement_is_refused_in_words(dsn: str, postgres_server: EmbeddedPostgres) -> None:
    with (
        surroundings.pooled(postgres_server, mode="statement") as port,
        pytest.raises(ConfigurationError, match="must pool by session or by transaction"),
        open_store(make_conninfo(dsn, port=port)),
    ):
        pass


def test_a_database_is_migrated_through_a_pooler(empty_dsn: str, postgres_server: EmbeddedPostgres) -> None:
    with surroundings.pooled(postgres_server) as port:
        through = make_conninfo(empty_dsn, port=port)
        assert migrate(through) != []
        assert migrate(through) == []
    with psycopg.connect(empty_dsn) as direct:
        assert direct.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_a_night_on_debians_postgres(world: World, emulator: EmulatorProcess) -> None:
    with (
        scratch() as folder,
        EmbeddedPostgres(
            folder / "data", fsync=False, die_with_parent=True, bin_dir=surroundings.postgres_15()
        ) as server,
    ):
        dsn = server.create_database("nightbatch")
        migrate(dsn)
        lead_a_night(dsn, emulator, world.account, "a")
        with open_store(dsn) as store:
            assert store.connection.info.server_version // 10_000 == 15
            theirs = replace(world, store=store)
            assert set(theirs.states().values()) == {"succeeded"}
            theirs.judge()

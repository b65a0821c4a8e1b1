"""What a server tells of itself, and whether that changes when it is put back or promoted."""

from __future__ import annotations

import time

import psycopg
import pytest

from nightbatch.batches import home
from nightbatch.core.errors import Displaced
from nightbatch.postgres import homes
from nightbatch.postgres.migrate import migrate
from nightbatch.postgres.store import open_store
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests.scratch import scratch


def promote(server: EmbeddedPostgres) -> None:
    """Let it end an archive recovery, as after a restore or a failover: it goes on in a timeline of its own."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET restore_command = 'false'")
    server.stop()
    signal = server.data_dir / "recovery.signal"
    signal.touch()
    signal.chmod(0o666)
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        while admin.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
            time.sleep(0.02)


@pytest.mark.fault(62)
def test_a_promoted_server_is_another_and_a_restarted_one_is_the_same() -> None:
    with scratch() as folder, EmbeddedPostgres(folder / "data", fsync=False, die_with_parent=True) as server:
        migrate(server.create_database("ledger"))
        with open_store(server.dsn("ledger")) as store:
            home.require(store)
        server.stop()
        server.start()
        with open_store(server.dsn("ledger")) as store:
            home.require(store)
        promote(server)
        with open_store(server.dsn("ledger")) as store:
            with pytest.raises(Displaced, match="restored from a backup, or a standby took over"):
                home.require(store)
            homes.settle(store)
            home.require(store)


def test_a_server_that_tells_nothing_is_asked_no_more_than_that(dsn: str) -> None:
    """As some managed ones do: rights are missing, and the rest still counts."""
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC")
        admin.execute("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_walfile_name(pg_lsn) FROM PUBLIC")
        admin.execute("SET ROLE nightbatch_worker")
        told = admin.execute("SELECT * FROM nightbatch.server_marks()").fetchone()
        assert told is not None and told[:2] == (None, None) and told[2] is not None

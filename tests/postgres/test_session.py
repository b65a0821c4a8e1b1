"""What the ledger needs of its session holds on any server, and no error of a database repeats what was sent or read."""

from __future__ import annotations

import os
import pickle
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from nightbatch.core.errors import ConfigurationError, DatabaseUnreachable
from nightbatch.core.ledger import RunParams
from nightbatch.postgres import session
from nightbatch.postgres.migrate import migrate
from nightbatch.postgres.store import Store, open_store
from nightbatch_local.postgres import embedded
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests.scratch import scratch

HOSTILE = {
    "synchronous_commit": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "America/St_Johns",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "client_encoding": "LATIN1",
    "search_path": "theirs, public",
    "statement_timeout": "50ms",
    "lock_timeout": "5ms",
    "idle_in_transaction_session_timeout": "100ms",
}
"""What an administrator may set for a database or a role, each for a reason of his own."""


def make_hostile(dsn: str, **others: str) -> None:
    """From the next connection on."""
    name = conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(dsn, autocommit=True) as admin:
        for setting, value in (HOSTILE | others).items():
            admin.execute(
                f"ALTER DATABASE {name} SET {setting} = '{value}'".replace("'theirs, public'", "theirs, public")
            )


@pytest.fixture
def hostile(dsn: str) -> str:
    make_hostile(dsn)
    return dsn


def in_force(store: Store) -> dict[str, str]:
    names = ["transaction_isolation", "transaction_read_only", "transaction_deferrable", *session._SETTINGS]
    query = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
    return dict(store.connection.execute(query, [names]).fetchall())


@pytest.mark.fault(61)
def test_every_statement_has_the_ledgers_settings_whatever_the_database_says(hostile: str) -> None:
    wanted = {
        "transaction_isolation": "read committed",
        "transaction_read_only": "off",
        "transaction_deferrable": "off",
        **session._SETTINGS,
    }
    with open_store(hostile) as store:
        assert in_force(store) == wanted
        with store.transaction():
            assert in_force(store) == wanted
            with store.transaction():
                assert in_force(store) == wanted
        with store.snapshot():
            read = {"transaction_isolation": "repeatable read", "transaction_read_only": "on"}
            assert in_force(store) == wanted | read
        assert store.now().tzname() == "UTC"


@pytest.mark.fault(61)
def test_nothing_of_it_stays_with_the_session_which_a_pooler_gives_to_others(hostile: str) -> None:
    with open_store(hostile) as store, psycopg.connect(hostile, autocommit=True) as theirs:
        with store.transaction():
            store.now()
        store.now()
        ours = store.connection
        shown = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
        left = (
            psycopg.Cursor(ours).execute(shown, [list(session._SETTINGS)]).fetchall()
        )  # past the session that we make
        assert left == theirs.execute(shown, [list(session._SETTINGS)]).fetchall()
        for what in (
            "SELECT count(*) FROM pg_prepared_statements",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        ):
            assert psycopg.Cursor(ours).execute(what).fetchone() == (0,)


@pytest.mark.fault(61)
def test_what_was_committed_is_there_after_a_crash_though_the_server_does_not_wait_for_its_disk() -> None:
    with scratch() as folder, EmbeddedPostgres(folder / "data", fsync=True, die_with_parent=True) as server:
        dsn = server.create_database("ledger")
        migrate(dsn)
        with psycopg.connect(dsn, autocommit=True) as admin:
            for setting in ("synchronous_commit = off", "wal_writer_delay = '10s'", "wal_writer_flush_after = 0"):
                admin.execute(f"ALTER SYSTEM SET {setting}")
        server.stop()
        server.start()
        with open_store(server.dsn("ledger")) as store:
            store.start_run("r1", None, RunParams())
            assert server.pid
            os.kill(server.pid, signal.SIGQUIT)  # the processes end at once, as in a crash
            os.waitpid(server.pid, 0) if server._child is None else server._child.wait()
        server.start()
        with open_store(server.dsn("ledger")) as store:
            assert not store.start_run("r1", None, RunParams()), "the run was planned before"


def test_a_standby_is_refused_in_words(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> Any:
        raise psycopg.errors.FeatureNotSupported("cannot set transaction read-write mode during recovery")

    monkeypatch.setattr(session, "_in_force", refuses)
    with pytest.raises(DatabaseUnreachable, match="standby"), open_store(dsn):
        pass


def test_a_server_that_is_too_old_is_refused_in_words(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "OLDEST", 99)
    with pytest.raises(ConfigurationError, match="is too old: nightbatch needs 99 or newer"), open_store(dsn):
        pass


def test_a_server_that_does_not_take_a_setting_is_refused_in_words(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_begin", lambda _: b"BEGIN; SET LOCAL synchronous_commit = off")
    with pytest.raises(ConfigurationError, match="synchronous_commit is off"), open_store(dsn):
        pass


def test_a_server_that_is_not_there_is_unreachable(dsn: str) -> None:
    with pytest.raises(DatabaseUnreachable), open_store(make_conninfo(dsn, port=1)):
        pass


def test_a_server_that_may_lose_what_it_kept_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(embedded._SETTINGS, "full_page_writes", "off")
    with scratch() as folder, EmbeddedPostgres(folder / "data", die_with_parent=True) as server:
        with session.connect(server.dsn()) as connection:
            (told,) = session.not_kept(connection)
        assert told.startswith("This server has full_page_writes off: a power cut may take away what it said was kept")


# -- no payload in an error

CANARY = "canary-8f2c"
INPUT = f'{{"headline": "{CANARY}"}}'


def _row(store: Store) -> int:
    return store.insert_job("creative_scoring", "openai", INPUT)


def _of_check(store: Store) -> None:
    store.connection.execute(
        "INSERT INTO nightbatch.job (job_type, provider, input) VALUES (%s, 'x', %s)", ["t", INPUT]
    )


def _of_null(store: Store) -> None:
    store.connection.execute("INSERT INTO nightbatch.job (provider, input) VALUES ('openai', %s)", [INPUT])


def _of_unique(store: Store) -> None:
    insert = "INSERT INTO nightbatch.job (job_type, provider, input, dedup_key) VALUES ('t', 'openai', '{}', %s)"
    for _ in range(2):
        store.connection.execute(insert, [CANARY])


def _of_syntax_of_json(store: Store) -> None:
    store.connection.execute(
        "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('t', 'openai', %s)", [CANARY]
    )


def _of_number(store: Store) -> None:
    store.connection.execute("SELECT %s::text::integer", [CANARY])


def _of_date(store: Store) -> None:
    store.connection.execute("SELECT %s::text::timestamptz", [CANARY])


def _of_bytes(store: Store) -> None:
    store.connection.execute("SELECT convert_from(%s, 'UTF8')", [CANARY.encode() + b"\xff"])


def _of_nul(store: Store) -> None:
    store.connection.execute("SELECT %s::text", [CANARY + "\0"])


def _of_half_a_character(store: Store) -> None:
    store.connection.execute("SELECT %s::text", [CANARY + "\ud83d"])


def _of_year(store: Store) -> None:
    store.connection.execute("SELECT timestamptz '20000-01-01', %s::text", [CANARY]).fetchone()


def _of_timeout(store: Store) -> None:
    with store.transaction():
        store.connection.execute("SET LOCAL statement_timeout = '20ms'")
        with store.connection.cursor().copy(
            "COPY nightbatch.result (job_id, batch_id, outcome, output) FROM STDIN"
        ) as copy:
            copy.write(f'1\t1\tsucceeded\t"{CANARY}"\n'.encode())
            time.sleep(0.1)  # the rest never comes in time


def _of_copy(store: Store) -> None:
    with store.copy_results() as write:
        write((1, 1, "no outcome", True, CANARY.encode(), CANARY, 1, 0, 1, None, None, None, CANARY))


def _of_binary_copy(store: Store) -> None:
    types = ("text", "text", "json")
    with store.connection.cursor().copy(
        "COPY nightbatch.job (job_type, provider, input) FROM STDIN (FORMAT binary)"
    ) as copy:
        copy.set_types(types)
        copy.write_row((CANARY, CANARY, CANARY))


def _of_vector(store: Store) -> None:
    store.copy_embeddings(1, [f"1\t0\t1\t[{CANARY}]\n".encode()])


def _of_long_vector(store: Store) -> None:
    store.copy_embeddings(1, [b"1\t0\t1\t[" + b"0.125," * 16_001 + b"8.5]\n"])


def _of_size(store: Store) -> None:
    with store.transaction():
        store.connection.execute("CREATE TEMPORARY TABLE keyed (t text UNIQUE)")
        store.connection.execute("INSERT INTO keyed VALUES (%s)", [CANARY + secrets.token_hex(9000)])


def _of_never_changing(store: Store) -> None:
    store.connection.execute("UPDATE nightbatch.job SET input = %s WHERE id = %s", [INPUT, _row(store)])


def _of_a_teams_trigger(store: Store) -> None:
    store.connection.execute(
        "CREATE FUNCTION public.judge() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'bad %', NEW.input USING ERRCODE = 'check_violation', DETAIL = NEW.input; END $$"
    )
    store.connection.execute(
        "CREATE TRIGGER judge BEFORE INSERT ON nightbatch.job EXECUTE FUNCTION public.judge()".replace(
            "EXECUTE", "FOR EACH ROW EXECUTE"
        )
    )
    _row(store)


def _of_a_dead_connection(store: Store) -> None:
    with store.copy_results() as write:
        write((1, 1, "succeeded", True, CANARY.encode(), CANARY, 1, 0, 1, None, None, None, CANARY))
        with psycopg.connect(
            store.connection.info.dsn, password=store.connection.info.password, autocommit=True
        ) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [store.connection.info.backend_pid])


def _of_program(store: Store) -> None:
    with store.copy_results() as write:
        write((1, 1, "succeeded", True, CANARY.encode(), CANARY, 1, 0, 1, None, None, None, CANARY))
        raise KeyError("the caller's own")


PROVOKED: list[Callable[[Store], None]] = [
    _of_check, _of_null, _of_unique, _of_syntax_of_json, _of_number, _of_date, _of_bytes, _of_nul, _of_half_a_character,
    _of_year, _of_timeout, _of_copy, _of_binary_copy, _of_vector, _of_long_vector, _of_size, _of_never_changing,
    _of_a_teams_trigger, _of_a_dead_connection, _of_program,
]  # fmt: skip


def everything_said(error: BaseException) -> Iterator[str]:
    """Of an error and of all that it came from."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        yield str(one) + repr(one) + repr(one.__dict__) + repr(one.args)
        yield repr(pickle.dumps(one))
        if isinstance(one, UnicodeEncodeError):
            yield one.object
        if isinstance(one, psycopg.Error):
            yield " ".join(str(getattr(one.diag, name)) for name in dir(one.diag) if not name.startswith("_"))
        waiting += [one.__cause__, one.__context__]


@pytest.mark.fault(72)
@pytest.mark.parametrize("provoke", PROVOKED, ids=lambda provoke: provoke.__name__.removeprefix("_of_"))
def test_no_error_of_the_database_repeats_a_payload(dsn: str, provoke: Callable[[Store], None]) -> None:
    with pytest.raises(Exception) as raised, open_store(dsn) as store:
        provoke(store)
    said = "\n".join(everything_said(raised.value))
    assert CANARY not in said
    assert "0.125" not in said
    assert str(raised.value)


@pytest.mark.fault(72)
def test_an_error_keeps_its_kind_and_the_names_of_what_refused(dsn: str) -> None:
    with (
        open_store(dsn) as store,
        pytest.raises(psycopg.errors.CheckViolation, match="provider_is_registered") as raised,
    ):
        _of_check(store)
    assert raised.value.sqlstate == "23514"
    assert raised.value.diag.constraint_name == "provider_is_registered"
    assert raised.value.diag.message_detail is None
    with (
        open_store(dsn) as store,
        pytest.raises(psycopg.errors.RestrictViolation, match="never change; insert a new job"),
    ):
        _of_never_changing(store)

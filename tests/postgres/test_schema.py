"""What the schema itself promises, whoever writes."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import Connection, errors

from tests.unguarded import unguarded

JOB = "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('creative_scoring', 'openai', '{}')"


@pytest.fixture
def connection(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    ("columns", "values", "error"),
    [
        ("priority", "0", errors.CheckViolation),
        ("priority", "11", errors.CheckViolation),
        ("priority", "-1", errors.CheckViolation),
        ("priority", "'NaN'", errors.InvalidTextRepresentation),
        ("priority", "'NaN'::float8", errors.NumericValueOutOfRange),
        ("priority", "1e30", errors.NumericValueOutOfRange),
        ("priority", "'high'", errors.InvalidTextRepresentation),
        ("labels", "'[]'", errors.CheckViolation),
        ("model", "''", errors.CheckViolation),
    ],
)
def test_a_bad_column_is_refused_at_the_insert(
    connection: Connection, columns: str, values: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        connection.execute(
            f"INSERT INTO nightbatch.job (job_type, provider, input, {columns})"
            f" VALUES ('creative_scoring', 'openai', '{{}}', {values})"
        )


@pytest.mark.fault(41, 43)
@pytest.mark.parametrize("provider", ["mistral", "", "OpenAI", "openai'; DROP TABLE nightbatch.job; --"])
def test_an_unknown_provider_is_refused_at_the_insert(connection: Connection, provider: str) -> None:
    with pytest.raises(errors.CheckViolation, match="provider_is_registered"):
        connection.execute(
            "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('creative_scoring', %s, '{}')", (provider,)
        )


@pytest.mark.fault(41)
def test_embeddings_on_anthropic_are_refused_at_the_insert(connection: Connection) -> None:
    with pytest.raises(errors.CheckViolation, match="anthropic_has_no_embeddings"):
        connection.execute(
            "INSERT INTO nightbatch.job (job_type, provider, input)"
            " VALUES ('embedding_generation', 'anthropic', '{\"text\": \"a\"}')"
        )


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    "text",
    [
        '{"a": "\\u0000"}',
        '{"a": "\\ud800"}',
        '{"a": 1e400}',
        '{"a": 1, "a": 2}',
        '{\n  "a" :  [ 1 ]\n}',
        '"; DROP TABLE x"',
    ],
)
def test_odd_json_is_kept_as_it_came(connection: Connection, text: str) -> None:
    row = connection.execute(
        "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('x', 'openai', %s) RETURNING input::text",
        (text,),
    ).fetchone()
    assert row == (text,)


@pytest.mark.parametrize("statement", ["UPDATE nightbatch.job SET priority = 9", "DELETE FROM nightbatch.job"])
def test_a_job_row_never_changes(connection: Connection, statement: str) -> None:
    connection.execute(JOB)
    with pytest.raises(errors.RestrictViolation, match="never change"):
        connection.execute(statement)


@pytest.mark.fault(58)
def test_a_producer_can_insert_jobs_and_nothing_else(connection: Connection) -> None:
    connection.execute("SET ROLE nightbatch_producer")
    assert connection.execute(JOB + " RETURNING id").fetchone() == (1,)
    refused = [
        "SELECT input FROM nightbatch.job",
        "UPDATE nightbatch.job SET priority = 1",
        "DELETE FROM nightbatch.job",
        "SELECT * FROM nightbatch.result",
        "SELECT * FROM nightbatch.job_status",
        "INSERT INTO nightbatch.open_job VALUES (1)",
        "SELECT * FROM nightbatch.gathered",
        "SELECT * FROM nightbatch_report.savings_daily",
    ]
    for statement in refused:
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)


@pytest.mark.fault(58)
def test_a_reporter_sees_states_and_figures_but_no_payload(connection: Connection) -> None:
    connection.execute(JOB)
    connection.execute("SET ROLE nightbatch_reporter")
    assert connection.execute("SELECT job_id, state FROM nightbatch.job_status").fetchall() == [(1, "queued")]
    for view in ("savings_daily", "run_summary", "queue_depth", "batch_turnaround", "batch_rollup"):
        connection.execute(f"SELECT * FROM nightbatch_report.{view}")
    for table in ("job", "result", "reject", "batch"):
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(f"SELECT * FROM nightbatch.{table}")


def test_the_same_dedup_key_is_one_job(connection: Connection) -> None:
    insert = "INSERT INTO nightbatch.job (job_type, provider, input, dedup_key) VALUES ('x', 'openai', '{}', 'k')"
    connection.execute(insert)
    with pytest.raises(errors.UniqueViolation):
        connection.execute(insert)
    connection.execute(insert + " ON CONFLICT DO NOTHING")
    assert connection.execute("SELECT count(*) FROM nightbatch.job").fetchone() == (1,)


@pytest.mark.fault(21)
def test_one_create_is_under_way_per_account_where_batches_carry_no_tag(connection: Connection) -> None:
    connection.execute("INSERT INTO nightbatch.run (id) VALUES ('r')")
    insert = (
        "INSERT INTO nightbatch.batch"
        " (run_id, provider, model, endpoint, part, state, job_count, account_fingerprint, intent_at, tagged)"
        " VALUES ('r', %s, 'm', 'chat', %s, 'submitting', 1, 'a', now(), %s)"
    )
    with unguarded(connection):
        connection.execute(insert, ("anthropic", 1, False))
        with pytest.raises(errors.UniqueViolation):
            connection.execute(insert, ("anthropic", 2, False))
        connection.execute(insert, ("openai", 3, True))
        connection.execute(insert, ("openai", 4, True))


@pytest.mark.parametrize("state", ["submitting", "submitted", "loaded", "refused", "unheard_of"])
def test_a_state_needs_its_timestamps(connection: Connection, state: str) -> None:
    connection.execute("INSERT INTO nightbatch.run (id) VALUES ('r')")
    with unguarded(connection), pytest.raises(errors.CheckViolation):
        connection.execute(
            "INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, state, job_count)"
            " VALUES ('r', 'openai', 'm', 'chat', 1, %s, 1)",
            (state,),
        )


@pytest.mark.parametrize("view", ["savings_daily", "savings_by_label", "run_summary"])
def test_the_formula_of_the_savings_costs_no_call_of_a_function(connection: Connection, view: str) -> None:
    """Postgres writes its expression in the place of each call, also where millions of rows are added up."""
    plan = str(connection.execute(f"EXPLAIN (VERBOSE) SELECT savings_usd FROM nightbatch_report.{view}").fetchall())
    assert "wasted_cost_usd" in plan and "savings(" not in plan

"""Files into the staging table: bad lines are named, good ones are never lost for them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from nightbatch.batches import submission
from nightbatch.core.errors import ConfigurationError
from nightbatch.core.ledger import RunParams
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.jobs.intake import BadLine, Enqueued, enqueue_file
from nightbatch.postgres.store import Store, open_store

GOOD = '{"job_type": "creative_scoring", "provider": "openai", "input": {"headline": "Good"}}'


@pytest.fixture
def store(dsn: str) -> Iterator[Store]:
    with open_store(dsn) as opened:
        yield opened


def enqueue(store: Store, path: Path, text: str | bytes) -> Enqueued:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return enqueue_file(store, job_types(), path)


def jobs(store: Store, columns: str = "input::text") -> list[object]:
    rows = store.connection.execute(f"SELECT {columns} FROM nightbatch.job ORDER BY id").fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


def line(**values: object) -> str:
    return json.dumps({"job_type": "creative_scoring", "provider": "openai", "input": {"headline": "x"}} | values)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line(job_type="scoring"), "there is no such job type; there are bulk_predictions, creative_scoring, "),
        (line(provider="mistral"), "There is no provider 'mistral'; there are openai, anthropic, gemini"),
        (line(job_type="embedding_generation", provider="anthropic"), "anthropic cannot do embedding_generation jobs"),
        (line(priority=0), "Expected `int` >= 1 - at `$.priority`"),
        (line(priority=11), "Expected `int` <= 10 - at `$.priority`"),
        (line(priority="5"), "Expected `int`, got `str` - at `$.priority`"),
        (line(model=""), "Expected `str` of length >= 1 - at `$.model`"),
        (line(model="a\0b"), "a text holds the character U+0000"),
        (line(labels={"team\0": "x"}), "a text holds the character U+0000"),
        (line(labels=["x"]), "Expected `object`, got `array` - at `$.labels`"),
        (line(input=[1]), "input is no JSON object"),
        (line(input=None), "input is no JSON object"),
        (line(not_before="2026-11-23T02:00:00"), "Expected `datetime` with a timezone component - at `$.not_before`"),
        (line(prioritiy=3), "Object contains unknown field `prioritiy`"),
        ('{"provider": "openai"}', "Object missing required field `job_type`"),
        (GOOD.replace("}}", '}, "priority": NaN}'), "JSON is malformed: invalid character (byte 98): JSON has no NaN"),
        (
            GOOD.replace('"Good"', '"Good", "score": NaN'),
            "JSON is malformed: invalid character (byte 94): JSON has no NaN",
        ),
        (line(input={"headline": "x", "boddy": "y"}), "boddy: there is no such member; body was probably meant"),
        (line(input={}), "headline: Field required"),
        (
            line(job_type="raw", input={"body": {"n": 0}}).replace("0", "1e400"),
            "body: Value error, it holds a number that is",
        ),
        (
            line(job_type="historical_reprocessing", input={"job": 1}),
            "job: there is no such member; job_id was probably",
        ),
        (line(model="gpt 6"), "model: it holds white space"),
        (line(labels={"a": "x"}).replace("x", "\0"), "it holds NUL bytes"),
        (GOOD.replace('"openai", ', '"openai" '), "JSON is malformed: expected ',' or '}'"),
        ("{", "not a JSON object: every line must hold one whole job (Input data was truncated)"),
        ('"openai"', "not a JSON object: every line must hold one whole job"),
        (line(model="\ud800"), "a string holds half a character"),
        (line(input={"headline": "\ud800"}), "a string holds half a character"),
        (line(input={"a": 0}).replace('"a": 0', '"a": ' + "[" * 9_000 + "]" * 9_000), "maximum recursion depth"),
    ],
)
def test_a_bad_line_is_named_and_the_others_go_in(store: Store, tmp_path: Path, bad: str, reason: str) -> None:
    done = enqueue(store, tmp_path / "jobs.jsonl", f"{GOOD}\n{bad}\n\n{GOOD}\n")
    assert (done.new, done.known, [bad_line.number for bad_line in done.bad]) == (2, 0, [2])
    assert done.bad[0].reason.startswith(reason)
    assert len(jobs(store)) == 2


LONG = {"type": "object", "properties": {"sku": {"enum": [f"SKU-{number}" for number in range(1500)]}}}
BODY = {"messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line(model="gpt-5", input={"headline": "x", "effort": "none"}), "gpt-5 always thinks: the least effort is"),
        (
            line(input={"headline": "x", "effort": "high", "model": "gpt-4.1"}),
            "gpt-4.1 does not think: leave effort out",
        ),
        (line(input={"headline": "x", "model": "gpt 6"}), "model: Value error, it holds white space"),
        (
            line(model="gpt-6-luna", input={"headline": "x", "model": "gpt-6-sol"}),
            "model: the input asks for gpt-6-sol, and",
        ),
        (line(job_type="bulk_predictions", input={"template": "x", "schema": LONG}), "schema: "),
        (
            line(job_type="raw", model="gpt-6-luna", input={"body": BODY | {"model": "gpt-6-sol"}}),
            "model: the input asks",
        ),
        (
            line(job_type="raw", provider="anthropic", input={"body": BODY, "url": "/v1/responses"}),
            "url: only OpenAI's",
        ),
    ],
)
def test_what_its_provider_or_its_model_does_not_take_is_refused_before_the_night(
    store: Store, tmp_path: Path, bad: str, reason: str
) -> None:
    done = enqueue(store, tmp_path / "jobs.jsonl", "\n".join((GOOD, bad, GOOD)))
    (found,) = done.bad
    assert (found.number, done.new) == (2, 2)
    assert found.reason.startswith(reason)


@pytest.mark.parametrize("model", [None, "gemini-3.5-flash-lite", "models/gemini-3.5-flash-lite"])
@pytest.mark.parametrize("named", ["gemini-3.5-flash-lite", "models/gemini-3.5-flash-lite"])
def test_geminis_two_ways_to_write_a_model_are_one(store: Store, tmp_path: Path, model: str | None, named: str) -> None:
    ready = {"body": {"model": named, "contents": [{"parts": [{"text": "x"}]}]}}
    given = [
        line(job_type="raw", provider="gemini", model=model, input=ready),
        line(provider="gemini", model=model, input={"headline": "x", "model": named}),
    ]
    done = enqueue(store, tmp_path / "jobs.jsonl", "\n".join(given))
    assert (done.new, done.bad) == (2, [])
    planned = submission.plan_run(store, job_types(), Settings(), run_id="r1", queued_before=None, params=RunParams())
    assert {(batch.model, batch.job_count) for batch in planned} == {("gemini-3.5-flash-lite", 2)}


def test_an_input_that_is_not_utf_8_is_named_and_the_others_go_in(store: Store, tmp_path: Path) -> None:
    latin = GOOD.replace("Good", "Café").encode("latin-1")
    done = enqueue(store, tmp_path / "jobs.jsonl", b"\n".join([GOOD.encode(), latin, GOOD.encode()]))
    assert done == Enqueued(new=2, bad=[BadLine(2, "not UTF-8, looks like Windows-1252: save the file as UTF-8")])
    assert len(jobs(store)) == 2


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    "text",
    [
        '{"headline":"\\u0000"}',
        '{ "headline":"x","headline":"y" }',
        '{"headline":"\'); DROP TABLE job;--"}',
    ],
)
def test_an_odd_input_is_kept_as_it_came(store: Store, tmp_path: Path, text: str) -> None:
    done = enqueue(store, tmp_path / "jobs.jsonl", GOOD.replace('{"headline": "Good"}', text))
    assert done == Enqueued(new=1)
    assert jobs(store) == [text]


def test_what_only_postgres_refuses_is_found_and_named(store: Store, tmp_path: Path) -> None:
    store.connection.execute("ALTER TABLE nightbatch.job ADD CONSTRAINT not_this_model CHECK (model <> 'banned')")
    done = enqueue(store, tmp_path / "jobs.jsonl", "\n".join([GOOD, GOOD, line(model="banned"), GOOD]))
    assert (done.new, [bad.number for bad in done.bad]) == (3, [3])
    assert "not_this_model" in done.bad[0].reason
    assert len(jobs(store)) == 3


@pytest.mark.fault(43)
def test_sql_in_every_field_is_data(store: Store, tmp_path: Path) -> None:
    evil = "'); DROP TABLE nightbatch.job; --"
    done = enqueue(store, tmp_path / "jobs.jsonl", line(dedup_key=evil, labels={evil: evil}))
    assert done == Enqueued(new=1)
    assert jobs(store, "dedup_key, labels") == [(evil, {evil: evil})]
    done = enqueue(store, tmp_path / "models.jsonl", line(model=evil))
    assert done.bad == [BadLine(1, "model: it holds a quote, which no model's name does")]


def test_the_same_dedup_key_is_one_job_within_and_across_files(store: Store, tmp_path: Path) -> None:
    first = [line(dedup_key="a", priority=1), line(dedup_key="a", priority=2), line(dedup_key="b"), GOOD]
    assert enqueue(store, tmp_path / "one.jsonl", "\n".join(first)) == Enqueued(new=3, known=1)
    assert enqueue(store, tmp_path / "two.jsonl", "\n".join(first)) == Enqueued(known=4)
    assert store.connection.execute("SELECT priority FROM nightbatch.job WHERE dedup_key = 'a'").fetchall() == [(1,)]


def test_a_key_that_another_producer_commits_meanwhile_is_no_second_job(store: Store, dsn: str, tmp_path: Path) -> None:
    """The keys were looked up before his commit, so the COPY runs into the unique index, and none of its rows is lost."""
    text = "\n".join([line(dedup_key="a"), line(dedup_key="his"), GOOD, line(dedup_key="b"), line(dedup_key="a")])
    with psycopg.connect(dsn) as other, ThreadPoolExecutor() as pool:
        other.execute(
            "INSERT INTO nightbatch.job (job_type, provider, input, dedup_key) VALUES ('raw', 'gemini', '{}', 'his')"
        )
        ours = pool.submit(enqueue, store, tmp_path / "jobs.jsonl", text)
        wait_for_lock(dsn)
        other.commit()
        assert ours.result(timeout=30) == Enqueued(new=3, known=2)
    assert sorted(map(str, jobs(store, "left(dedup_key, 16)"))) == ["a", "b", "his", "nightbatch:line:"]
    assert enqueue(store, tmp_path / "jobs.jsonl", text) == Enqueued(known=5)


def wait_for_lock(dsn: str) -> None:
    """Until some other session waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(dsn, autocommit=True) as watch:
        while watch.execute(waiting).fetchone() == (0,):
            time.sleep(0.02)


def test_a_csv_file_says_the_same(store: Store, tmp_path: Path) -> None:
    text = (
        "job_type,provider,priority,input,labels\r\n"
        'creative_scoring,openai,9,"{""headline"":\n""a, b""}","{""team"": ""x""}"\r\n'
        "creative_scoring,openai,eleven,{},\r\n"
        'creative_scoring,gemini,,"{""headline"": ""1""}",\r\n'
        "creative_scoring,openai,5,{,\r\n"
    )
    done = enqueue(store, tmp_path / "jobs.csv", text)
    assert (done.new, [bad.number for bad in done.bad]) == (2, [4, 6])
    assert done.bad[0].reason == "Expected `int`, got `str` - at `$.priority`"
    assert jobs(store, "priority, labels") == [(9, {"team": "x"}), (5, {})]


def test_csv_columns_can_be_members_of_the_input(store: Store, tmp_path: Path) -> None:
    done = enqueue(store, tmp_path / "jobs.csv", "job_type,provider,input.headline\ncreative_scoring,openai,Näh\n")
    assert done == Enqueued(new=1)
    assert jobs(store) == ['{"headline":"Näh"}']


@pytest.mark.parametrize(("name", "text"), [("jobs.csv", ""), ("jobs.csv", "what,provider\n"), ("jobs.txt", GOOD)])
def test_a_file_that_is_neither_is_refused_as_a_whole(store: Store, tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        enqueue(store, tmp_path / name, text)


def test_progress_counts_the_bytes_of_the_file(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(f"{GOOD}\n" * 2_500)
    seen: list[int] = []
    assert enqueue_file(store, job_types(), path, progress=seen.append) == Enqueued(new=2_500)
    assert seen[-1] == path.stat().st_size
    assert seen == sorted(seen)


def test_a_pretty_printed_file_says_what_is_wrong_with_it(store: Store, tmp_path: Path) -> None:
    done = enqueue(store, tmp_path / "jobs.jsonl", json.dumps(json.loads(GOOD), indent=2))
    assert done.new == 0
    assert done.bad[0] == BadLine(1, "not a JSON object: every line must hold one whole job (Input data was truncated)")

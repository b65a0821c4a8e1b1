"""Jobs from Python: a frame or dicts, the same checks as for a file, ids in the order of the rows."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import numpy
import pandas
import psycopg
import pytest
from psycopg import Connection

import nightbatch
from nightbatch.core.errors import ConfigurationError
from nightbatch.jobs.intake import BadLine, JobsRefused
from tests.use_cases.test_roles import login

MORNING = datetime(2026, 11, 24, 6, tzinfo=UTC)


@pytest.fixture
def database(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def job(**values: Any) -> dict[str, Any]:
    return {"job_type": "creative_scoring", "provider": "openai", "input": {"headline": "x"}} | values


def raw(body: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {"job_type": "raw", "provider": "openai", "input": {"body": body}} | values


class State(Enum):
    OPEN = "open"


class Named(NamedTuple):
    job_type: str
    provider: str
    input: dict[str, str]


@dataclass
class Point:
    x: int


def jobs(database: Connection, columns: str = "id") -> list[Any]:
    rows = database.execute(f"SELECT {columns} FROM nightbatch.job ORDER BY id").fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


def refused(dsn: str, *rows: Any) -> list[BadLine]:
    with pytest.raises(JobsRefused) as caught:
        nightbatch.enqueue(rows, dsn=dsn)
    return caught.value.bad


def test_dicts_are_queued_with_all_that_they_say(dsn: str, database: Connection) -> None:
    full = job(
        model="gpt-6-luna", priority=9, dedup_key="k", labels={"team": "x"}, not_before=MORNING, deadline=MORNING,
        cache_days=30, fallback=True,
    )  # fmt: skip
    ids = nightbatch.enqueue([full, job()], dsn=dsn)
    columns = "id, input::text, model, priority, dedup_key, labels, not_before, deadline, cache_days, fallback"
    assert sorted(jobs(database, columns)) == sorted(
        [
            (ids[0], '{"headline":"x"}', "gpt-6-luna", 9, "k", {"team": "x"}, MORNING, MORNING, 30, True),
            (ids[1], '{"headline":"x"}', None, 5, None, {}, None, None, None, None),
        ]
    )


def test_a_frame_is_queued_and_what_is_missing_in_it_is_not_given(dsn: str, database: Connection) -> None:
    frame = pandas.DataFrame(
        {
            "job_type": "creative_scoring",
            "provider": ["openai", "gemini", "anthropic"],
            "input.headline": ["One", "Two", "Three"],
            "input.body": ["", None, numpy.nan],
            "priority": [9, None, 1],
            "model": pandas.Series(["gpt-6-luna", pandas.NA, None], dtype="string"),
            "deadline": pandas.Series([MORNING, pandas.NaT, pandas.NaT], dtype="datetime64[us, UTC]"),
            "cache_days": pandas.Series([7, pandas.NA, pandas.NA], dtype="Int16"),
            "labels": [{"team": "x"}, '{"team": "y"}', None],
        }
    )
    frame.index = pandas.Index([7, 7, 8])  # whatever it is, positions count
    ids = nightbatch.enqueue(frame, dsn=dsn)
    assert ids == jobs(database)
    assert jobs(database, "provider, input::text, priority, model, deadline, cache_days, labels") == [
        ("openai", '{"headline":"One","body":""}', 9, "gpt-6-luna", MORNING, 7, {"team": "x"}),
        ("gemini", '{"headline":"Two"}', 5, None, None, None, {"team": "y"}),
        ("anthropic", '{"headline":"Three"}', 1, None, None, None, {}),
    ]


def test_values_of_numpy_and_dates_are_written_as_json_knows_them(dsn: str, database: Connection) -> None:
    values = {"n": numpy.int64(3), "f": numpy.float32(0.1), "a": numpy.array([1, 2]), "d": date(2026, 11, 23)}
    values |= {"m": numpy.datetime64("2026-11-24T06:00:00.5", "ns"), "b": numpy.True_, "t": pandas.Timestamp(MORNING)}
    nightbatch.enqueue([raw(values, priority=numpy.int8(7))], dsn=dsn)
    assert jobs(database, "input -> 'body', priority") == [
        (
            {"n": 3, "f": 0.1, "a": [1, 2], "d": "2026-11-23", "m": "2026-11-24T06:00:00.500000", "b": True,
             "t": "2026-11-24T06:00:00+00:00"},
            7,
        )
    ]  # fmt: skip


def test_values_of_a_database_are_written_as_json_with_their_digits(dsn: str, database: Connection) -> None:
    name = UUID("0194b2a1-0000-7000-8000-000000000001")
    values = {
        "price": Decimal("19.90"),
        "big": Decimal("1234567890123456.78"),
        "id": name,
        "at": time_of_day(6, 30),
    }
    values |= {"tags": ("a", "b"), "few": {"x"}, "state": State.OPEN, "at_all": {"1": None, 2: MORNING}, "none": None}
    nightbatch.enqueue([raw(values, dedup_key=name, labels={"order": 4711, "shop": name})], dsn=dsn)
    assert jobs(database, "input::text, dedup_key, labels") == [
        (
            '{"body":{"price":19.90,"big":1234567890123456.78,"id":"0194b2a1-0000-7000-8000-000000000001","at":"06:30:00",'
            '"tags":["a","b"],"few":["x"],"state":"open","at_all":{"1":null,"2":"2026-11-24T06:00:00+00:00"},"none":null}}',
            str(name),
            {"order": "4711", "shop": str(name)},
        )
    ]


def test_numbers_of_a_column_with_gaps_are_whole_again_as_keys(dsn: str, database: Connection) -> None:
    frame = pandas.DataFrame(
        {"job_type": "creative_scoring", "provider": "openai", "input.headline": ["a", "b"], "dedup_key": [4711, None]}
    )
    nightbatch.enqueue(frame, dsn=dsn)
    assert sorted(jobs(database, "input ->> 'headline', dedup_key")) == [("a", "4711"), ("b", None)]


def test_rows_of_other_libraries_are_mappings(dsn: str, database: Connection) -> None:
    lite = sqlite3.connect(":memory:")
    lite.row_factory = sqlite3.Row
    rows = lite.execute(
        "SELECT 'creative_scoring' AS job_type, 'openai' AS provider, 'x' AS \"input.headline\""
    ).fetchall()
    named: Any = Named("creative_scoring", "openai", {"headline": "y"})
    nightbatch.enqueue([*rows, named], dsn=dsn)
    assert jobs(database, "input ->> 'headline'") == ["x", "y"]


def test_json_text_in_a_column_is_read_where_the_type_wants_no_text(dsn: str, database: Connection) -> None:
    frame = pandas.DataFrame(
        {
            "job_type": "bulk_predictions",
            "provider": "openai",
            "input.template": ["{} $t"],
            "input.values": ['{"t": 19.90}'],
            "input.schema": ['{"type": "object", "properties": {"dear": {"type": "boolean"}}}'],
        }
    )
    nightbatch.enqueue(frame, dsn=dsn)
    assert jobs(database, "input::text") == [
        '{"template":"{} $t","values":{"t": 19.90},"schema":{"type": "object", "properties": {"dear": {"type": "boolean"}}}}'
    ]


def test_a_model_is_trimmed(dsn: str, database: Connection) -> None:
    nightbatch.enqueue([job(model=" gpt-6-luna\n")], dsn=dsn)
    assert jobs(database, "model") == ["gpt-6-luna"]


def test_a_json_text_is_kept_byte_for_byte(dsn: str, database: Connection) -> None:
    text = '{ "headline": "\\u0000", "body": "1", "body": "2" }'
    nightbatch.enqueue([job(input=text)], dsn=dsn)
    assert jobs(database, "input::text") == [text]


@pytest.mark.fault(46)
def test_the_same_key_gives_the_first_jobs_id_in_one_call_and_in_the_next(dsn: str, database: Connection) -> None:
    first = nightbatch.enqueue(
        [job(dedup_key="a", priority=1), job(), job(dedup_key="a", priority=2), job(dedup_key="b")], dsn=dsn
    )
    assert first[0] == first[2]
    assert len(set(first)) == 3
    later = nightbatch.enqueue([job(dedup_key="b"), job(dedup_key="c"), job(dedup_key="a")], dsn=dsn)
    assert later == [first[3], jobs(database)[-1], first[0]]
    assert dict(jobs(database, "dedup_key, priority"))["a"] == 1


@pytest.mark.fault(46)
def test_the_key_of_another_producer_who_commits_meanwhile_gives_his_id(dsn: str, database: Connection) -> None:
    """Whoever inserts second waits for the first, and then learns the first one's id."""
    with psycopg.connect(dsn) as other, ThreadPoolExecutor(1) as pool:
        row = other.execute(
            "INSERT INTO nightbatch.job (job_type, provider, input, dedup_key)"
            " VALUES ('creative_scoring', 'openai', '{}', 'k') RETURNING id"
        ).fetchone()
        second = pool.submit(nightbatch.enqueue, [job(dedup_key="k")], dsn=dsn)
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        deadline = time.monotonic() + 30
        with psycopg.connect(
            dsn, autocommit=True
        ) as watcher:  # a transaction would see the same moment again and again
            while not watcher.execute(waiting).fetchone():
                assert not second.done(), "it did not wait"
                assert time.monotonic() < deadline, "nobody was seen waiting"
                time.sleep(0.02)
        other.commit()
        assert second.result() == list(row or ())


def test_ids_stand_in_the_order_of_many_rows(dsn: str, database: Connection) -> None:
    rows = [job(input={"headline": str(n)}, dedup_key=f"k{n % 7000}" if n % 2 else None) for n in range(12_001)]
    ids = nightbatch.enqueue((row for row in rows), dsn=dsn)
    stored = dict(jobs(database, "id, input ->> 'headline'"))
    first = {row.get("dedup_key"): row["input"]["headline"] for row in reversed(rows)}
    assert len(ids) == len(rows)
    assert [stored[found] for found in ids] == [
        first[row["dedup_key"]] if row["dedup_key"] else row["input"]["headline"] for row in rows
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (job(job_type="scoring"), "there is no such job type; there are "),
        (job(provider="mistral"), "There is no provider 'mistral'; there are openai, anthropic, gemini"),
        (job(provider="anthropic", job_type="embedding_generation"), "anthropic cannot do embedding_generation jobs"),
        (job(priority=11), "Expected `int` <= 10 - at `$.priority`"),
        (job(priority="5"), "Expected `int`, got `str` - at `$.priority`"),
        (job(priority=5.5), "Expected `int`, got `float` - at `$.priority`"),
        (job(cache_days=0), "Expected `int` >= 1 - at `$.cache_days`"),
        (job(cache_days=3651), "Expected `int` <= 3650 - at `$.cache_days`"),
        (job(model="a\0b"), "a text holds the character U+0000"),
        (job(model="\ud800"), "a string holds half a character"),
        (job(input={"headline": "\ud800"}), "a string holds half a character"),
        (job(input={"score": float("nan")}), "JSON has no nan: leave the member out, or give None"),
        (job(input={"score": Decimal("Infinity")}), "JSON has no Infinity: leave the member out, or give None"),
        (job(input={"score": timedelta(1)}), "a value of type timedelta cannot be written as JSON"),
        (job(input={"headline": b"x"}), "a value is of type bytes: decode it to text, or write it as base64"),
        (job(input={"headline": memoryview(b"x")}), "a value is of type memoryview: decode it to text"),
        (job(input={"headline": Point(1)}), "a value of type Point cannot be written as JSON"),
        (job(input={"headline": {(1, 2): "x"}}), "a member's name is of type tuple: JSON has texts only"),
        (job(input={"t": [pandas.NaT]}), "a value of type NaTType cannot be written as JSON"),
        (job(dedup_key=float(2**53)), "dedup_key: as a float it is not exact"),
        (job(dedup_key="nightbatch:line:x"), "dedup_key: those that begin with nightbatch:line: are nightbatch's own"),
        (job(model="gpt 6"), "model: it holds white space, which no model's name does"),
        (job(model='"gpt-6"'), "model: it holds a quote, which no model's name does"),
        (job(model="gpt\u20116-luna"), "model: it holds U+2011, which no model's name does"),
        (job(model="gpt-6\u200b"), "model: it holds U+200B, which no model's name does"),
        (job(model="  "), "model: it is empty"),
        (job(input={"headline": ""}), "headline: String should have at least 1 character"),
        (job(input={"headline": "x", "boddy": "y"}), "boddy: there is no such member; body was probably meant"),
        (job(input=[1]), "input is no JSON object"),
        (job(input="{"), "Input data was truncated"),
        (job(input=None), "Object missing required field `input`"),
        (job() | {"input.headline": "y"}, "it has an input, and members of one besides"),
        (job(labels={"n": [1]}), "Expected `str`, got `array` - at `$.labels[...]`"),
        (job(not_before=datetime(2026, 11, 23)), "Expected `datetime` with a timezone component"),  # noqa: DTZ001
        (job(prioritiy=3), "Object contains unknown field `prioritiy`"),
        (17, "it is no mapping but of type int"),
    ],
)
def test_a_bad_row_is_named_by_its_position_and_nothing_is_queued(
    dsn: str, database: Connection, bad: Any, reason: str
) -> None:
    (found,) = refused(dsn, job(), bad, job())
    assert found.number == 1
    assert found.reason.startswith(reason)
    assert jobs(database) == []


def test_every_bad_row_is_named_not_only_the_first(dsn: str, database: Connection) -> None:
    database.execute("ALTER TABLE nightbatch.job ADD CONSTRAINT not_this_model CHECK (model <> 'banned')")
    rows = [job()] * 5_003 + [job(priority=0)] + [job()] * 5_000 + [job(priority=0)]
    assert [bad.number for bad in refused(dsn, *rows)] == [5_003, 10_004]
    found = refused(dsn, job(), job(model="banned"), job())
    assert [(bad.number, "not_this_model" in bad.reason) for bad in found] == [(1, True)]
    assert jobs(database) == []


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (["job_type", "provider", "headline"], "there is 'headline'"),
        (["job_type", "provider", "input", "input"], "'input' stands there twice"),
        ([], "must name the columns"),
        ([0, 1, 2], "there is 0, 1, 2"),
    ],
)
def test_a_frame_with_other_columns_is_refused_as_a_whole(dsn: str, columns: list[Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        nightbatch.enqueue(pandas.DataFrame([["x"] * len(columns)], columns=columns), dsn=dsn)


@pytest.mark.parametrize("single", [job(), "jobs.jsonl"])
def test_what_is_neither_a_frame_nor_several_jobs_is_told(dsn: str, single: Any) -> None:
    with pytest.raises(ConfigurationError, match="takes a DataFrame, or several jobs"):
        nightbatch.enqueue(single, dsn=dsn)


def test_nothing_given_is_nothing_queued(dsn: str) -> None:
    assert nightbatch.enqueue([], dsn=dsn) == []
    assert nightbatch.enqueue(pandas.DataFrame(columns=["job_type", "provider", "input"]), dsn=dsn) == []


def test_the_database_is_the_one_of_the_command_line(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBATCH_DSN", dsn)
    assert len(nightbatch.enqueue([job()])) == 1
    monkeypatch.delenv("NIGHTBATCH_DSN")
    with pytest.raises(ConfigurationError, match="set NIGHTBATCH_DSN"):
        nightbatch.enqueue([job()])


def test_a_producer_needs_no_other_role(dsn: str, database: Connection) -> None:
    """Keys included, though the role may not read the keys of others."""
    with login(dsn, "nightbatch_producer") as as_producer:
        rows: list[Mapping[str, Any]] = [job(), job(dedup_key="k"), job(dedup_key="k")]
        ids = nightbatch.enqueue(rows, dsn=as_producer)
        assert ids == [jobs(database)[0], jobs(database)[1], jobs(database)[1]]
        with psycopg.connect(as_producer) as producer, pytest.raises(psycopg.errors.InsufficientPrivilege):
            producer.execute("SELECT dedup_key FROM nightbatch.job")


def test_the_import_is_quick_and_dicts_need_no_pandas(dsn: str) -> None:
    code = (
        "import sys, nightbatch; early = {'psycopg', 'pandas', 'pydantic', 'msgspec'} & set(sys.modules)\n"
        "nightbatch.enqueue([{'job_type': 'creative_scoring', 'provider': 'openai', 'input': {'headline': 'x'}}],"
        " dsn=sys.argv[1])\n"
        "print(sorted(early), 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, dsn], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"

"""Files of jobs as people have them: read as they were meant, or refused with the trouble and its line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nightbatch
from nightbatch.core.errors import ConfigurationError
from nightbatch.job_types import job_types
from nightbatch.jobs.intake import BadLine, Enqueued, JobsRefused, check_file, enqueue_file
from nightbatch.postgres.store import Store, open_store

HEAD = "job_type,provider,input.headline"


@pytest.fixture
def store(dsn: str) -> Iterator[Store]:
    with open_store(dsn) as opened:
        yield opened


@pytest.fixture
def put(store: Store, tmp_path: Path) -> Any:
    """Enqueue bytes or text as a file of this name."""

    def enqueue(name: str, content: str | bytes, **options: Any) -> Enqueued:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return enqueue_file(store, job_types(), path, **options)

    return enqueue


def headlines(store: Store) -> list[str]:
    rows = store.connection.execute("SELECT input ->> 'headline' FROM nightbatch.job ORDER BY id").fetchall()
    return [row[0] for row in rows]


def line(headline: str, **more: Any) -> str:
    job = {"job_type": "creative_scoring", "provider": "openai", "input": {"headline": headline}} | more
    return json.dumps(job, ensure_ascii=False)


TWO = f"{line('Näh')}\n{line('Two')}\n"
TABLE = f"{HEAD}\ncreative_scoring,openai,Näh\ncreative_scoring,openai,Two\n"


# -- encodings and line ends


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(("name", "text"), [("jobs.jsonl", TWO), ("jobs.csv", TABLE)])
def test_a_file_that_says_its_encoding_is_read(
    put: Any, store: Store, name: str, text: str, encoding: str, ends: str
) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    assert put(name, (mark + text.replace("\n", ends)).encode(encoding)) == Enqueued(new=2)
    assert headlines(store) == ["Näh", "Two"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_array_is_read_in_any_encoding(put: Any, store: Store, encoding: str) -> None:
    assert put("jobs.json", f"[\n{line('Näh')},\n{line('Two')}]".encode(encoding)) == Enqueued(new=2)
    assert headlines(store) == ["Näh", "Two"]


@pytest.mark.parametrize(("name", "text"), [("jobs.jsonl", TWO), ("jobs.csv", TABLE)])
def test_bytes_that_are_no_utf_8_are_named_with_their_line(put: Any, store: Store, name: str, text: str) -> None:
    done = put(name, text.encode("cp1252"))
    number = 1 if name.endswith("l") else 2
    assert done.bad == [BadLine(number, "not UTF-8, looks like Windows-1252: save the file as UTF-8")]
    assert headlines(store) == ["Two"]


def test_a_header_that_is_no_utf_8_and_utf_16_without_its_mark_are_refused(put: Any) -> None:
    with pytest.raises(ConfigurationError, match="the first line: not UTF-8, looks like Windows-1252"):
        put("jobs.csv", TABLE.replace("headline", "überschrift").encode("latin-1"))
    with pytest.raises(ConfigurationError, match="looks like UTF-16 without its byte order mark"):
        put("jobs.jsonl", TWO.encode("utf-16-le"))
    with pytest.raises(ConfigurationError, match="is no UTF-16 to its end"):
        put("jobs.jsonl", TWO.encode("utf-16")[:-1])
    with pytest.raises(ConfigurationError, match=r"jobs.json, line 2: not UTF-8, looks like Windows-1252"):
        put("jobs.json", f"[\n{line('Näh')}]".encode("cp1252"))


def test_files_that_were_put_together_are_read(put: Any) -> None:
    assert put("jobs.jsonl", TWO.encode("utf-8-sig") + TWO.encode("utf-8-sig")) == Enqueued(new=4)


def test_nul_bytes_are_named(put: Any) -> None:
    done = put("jobs.jsonl", TWO.encode() + b"\0" * 20 + b"\n")
    assert done.bad == [BadLine(3, "it holds NUL bytes: the file was cut short, or is no text")]
    done = put("jobs.csv", TABLE.replace("Two", "T\0o"))
    assert done.bad == [BadLine(3, "it holds a NUL byte: the file was cut short, or is no text")]


def test_a_file_that_ends_in_the_middle_of_a_line_says_so(put: Any) -> None:
    done = put("jobs.jsonl", TWO.rstrip()[:-4])
    assert (done.new, done.bad[0].number) == (1, 2)
    assert done.bad[0].reason.startswith("the file ends in the middle of this line")
    done = put("cut.jsonl", line("Café").encode()[:-4] + b"\n" + line("é").encode().partition(b"\xa9")[0])
    assert done.bad[1] == BadLine(2, "it ends in the middle of a character: the file was cut short")


# -- compression and other kinds of files


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.jsonl.gz", TWO), ("a.csv.gz", TABLE), ("a.json.gz", f"[{line('Näh')},{line('Two')}]"), ("a.jsonl", TWO)],
)
def test_a_file_may_be_compressed(put: Any, store: Store, name: str, text: str) -> None:
    assert put(name, gzip.compress(text.encode())) == Enqueued(new=2)
    assert headlines(store) == ["Näh", "Two"]


@pytest.mark.parametrize("cut", [2, 12, -9])
def test_a_compressed_file_that_was_cut_short_queues_nothing(put: Any, store: Store, cut: int) -> None:
    text = "".join(f"{line(str(n) * 50)}\n" for n in range(20_000))
    with pytest.raises(ConfigurationError, match="is cut short or damaged"):
        put("jobs.jsonl.gz", gzip.compress(text.encode())[:cut])
    assert headlines(store) == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("jobs.xlsx", b"PK\x03\x04", "save the workbook as CSV UTF-8"),
        ("jobs.csv", b"PK\x03\x04", "an Excel workbook: in Excel, save it as CSV UTF-8"),
        ("jobs.parquet", b"PAR1", r"nightbatch.enqueue\(pandas.read_parquet"),
        ("jobs.jsonl.zst", b"\x28\xb5\x2f\xfd", "only .jsonl, .json and .csv"),
        ("jobs.jsonl", b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        ("jobs.txt", b"", "only .jsonl, .json and .csv"),
    ],
)
def test_what_is_no_file_of_jobs_is_refused_in_words(put: Any, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        put(name, content)


# -- JSON


def test_the_jobs_of_an_array_are_named_by_the_line_on_which_they_begin(put: Any) -> None:
    jobs = [json.loads(line("One")), json.loads(line("Two", priority=11)), 17]
    done = put("jobs.json", json.dumps(jobs, indent=2))
    assert (done.new, [bad.number for bad in done.bad]) == (1, [9, 17])


@pytest.mark.parametrize(
    "text",
    [
        f'{{"jobs": [{line("One")}, {line("Two")}]}}',
        f"{line('One')}\n{line('Two')}",
        f"[{line('One')},\n{line('Two')}]",
    ],
)
def test_what_is_in_a_json_file_is_told_by_what_stands_there(put: Any, store: Store, text: str) -> None:
    assert put("jobs.json", text) == Enqueued(new=2)
    assert headlines(store) == ["One", "Two"]


def test_one_job_written_over_many_lines_is_a_json_file(put: Any) -> None:
    assert put("job.json", json.dumps(json.loads(line("One")), indent=2)) == Enqueued(new=1)


def test_an_array_under_a_name_of_lines_is_read(put: Any) -> None:
    assert put("jobs.jsonl", f"[{line('One')}, {line('Two')}]") == Enqueued(new=2)
    with pytest.raises(ConfigurationError, match="is no JSON array of jobs"):
        put("cut.json", f"[{line('One')}, ")


# -- tables


@pytest.mark.parametrize("mark", [";", "\t", "|", ","])
def test_what_separates_the_columns_is_seen_in_the_first_line(put: Any, store: Store, mark: str) -> None:
    row = mark.join(["creative_scoring", "openai", '"a,b;c|d\te"'])
    assert put("jobs.csv", f"{HEAD.replace(',', mark)}\r\n{row}\r\n".encode("utf-8-sig")) == Enqueued(new=1)
    assert headlines(store) == ["a,b;c|d\te"]


def test_excels_line_about_the_separator_is_heeded(put: Any) -> None:
    text = f"sep=;\r\n{HEAD.replace(',', ';')}\r\ncreative_scoring;openai;One\r\ncreative_scoring;nobody;Two\r\n"
    done = put("jobs.csv", text)
    assert (done.new, [bad.number for bad in done.bad]) == (1, [4])


def test_empty_rows_and_trailing_columns_of_excel_are_passed_over(put: Any, store: Store) -> None:
    text = f"{HEAD},,\r\ncreative_scoring,openai,One,,\r\n,,,,\r\n\r\ncreative_scoring,openai,Two,,\r\n"
    assert put("jobs.csv", text) == Enqueued(new=2)
    done = put("more.csv", f"{HEAD},,\r\ncreative_scoring,openai,Three,x,\r\n")
    assert done.bad == [BadLine(2, "the row has more cells than the first line has names")]
    done = put("gap.csv", "job_type,,provider,input.headline\ncreative_scoring,x,openai,Three\n")
    assert done.bad == [BadLine(2, "a cell stands below no name of a column")]


def test_cells_too_many_and_too_few_are_named(put: Any) -> None:
    done = put(
        "jobs.csv", f"{HEAD}\ncreative_scoring,openai,One, two\ncreative_scoring,openai\ncreative_scoring,openai,x\n"
    )
    assert done == Enqueued(
        new=1,
        bad=[
            BadLine(2, "the row has more cells than the first line has names"),
            BadLine(3, "the row has 2 cells, and the first line names 3 columns"),
        ],
    )


def test_a_quote_that_is_never_closed_costs_its_own_row_only(put: Any, store: Store) -> None:
    rows = [f"creative_scoring,openai,Headline {n}" for n in range(40)]
    rows[1] = 'creative_scoring,openai,"The 27 inch screen'
    done = put("jobs.csv", "\n".join([HEAD, *rows]))
    assert done == Enqueued(
        new=39, bad=[BadLine(3, "a quote opens on this line and is not closed where its cell ends")]
    )
    assert max(map(len, headlines(store))) < 20


@pytest.mark.parametrize(
    "later", ['creative_scoring,openai,"Tea, cold"', 'creative_scoring,openai,27"', '"creative_scoring",openai,x']
)
def test_a_quote_that_a_later_one_seems_to_close_costs_its_own_row_only(put: Any, store: Store, later: str) -> None:
    rows = [
        'creative_scoring,openai,"The 27 inch screen',
        "creative_scoring,openai,One",
        later,
        "creative_scoring,openai,Two",
    ]
    done = put("jobs.csv", "\n".join([HEAD, *rows]) + "\n")
    assert [bad.number for bad in done.bad] == [2]
    assert len(headlines(store)) == 3


def test_ten_thousand_open_quotes_are_ten_thousand_bad_rows(put: Any) -> None:
    done = put("jobs.csv", "\n".join([HEAD, *(['creative_scoring,openai,"x'] * 10_000)]))
    assert (done.new, len(done.bad)) == (0, 10_000)


def test_backslashes_before_quotes_are_named(put: Any) -> None:
    done = put("jobs.csv", 'job_type,provider,input\n"creative_scoring","openai","{\\"headline\\": \\"A, B\\"}"\n')
    assert done.bad[0].reason.startswith("a quote stands in the middle of a cell: write it twice")


def test_a_cell_of_many_lines_is_kept(put: Any, store: Store) -> None:
    assert put("jobs.csv", f'{HEAD}\r\ncreative_scoring,openai,"One\r\nand, ""two"""\r\n') == Enqueued(new=1)
    assert headlines(store) == ['One\r\nand, "two"']


def test_values_as_excel_writes_them(put: Any, store: Store) -> None:
    head = f"{HEAD},fallback,priority,deadline"
    rows = [
        "creative_scoring,openai ,A,TRUE,7.0,2027-01-01T02:00:00Z",
        "creative_scoring,openai,B,FALSE,7,2027-01-01 02:00+01:00",
        "creative_scoring,openai,C,TRUE,7,2027-01-01 02:00",
        "creative_scoring,openai,D,TRUE,7,01/02/2027",
    ]
    done = put("jobs.csv", "\n".join([head, *rows]))
    assert (done.new, [bad.number for bad in done.bad]) == (2, [4, 5])
    assert done.bad[0].reason.startswith("deadline: it does not say in which time zone")
    assert done.bad[1].reason.startswith("deadline: no time that can be read")
    kept = store.connection.execute("SELECT fallback, priority FROM nightbatch.job ORDER BY id").fetchall()
    assert kept == [(True, 7), (False, 7)]


def test_a_column_that_there_is_not_is_named_with_the_one_that_was_meant(put: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"there is 'Priorty' \(priority\?\)"):
        put("jobs.csv", f"{HEAD},Priorty\n")


def test_json_text_in_a_cell_is_read_where_the_type_wants_no_text(put: Any, store: Store) -> None:
    text = (
        "job_type,provider,input.template,input.values,input.schema,input.max_tokens\n"
        'bulk_predictions,openai,Is $t nice?,"{""t"": 19.90}",'
        '"{""type"":""object"",""properties"":{""a"":{""type"":""string""}}}",64\n'
    )
    assert put("jobs.csv", text) == Enqueued(new=1)
    kept = store.connection.execute("SELECT input::text FROM nightbatch.job").fetchall()
    schema = '{"type":"object","properties":{"a":{"type":"string"}}}'
    assert kept == [(f'{{"template":"Is $t nice?","values":{{"t": 19.90}},"schema":{schema},"max_tokens":64}}',)]


def test_members_of_members_may_be_columns(put: Any, store: Store) -> None:
    text = (
        "job_type,provider,input.template,input.values.t,input.values.u,input.schema\n"
        'bulk_predictions,openai,$t $u,tea,19.90,"{""type"":""object"",""properties"":{""a"":{""type"":""string""}}}"\n'
    )
    assert put("jobs.csv", text) == Enqueued(new=1)
    assert store.connection.execute("SELECT input -> 'values' FROM nightbatch.job").fetchall() == [
        ({"t": "tea", "u": "19.90"},)
    ]


# -- what the night would reject, nothing twice, and all or nothing


def test_a_file_again_queues_nothing_twice_and_an_edited_one_only_what_is_new(put: Any) -> None:
    assert put("jobs.jsonl", f"{TWO}{line('Two')}\n") == Enqueued(new=3)
    assert put("again.jsonl", f"{TWO}{line('Two')}\n") == Enqueued(known=3)
    assert put("edited.jsonl", f"{line('New')}\n{TWO}{line('Two')}\n{line('Two')}\n") == Enqueued(new=2, known=3)
    other_words = '{"provider":"openai", "input":{"headline": "Two"},  "job_type": "creative_scoring", "priority": 9}'
    assert put("same.jsonl", other_words) == Enqueued(known=1)
    assert put("jobs.csv", TABLE) == Enqueued(known=2)
    assert put("again.jsonl", TWO, again=True) == Enqueued(new=2)


def test_all_or_nothing_inserts_nothing_for_one_bad_line(put: Any, store: Store) -> None:
    with pytest.raises(JobsRefused, match="line 3: headline: Field required") as caught:
        put("jobs.jsonl", TWO + line("x").replace('{"headline": "x"}', "{}"), all_or_nothing=True)
    assert [bad.number for bad in caught.value.bad] == [3]
    assert headlines(store) == []
    assert put("jobs.jsonl", TWO, all_or_nothing=True) == Enqueued(new=2)


def test_a_check_needs_no_database(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(TWO + line("x", priority=11))
    done = check_file(job_types(), path)
    assert (done.new, [bad.number for bad in done.bad]) == (2, [3])


def test_what_only_this_machine_lacks_is_no_reason(put: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "types").mkdir()
    (tmp_path / "types" / "own.py").write_text(OWN)
    monkeypatch.setenv("NIGHTBATCH_JOB_TYPES", str(tmp_path / "types"))
    job = '{"job_type": "%s", "provider": "openai", "input": {"topic": "%s"}}\n'
    done = put("jobs.jsonl", job % ("from_a_file", "x") + job % ("picky", "x") + job % ("picky", ""))
    assert (done.new, [bad.number for bad in done.bad]) == (2, [3])
    assert "ZeroDivisionError" in done.bad[0].reason


OWN = """
from typing import ClassVar
from pydantic import BaseModel
from nightbatch.job_types.base import JobType
from nightbatch.core.models import Prompt

class Picky(JobType):
    name = "picky"
    models: ClassVar = {"openai": "gpt-6-luna"}
    example: ClassVar = {"topic": "rain"}

    class Input(BaseModel):
        topic: str

    class Output(BaseModel):
        lines: list[str]

    def request(self, job: Input) -> Prompt:
        return Prompt(user=f"{1 / len(job.topic)}")

class FromAFile(Picky):
    name = "from_a_file"

    def request(self, job):
        return Prompt(user="x" if job.topic == "rain" else open("/no/such/file").read())
"""


# -- the providers' own batch files


def chat(name: str, **more: Any) -> dict[str, Any]:
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Hi"}]}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body} | more


def message(name: str) -> dict[str, Any]:
    return {"custom_id": name, "params": {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": []}}


def generate(name: str) -> dict[str, Any]:
    return {"key": name, "request": {"contents": [{"parts": [{"text": "Hi"}]}]}}


def test_lines_of_the_providers_batch_files_are_raw_jobs(put: Any, store: Store) -> None:
    lines = [chat("a"), message("b"), generate("c")]
    assert put("batch.jsonl", "\n".join(map(json.dumps, lines)), model="gemini-3.5-flash-lite") == Enqueued(new=3)
    kept = store.connection.execute(
        "SELECT job_type, provider, model, labels, input FROM nightbatch.job ORDER BY id"
    ).fetchall()
    assert kept == [
        ("raw", "openai", "gpt-6-luna", {"custom_id": "a"}, {"url": "/v1/chat/completions", "body": chat("a")["body"]}),
        ("raw", "anthropic", "claude-haiku-5-5", {"custom_id": "b"}, {"body": message("b")["params"]}),
        ("raw", "gemini", "gemini-3.5-flash-lite", {"custom_id": "c"}, {"body": generate("c")["request"]}),
    ]


def test_a_batch_file_again_queues_nothing_and_other_ids_are_other_jobs(put: Any) -> None:
    assert put("batch.jsonl", json.dumps(chat("a"))) == Enqueued(new=1)
    assert put("batch.jsonl", json.dumps(chat("a")) + "\n" + json.dumps(chat("b"))) == Enqueued(new=1, known=1)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (chat("a"), "its custom_id stands on line 1 already"),
        (chat("x", method="GET"), "its method is not POST"),
        (chat("x", url="/v1/assistants"), "url: Input should be '/v1/chat/completions', "),
        (chat("x", boddy={}), "as a line of a batch file of openai: Object contains unknown field `boddy`"),
        (chat("x", body={"messages": []}), "it names no model: say which one by --model"),
        (chat("x", body=[]), "as a line of a batch file of openai: Expected `object`, got `array`"),
        (generate("x"), "it names no model: say which one by --model"),
        (chat("x", body={"model": "gpt 6", "messages": []}), "model: it holds white space"),
    ],
)
def test_a_bad_line_of_a_batch_file_is_named(put: Any, bad: dict[str, Any], reason: str) -> None:
    done = put("batch.jsonl", json.dumps(chat("a")) + "\n" + json.dumps(bad))
    assert (done.new, [line.number for line in done.bad]) == (1, [2])
    assert done.bad[0].reason.startswith(reason)


def test_anthropics_request_body_is_a_file_of_jobs(put: Any) -> None:
    assert put("batch.json", json.dumps({"requests": [message("a"), message("b")]}, indent=1)) == Enqueued(new=2)


# -- object storage


def test_a_file_of_object_storage_is_read(dsn: str, store: Store, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    assert nightbatch.enqueue_file(f"file://{tmp_path}/jobs.csv.gz", dsn=dsn) == Enqueued(new=2)
    assert nightbatch.enqueue_file(tmp_path / "jobs.csv.gz", dsn=dsn) == Enqueued(known=2)
    assert headlines(store) == ["Näh", "Two"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("s3://bucket/jobs.jsonl", r"install apache-airflow-providers-amazon\[s3fs\]"),
        ("nothing://bucket/jobs.jsonl", "Airflow cannot open nothing:// here"),
        ("file:///no/such/jobs.jsonl", "is no file"),
        ("no/such/jobs.jsonl", "is no file"),
    ],
)
def test_what_cannot_be_opened_is_told(dsn: str, address: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        nightbatch.enqueue_file(address, dsn=dsn)

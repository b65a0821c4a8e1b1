"""Load: from the result lines of ended batches to committed rows, against the server's own COPY of the same rows.

The lines are OpenAI's, of about 2.2 kB, in batches of 50,000 and in no order; 20 of 100,000 are garbled, though the provider
counts them as succeeded. So every batch is downloaded twice, and ends with jobs whose results are missing.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psycopg

from nightbatch.batches import loading
from nightbatch.core.models import Submission
from nightbatch.core.pricing import rates_for
from nightbatch.job_types import job_types
from nightbatch.postgres.store import open_store
from tests.bench.offline import OfflineOpenAI
from tests.bench.stages import Place, jobs, plan
from tests.unguarded import unguarded

BATCH = 50_000
_GARBLED = 5_000  # one line in so many
_COLUMNS = (
    "job_id, batch_id, outcome, billed, output, finish_reason, input_tokens, cached_tokens, output_tokens,"
    " realtime_cost_usd, batch_cost_usd, price_source, error"
)
_MODEL = "gpt-5-mini"
rates_for("openai", _MODEL, at=datetime.now(UTC))  # reads the list of prices, which is part of what is imported
_WORDS = (
    "the headline names what the reader gets, though \"free\" stands twice\n",
    "it speaks to people who commute — naïve readers may miss the point",
    "warm, a little sentimental, and close to how the audience talks",
    "seen before: three competitors ran the same line last spring",
    "the button says what happens next and asks for nothing else",
    "a question would do more here than a claim; café owners know their trade",
)  # fmt: skip
_INSTRUCTIONS = job_types()["creative_scoring"].system
_DIMENSIONS = ("clarity", "relevance", "emotion", "originality", "call_to_action")
_SENT = """
    WITH run AS (
        INSERT INTO nightbatch.run (id) VALUES ('bench') RETURNING id
    ), sent AS (
        INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, job_count, state, account_fingerprint,
            payload_sha256, input_file, provider_batch_id, uploaded_at, intent_at, submitted_at)
        SELECT run.id, 'openai', %(model)s, 'responses', part, least(%(batch)s, %(jobs)s - (part - 1) * %(batch)s), 'submitted',
            'bench', 'bench', 'file-' || part, 'batch_' || part, now(), now(), now()
        FROM run, generate_series(1, (%(jobs)s - 1) / %(batch)s + 1) AS part RETURNING id, part
    )
    INSERT INTO nightbatch.batch_job (batch_id, job_id)
    SELECT sent.id, job.id
    FROM (
        SELECT id, (row_number() OVER (ORDER BY priority DESC, id) - 1) / %(batch)s + 1 AS part FROM nightbatch.job
    ) AS job JOIN sent USING (part)
"""
_RESET = """
    TRUNCATE nightbatch.result, nightbatch.reject, nightbatch.open_job, nightbatch.alert, nightbatch.alert_sent,
        nightbatch_report.batch_rollup, nightbatch_report.label_rollup, bench_result;
    INSERT INTO nightbatch.open_job (job_id, batch_id, attempts) SELECT job_id, batch_id, 1 FROM nightbatch.batch_job;
    UPDATE nightbatch.batch SET state = 'submitted', closed_at = NULL, ended_at = NULL;
"""


class _Kept(OfflineOpenAI):
    """Downloads are needed again in the next round."""

    def delete_files(self, submission: Submission, provider_batch_id: str | None) -> None:
        pass


def prepare(place: Place) -> None:
    """Jobs, batches that were sent, the files of their results, and the rows that a first load makes of them."""
    values = {"jobs": place.jobs, "batch": BATCH, "model": _MODEL}
    plan.insert(place, "creative_scoring", jobs.creative)
    with psycopg.connect(place.dsn, autocommit=True) as connection, unguarded(connection):
        connection.execute(_SENT, values)
        connection.execute("CREATE TABLE bench_result (LIKE nightbatch.result INCLUDING ALL)")
        for part, batch_id in connection.execute("SELECT part, id FROM nightbatch.batch").fetchall():
            _write_results(connection, place.folder / f"batch_{part}", batch_id)
    reset(place)
    ours(place)
    query = f"COPY (SELECT {_COLUMNS} FROM nightbatch.result) TO STDOUT"
    with (
        psycopg.connect(place.dsn) as connection,
        _rows(place).open("wb") as file,
        connection.cursor().copy(query) as copy,
    ):
        for data in copy:
            file.write(data)
    _rows(place).chmod(0o644)


def reset(place: Place) -> None:
    """All batches are submitted, and none is loaded."""
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        with unguarded(connection):
            connection.execute(_RESET)
        connection.execute("VACUUM ANALYZE nightbatch.open_job, nightbatch.batch_job, nightbatch.job, nightbatch.batch")
        connection.execute("CHECKPOINT")


def reference(place: Place) -> None:
    """The server reads the finished rows from its own disk into a table of the same shape."""
    with psycopg.connect(place.dsn) as connection:
        connection.execute(f"COPY bench_result ({_COLUMNS}) FROM '{_rows(place)}'")


def ours(place: Place) -> float:
    """Load every batch, one after the other: seconds, once there is a client of OpenAI."""
    provider, types = _Kept(place.folder), job_types()
    began = time.perf_counter()
    with open_store(place.dsn) as store:
        for batch in store.open_attempts():
            loading.load_batch(store, provider, types, batch.id)
    return time.perf_counter() - began


def _rows(place: Place) -> Path:
    return place.folder / "rows.copy"


def _write_results(connection: psycopg.Connection, path: Path, batch_id: int) -> None:
    chance = random.Random(batch_id)
    query = "SELECT job_id FROM nightbatch.batch_job WHERE batch_id = %s ORDER BY job_id"
    members = [row[0] for row in connection.execute(query, [batch_id])]
    chance.shuffle(members)
    path.with_suffix(".counts").write_bytes(orjson.dumps([len(members), len(members), 0]))
    with path.with_suffix(".answers").open("wb") as file:
        for number, job_id in enumerate(members, start=1):
            line = orjson.dumps(_line(chance, job_id, batch_id))
            file.write((line[:-40] if number % _GARBLED == 0 else line) + b"\n")


def _line(chance: random.Random, job_id: int, batch_id: int) -> dict[str, object]:
    """A line as the responses endpoint gives it: https://platform.openai.com/docs/api-reference/responses/object"""
    number = f"{chance.getrandbits(160):040x}"
    scores = {name: {"score": chance.randint(1, 10), "reason": _reason(chance)} for name in _DIMENSIONS}
    verdict = {**scores, "overall": chance.randint(1, 100), "verdict": chance.choice(("run", "revise", "drop"))}
    part = {"type": "output_text", "text": orjson.dumps(verdict).decode(), "annotations": [], "logprobs": []}
    message = {"type": "message", "id": f"msg_{number}", "status": "completed", "role": "assistant", "content": [part]}
    asked, said = chance.randint(700, 1100), chance.randint(180, 320)
    usage = {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": chance.choice((0, 0, 512)), "cache_write_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + said,
    }
    body = {
        "id": f"resp_{number}", "object": "response", "created_at": 1_795_000_000, "status": "completed", "error": None,
        "incomplete_details": None, "instructions": _INSTRUCTIONS, "max_output_tokens": 1024, "model": _MODEL,
        "output": [message], "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [],
        "top_p": 1.0, "metadata": {}, "service_tier": "default", "usage": usage,
    }  # fmt: skip
    response = {"status_code": 200, "request_id": f"req_{number}", "body": body}
    return {"id": f"batch_req_{number}", "custom_id": f"j{job_id}_a{batch_id}", "response": response, "error": None}


def _reason(chance: random.Random) -> str:
    return "; ".join(chance.sample(_WORDS, chance.choice((2, 2, 3)))).capitalize()

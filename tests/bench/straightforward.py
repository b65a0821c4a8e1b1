"""A night as it is written in an afternoon: row by row, with json and pandas, and nothing of what nightbatch promises.

No ledger, no crash safety, no quarantine, no dedup, and a price that stands in the code; answers are checked as nightbatch does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
from sqlalchemy import create_engine

from nightbatch.job_types.creative_scoring import CreativeScoring

MODEL = "gpt-6-luna"
_BATCH = 50_000
_TABLES = """
    CREATE TABLE public.queue (id bigserial PRIMARY KEY, job_type text, provider text, priority int, input json,
        state text DEFAULT 'queued', batch int);
    CREATE TABLE public.answer (id bigint PRIMARY KEY, output text, input_tokens int, output_tokens int,
        realtime_usd double precision, batch_usd double precision);
"""


def make_tables(dsn: str) -> None:
    """What such a script begins with."""
    with psycopg.connect(dsn, autocommit=True) as database:
        database.execute(_TABLES)


def enqueue(dsn: str, path: Path) -> None:
    """A file of jobs, one INSERT each."""
    with psycopg.connect(dsn) as database, path.open() as file:
        for line in file:
            job = json.loads(line)
            database.execute(
                "INSERT INTO public.queue (job_type, provider, priority, input) VALUES (%s, %s, %s, %s)",
                (job["job_type"], job["provider"], job.get("priority", 5), json.dumps(job["input"])),
            )


def write_batches(dsn: str, folder: Path) -> list[Path]:
    """The queue as a frame, and a file of requests for every 50,000 jobs."""
    kind = CreativeScoring()
    engine = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:", 1))
    frame = pd.read_sql("SELECT * FROM public.queue WHERE state = 'queued' ORDER BY priority DESC, id", engine)
    paths = []
    for number, start in enumerate(range(0, len(frame), _BATCH)):
        part = frame.iloc[start : start + _BATCH]
        paths.append(folder / f"plain-{number}.jsonl")
        with paths[-1].open("w") as file:
            for _, row in part.iterrows():
                user = "\n".join(f"{name}: {value}" for name, value in row["input"].items())
                body: dict[str, Any] = {
                    "model": MODEL,
                    "input": user,
                    "instructions": kind.system,
                    "max_output_tokens": 1024,
                }
                body["text"] = {"format": {"type": "json_schema", "name": "creative_score", "schema": kind.schema}}
                line = {"custom_id": str(row["id"]), "method": "POST", "url": "/v1/responses", "body": body}
                file.write(json.dumps(line) + "\n")
        with psycopg.connect(dsn) as database:
            for job_id in part["id"]:
                database.execute(
                    "UPDATE public.queue SET state = 'sent', batch = %s WHERE id = %s", (number, int(job_id))
                )
    return paths


def load(dsn: str, paths: list[Path], prices: tuple[float, float]) -> pd.DataFrame:
    """The answers as a frame, into a table; the sums of the night. ``prices``: USD per input and output token in a batch."""
    engine = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:", 1))
    read: Callable[[str], CreativeScoring.Output] = CreativeScoring.Output.model_validate_json
    for path in paths:
        rows = []
        with path.open() as file:
            for line in file:
                try:
                    answer = json.loads(line)
                except json.JSONDecodeError:
                    continue
                body = answer["response"]["body"]
                usage, text = body["usage"], body["output"][0]["content"][0]["text"]
                paid = usage["input_tokens"] * prices[0] + usage["output_tokens"] * prices[1]
                rows.append(
                    {
                        "id": int(answer["custom_id"]),
                        "output": read(text).model_dump_json(),
                        "input_tokens": usage["input_tokens"],
                        "output_tokens": usage["output_tokens"],
                        "realtime_usd": 2 * paid,
                        "batch_usd": paid,
                    }
                )
        frame = pd.DataFrame(rows)
        frame.to_sql("answer", engine, schema="public", if_exists="append", index=False)
        with psycopg.connect(dsn) as database:
            for job_id in frame["id"]:
                database.execute("UPDATE public.queue SET state = 'done' WHERE id = %s", (int(job_id),))
    sums = "SELECT job_type, count(*), sum(realtime_usd - batch_usd) AS saved FROM public.answer JOIN public.queue USING (id)"
    return pd.read_sql(f"{sums} GROUP BY job_type", engine)

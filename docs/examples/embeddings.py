"""Turn a pandas frame of texts into vectors.

`queue` hands the frame to `nightbatch.enqueue`, which gives a job id for each row; after the night `show` reads the vectors
back into a frame.
"""

import os
import sys

import pandas as pd
import psycopg

import nightbatch

TEXTS = ["a red bicycle", "a red bicycle bell", "the tax office", "an income tax return"]


def queue() -> None:
    frame = pd.DataFrame({"input.text": TEXTS, "input.dimensions": 64})
    frame["job_type"], frame["provider"] = "embedding_generation", "openai"
    frame["dedup_key"] = [f"example-text-{number}" for number in range(len(frame))]
    frame["job_id"] = nightbatch.enqueue(frame)
    print(frame[["job_id", "input.text"]].to_string(index=False))


def show() -> None:
    query = """
        SELECT j.input ->> 'text' AS text, e.embedding::text AS vector
        FROM nightbatch.embedding AS e JOIN nightbatch.job AS j ON j.id = e.job_id
        WHERE j.dedup_key LIKE 'example-text-%' ORDER BY j.id
    """
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        frame = pd.DataFrame(connection.execute(query).fetchall(), columns=["text", "vector"])
    frame["dimensions"] = frame.pop("vector").str.count(",") + 1
    print(frame.to_string(index=False))


if __name__ == "__main__":
    {"queue": queue, "show": show}[sys.argv[1]]()

"""The vectors of embedding jobs as a vector store: nearest neighbours in SQL, joined with your own tables.

`nightbatch.similar(jobs, n)` gives the n nearest vectors of the same model for each job. It needs pgvector. From a shell:
`nightbatch similar 17`.
"""

import os
import sys

import psycopg

SHOW = """
    SELECT q.input ->> 'text', n.input ->> 'text', s.similarity
    FROM nightbatch.similar(ARRAY(SELECT id FROM nightbatch.job WHERE dedup_key LIKE 'example-text-%'), 1) AS s
    JOIN nightbatch.job AS q ON q.id = s.of_job
    JOIN nightbatch.job AS n ON n.id = s.job_id
    ORDER BY s.of_job
"""


def queue() -> None:
    print("The texts are those of embeddings.py.")


def show() -> None:
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        for text, nearest, similarity in connection.execute(SHOW):
            print(f"{text!r} is nearest to {nearest!r} ({similarity:.2f})")


if __name__ == "__main__":
    {"queue": queue, "show": show}[sys.argv[1]]()

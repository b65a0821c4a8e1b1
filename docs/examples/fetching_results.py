"""Read what came back: a state for every job, a result for every answer, reasons for the rest.

Nothing is queued here; `show` reads what the other examples left. The same from a shell: `nightbatch results --json`.
"""

import os
import sys

import psycopg

STATES = "SELECT state, count(*) FROM nightbatch.job_status GROUP BY state ORDER BY state"
LATEST = """
    SELECT j.id, j.job_type, b.provider, b.model, r.outcome, r.input_tokens, r.output_tokens
    FROM nightbatch.result AS r
    JOIN nightbatch.job AS j ON j.id = r.job_id
    JOIN nightbatch.batch AS b ON b.id = r.batch_id
    ORDER BY r.finished_at DESC, j.id LIMIT 5
"""


def queue() -> None:
    print("Nothing to queue.")


def show() -> None:
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        for state, jobs in connection.execute(STATES):
            print(f"{jobs:5} {state}")
        for job_id, job_type, provider, model, outcome, tokens_in, tokens_out in connection.execute(LATEST):
            print(f"job {job_id}: {job_type} by {provider} {model} {outcome}, {tokens_in} tokens in, {tokens_out} out")


if __name__ == "__main__":
    {"queue": queue, "show": show}[sys.argv[1]]()

"""Ask past questions again, here of another model, and lay old and new answers side by side.

For whole days use the Dag `nightbatch_reprocess`; this is the same by SQL. The dedup_key makes a repetition harmless.
"""

import os
import sys

import psycopg

QUEUE = """
    INSERT INTO nightbatch.job (job_type, provider, model, input, dedup_key)
    SELECT 'historical_reprocessing', 'openai', 'gpt-6-sol', json_build_object('job_id', j.id), 'example-again-' || j.id
    FROM nightbatch.job AS j JOIN nightbatch.job_status AS s ON s.job_id = j.id
    WHERE j.job_type = 'creative_scoring' AND j.provider = 'openai' AND s.state = 'succeeded'
    ON CONFLICT DO NOTHING
"""
SHOW = """
    SELECT past_job_id, old_model, old_output ->> 'overall', old_batch_cost_usd,
        new_model, new_output ->> 'overall', new_batch_cost_usd
    FROM nightbatch.reprocessed WHERE new_outcome = 'succeeded' ORDER BY past_job_id
"""


def queue() -> None:
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        print(f"{connection.execute(QUEUE).rowcount} jobs queued.")


def show() -> None:
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        for job_id, *sides in connection.execute(SHOW):
            print(
                f"job {job_id}: {sides[0]} said {sides[1]} (${sides[2]:.6f}), {sides[3]} says {sides[4]} (${sides[5]:.6f})"
            )


if __name__ == "__main__":
    {"queue": queue, "show": show}[sys.argv[1]]()

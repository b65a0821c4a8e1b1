"""A job that cannot wait: no batch would be back by its deadline, so it goes to the realtime API, once, at full price.

Off unless the job (`fallback`) or its type asks for it. `nightbatch_recover` answers it within the hour.
"""

import os
import sys
from datetime import UTC, datetime, timedelta

import psycopg

import nightbatch


def queue() -> None:
    (job_id,) = nightbatch.enqueue(
        [
            {
                "job_type": "hook_generation",
                "provider": "anthropic",
                "input": {"product": "A lamp that wakes you with light", "audience": "shift workers", "count": 2},
                "deadline": datetime.now(UTC) + timedelta(minutes=30),
                "fallback": True,
                "dedup_key": "example-urgent",
            }
        ]
    )
    print(f"Job {job_id} cannot wait for a batch.")


def show() -> None:
    query = """
        SELECT j.id, b.mode, r.outcome, r.batch_cost_usd = r.realtime_cost_usd
        FROM nightbatch.job AS j JOIN nightbatch.result AS r ON r.job_id = j.id JOIN nightbatch.batch AS b ON b.id = r.batch_id
        WHERE j.dedup_key = 'example-urgent'
    """
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        for job_id, mode, outcome, full_price in connection.execute(query):
            print(f"Job {job_id} {outcome} by {mode}{' at full price' if full_price else ''}.")


if __name__ == "__main__":
    {"queue": queue, "show": show}[sys.argv[1]]()

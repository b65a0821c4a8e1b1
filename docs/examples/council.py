"""A council: the same creative before several models, and one verdict with spread and dissent once all are in.

Members share the label `council`. In Python, `nightbatch.jobs.council.convene` does the same and checks the members.
"""

import os
import sys

import psycopg

import nightbatch

MEMBERS = [
    ("openai", "gpt-6-luna"),
    ("openai", "gpt-6-sol"),
    ("anthropic", "claude-haiku-5-5"),
    ("gemini", "gemini-3.5-flash-lite"),
]


def queue() -> None:
    creative = {"headline": "Sleep like the sea", "body": "A mattress of wool and cork."}
    ids = nightbatch.enqueue(
        {
            "job_type": "creative_scoring",
            "provider": provider,
            "model": model,
            "input": creative,
            "labels": {"council": "mattress"},
            "dedup_key": f"example-council-{model}",
        }
        for provider, model in MEMBERS
    )
    print(f"{len(ids)} models are asked.")


def show() -> None:
    query = "SELECT members, answered, complete, overall, spread, dissenter FROM nightbatch.council WHERE council = 'mattress'"
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        for members, answered, complete, overall, spread, dissenter in connection.execute(query):
            state = "The verdict is in" if complete else "Some are still to come"
            print(
                f"{state}: {overall:.0f} of 100 by {answered} of {members}, {spread} apart; {dissenter} dissents most."
            )


if __name__ == "__main__":
    {"queue": queue, "show": show}[sys.argv[1]]()

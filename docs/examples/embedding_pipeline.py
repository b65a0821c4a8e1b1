"""A pipeline: whatever is new in a table of yours is embedded every night, and only that.

The dedup_key holds a hash of the text, so an unchanged row is never paid for twice; `cache_days` answers an equal text of
another row from the earlier result. Run `queue` from your own Dag, before the night.
"""

import os
import sys

import psycopg

ARTICLES = """
    CREATE TEMPORARY TABLE article AS
    SELECT * FROM (VALUES
        (1, 'How to mend a zip'), (2, 'How to mend a zip'), (3, 'Cork, and what it is good for')) AS a (id, text)
"""
QUEUE = """
    INSERT INTO nightbatch.job (job_type, provider, input, dedup_key, labels, cache_days)
    SELECT 'embedding_generation', 'gemini', json_build_object('text', text, 'dimensions', 64),
        'article-' || id || '-' || md5(text), jsonb_build_object('article', id), 30
    FROM article ON CONFLICT DO NOTHING
"""
SHOW = """
    SELECT count(*), count(*) FILTER (WHERE s.state = 'succeeded')
    FROM nightbatch.job AS j JOIN nightbatch.job_status AS s ON s.job_id = j.id WHERE j.labels ? 'article'
"""


def queue() -> None:
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        connection.execute(ARTICLES)
        print(f"{connection.execute(QUEUE).rowcount} new texts.")


def show() -> None:
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        for texts, embedded in connection.execute(SHOW):
            print(f"{embedded} of {texts} articles have a vector.")


if __name__ == "__main__":
    {"queue": queue, "show": show}[sys.argv[1]]()

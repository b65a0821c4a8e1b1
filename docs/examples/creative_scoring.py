"""Score advertising creatives with three providers, straight from a table of yours by one SQL statement.

`queue` inserts a job for each creative and provider; after the night `show` prints the scores beside what they cost.
"""

import os
import sys

import psycopg

QUEUE = """
    INSERT INTO nightbatch.job (job_type, provider, input, dedup_key, labels)
    SELECT 'creative_scoring', provider, json_build_object('headline', headline, 'body', body, 'audience', 'commuters'),
        'example-' || headline || '-' || provider, '{"team": "marketing"}'
    FROM (VALUES ('Coffee that waits for you', 'Set it at night, wake to it.'),
                 ('Your old coat, warm again', 'Send it in a paper bag.')) AS ads (headline, body)
    CROSS JOIN unnest(ARRAY['openai', 'anthropic', 'gemini']) AS provider
    ON CONFLICT DO NOTHING
"""
SHOW = """
    SELECT j.provider, j.input ->> 'headline', r.output ->> 'overall', r.output ->> 'verdict',
        r.batch_cost_usd, r.realtime_cost_usd
    FROM nightbatch.job AS j JOIN nightbatch.result AS r ON r.job_id = j.id
    WHERE j.job_type = 'creative_scoring' AND r.outcome = 'succeeded' AND j.dedup_key LIKE 'example-%' ORDER BY 2, 1
"""


def queue() -> None:
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        print(f"{connection.execute(QUEUE).rowcount} jobs queued.")


def show() -> None:
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        for provider, headline, overall, verdict, paid, realtime in connection.execute(SHOW):
            print(f"{provider:10} {headline:28} {overall:>3} {verdict:7} ${paid:.6f} instead of ${realtime:.6f}")


if __name__ == "__main__":
    {"queue": queue, "show": show}[sys.argv[1]]()

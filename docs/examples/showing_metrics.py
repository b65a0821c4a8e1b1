"""Savings, success and turnaround, from the reporting schema: what a dashboard or a spreadsheet reads.

The role `nightbatch_reporter` sees these views and no prompt. From a shell: `nightbatch report`.
"""

import os
import sys

import psycopg

SAVED = """
    SELECT provider, sum(jobs), sum(succeeded), sum(realtime_cost_usd), sum(batch_cost_usd), sum(savings_usd)
    FROM nightbatch_report.savings_daily WHERE day > current_date - 30 GROUP BY provider ORDER BY provider
"""
TURNAROUND = """
    SELECT provider, percentile_cont(0.5) WITHIN GROUP (ORDER BY turnaround), max(turnaround)
    FROM nightbatch_report.batch_turnaround WHERE ended_at IS NOT NULL AND mode = 'batch' GROUP BY provider ORDER BY provider
"""


def queue() -> None:
    print("Nothing to queue.")


def show() -> None:
    with psycopg.connect(os.environ["NIGHTBATCH_DSN"]) as connection:
        for provider, jobs, succeeded, realtime, paid, saved in connection.execute(SAVED):
            share = succeeded / jobs
            print(
                f"{provider:10} {jobs} jobs, {share:.0%} succeeded; paid ${paid:.6f}, not ${realtime:.6f}: ${saved:.6f} saved"
            )
        for provider, median, longest in connection.execute(TURNAROUND):
            print(
                f"{provider:10} back after {median.total_seconds():.1f} s (median), {longest.total_seconds():.1f} s at most"
            )


if __name__ == "__main__":
    {"queue": queue, "show": show}[sys.argv[1]]()

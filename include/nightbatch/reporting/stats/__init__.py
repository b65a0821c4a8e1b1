"""The one read service behind the CLI, the REST API, the page and the reports: all of them show the figures made here."""

from __future__ import annotations

from nightbatch.postgres.figures import Part, Price, Reason, Run, Waiting, queue
from nightbatch.postgres.lookups import (
    FIRST,
    LAST,
    Job,
    ResultRow,
    alerts,
    all_batch_results,
    batch_results,
    job,
    job_results,
    job_types_of,
    models,
    results,
)
from nightbatch.postgres.similarity import Neighbour, nearest
from nightbatch.postgres.sums import Figures, Outcome, Progress, Slice, Turnaround, first_day
from nightbatch.reporting.stats.attempts import Attempt, attempts, not_kept, other_alerts, unregistered
from nightbatch.reporting.stats.dashboard import Dashboard, dashboard
from nightbatch.reporting.stats.metrics import Metrics, metrics
from nightbatch.reporting.stats.night import Night, batches_of, latest_run, night, progress_of
from nightbatch.reporting.stats.savings import Days, Savings, last_days, savings

__all__ = [
    "FIRST",
    "LAST",
    "Attempt",
    "Dashboard",
    "Days",
    "Figures",
    "Job",
    "Metrics",
    "Neighbour",
    "Night",
    "Outcome",
    "Part",
    "Price",
    "Progress",
    "Reason",
    "ResultRow",
    "Run",
    "Savings",
    "Slice",
    "Turnaround",
    "Waiting",
    "alerts",
    "all_batch_results",
    "attempts",
    "batch_results",
    "batches_of",
    "dashboard",
    "first_day",
    "job",
    "job_results",
    "job_types_of",
    "last_days",
    "latest_run",
    "metrics",
    "models",
    "nearest",
    "night",
    "not_kept",
    "other_alerts",
    "progress_of",
    "queue",
    "results",
    "savings",
    "unregistered",
]

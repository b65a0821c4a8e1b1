"""The one read service behind the CLI, the REST API, the page and the reports: all of them show the figures made here."""

from __future__ import annotations

from nightbatch.insights.attempts import Attempt, attempts, other_alerts
from nightbatch.insights.dashboard import Dashboard, dashboard
from nightbatch.insights.night import Night, latest_run, night, progress_of
from nightbatch.insights.savings import Days, Savings, last_days, savings
from nightbatch.postgres.figures import Price, Reason, Waiting, queue
from nightbatch.postgres.sums import Figures, Outcome, Progress, Run, Slice, Turnaround

__all__ = [
    "Attempt",
    "Dashboard",
    "Days",
    "Figures",
    "Night",
    "Outcome",
    "Price",
    "Progress",
    "Reason",
    "Run",
    "Savings",
    "Slice",
    "Turnaround",
    "Waiting",
    "attempts",
    "dashboard",
    "last_days",
    "latest_run",
    "night",
    "other_alerts",
    "progress_of",
    "queue",
    "savings",
]

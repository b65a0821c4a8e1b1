"""
### nightbatch: reprocess

Sends a past interval's jobs again: to another model, another provider, or with another version of their prompt. Old and new
results stand side by side in the view `nightbatch.reprocessed`.

- **From the UI:** *Trigger*, and say what is to change, and which days (else the day before).
- **As a backfill** over past days: each day's run sends what was answered on that day. In the form, say what is to change
  **and tick *Override parameters on existing runs***: without it Airflow 3.3 leaves all parameters of a backfill out.

**choose** queues the jobs, once for each past job, target and prompt version: the same day reprocessed twice adds none. With
*dry run* it only logs what they would cost. **send** then starts the Dag `nightbatch` for them, and waits for it.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from nightbatch.airflow.hooks import store
from nightbatch.airflow.retries import by_error
from nightbatch.airflow.runs import SendAgainOperator
from nightbatch.airflow.tasks import reprocessing_form, reprocessing_wish
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types

log = logging.getLogger("nightbatch")
settings = Settings.from_env()


@dag(
    dag_id="nightbatch_reprocess",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone=settings.timezone),
    start_date=datetime(2100, 1, 1, tzinfo=UTC),  # never by itself: the schedule only tells a backfill what a day is
    catchup=False,
    params=reprocessing_form(sorted(job_types())),
    default_args=by_error(settings, retries=5),
    dagrun_timeout=timedelta(days=3),
    doc_md=__doc__,
    tags=["nightbatch"],
)
def nightbatch_reprocess() -> None:
    choose() >> SendAgainOperator(task_id="send", poll_seconds=settings.poll_seconds)


@task
def choose(*, dag_run: Any = None, params: Any = None) -> None:
    """Queue the past jobs again; or, in a dry run, say what they would cost."""
    from nightbatch.planning import reprocessing

    wish = reprocessing_wish(dag_run, params, settings)
    with store() as ledger:
        found = reprocessing.send_again(ledger, job_types(), wish, dry_run=params["dry_run"])
    for line in found.estimates:
        log.info("Sends again %s.", line)
    if params["dry_run"]:
        raise AirflowSkipException(f"A dry run: {found.new} jobs would be queued, {found.known} were asked for before.")
    if not found.new:
        raise AirflowSkipException(f"Nothing new to send: {found.known} jobs were asked for before.")
    log.info("%s jobs are queued, %s were asked for before.", found.new, found.known)


nightbatch_reprocess()

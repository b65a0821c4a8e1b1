"""
### nightbatch: recover

Every hour: settles submissions whose outcome is in doubt, loads ended batches that no run takes care of any more, and
raises or resolves alerts about batches that are overdue, held, or bound to another account.

Then it answers, by the realtime API and at full price, the jobs that may go there and that no batch would serve by their
deadline; and sends the alerts that are new to the notifiers of `NIGHTBATCH_NOTIFIERS`.

It takes no parameters: a run that was given some, such as a dry run, is refused, and sends nothing.

What it found stands in the logs of its tasks and in the table `nightbatch.alert`. It fails, in **watch**, only if its own
work did.
"""

from __future__ import annotations

import functools
import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, TriggerRule, dag, task
from airflow.sdk.exceptions import AirflowFailException

from nightbatch.airflow.hooks import provider_for, store
from nightbatch.airflow.retries import by_error
from nightbatch.airflow.tasks import failed_tasks, heed
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types

log = logging.getLogger("nightbatch")
settings = Settings.from_env()


@dag(
    dag_id="nightbatch_recover",
    schedule=CronTriggerTimetable("30 * * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args=by_error(settings, retries=2),
    doc_md=__doc__,
    tags=["nightbatch"],
)
def nightbatch_recover() -> None:
    recover() >> [fall_back(), alert()] >> watch()


@task
def recover(*, dag_run: Any = None, params: Any = None) -> None:
    """Settle what no run takes care of any more, and say what was found."""
    from nightbatch.batches import recovery

    heed({}, params or {}, dag_run)
    with store() as ledger:
        for sentence in recovery.recover(ledger, functools.cache(provider_for), job_types(), settings):
            log.info("%s", sentence)


@task(trigger_rule=TriggerRule.ALL_DONE)
def fall_back(*, dag_run: Any = None, params: Any = None) -> None:
    """Answer in realtime what cannot wait for a batch, if its type or the job itself asks for that."""
    from nightbatch.batches import fallback

    heed({}, params or {}, dag_run)
    with store() as ledger:
        for sentence in fallback.answer_urgent(ledger, functools.cache(provider_for), job_types(), settings):
            log.info("%s", sentence)


@task(trigger_rule=TriggerRule.ALL_DONE)
def alert() -> None:
    """Raise and resolve alerts, and send those that are new."""
    from nightbatch.airflow.notifiers import tell

    with store() as ledger:
        tell(ledger, settings)


@task(trigger_rule=TriggerRule.ALL_DONE)
def watch(*, ti: Any = None) -> None:
    """Fail the run if one of its tasks did: those that follow it run all the same."""
    if told := failed_tasks(ti):
        raise AirflowFailException("\n".join(told))


nightbatch_recover()

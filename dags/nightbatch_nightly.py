"""
### nightbatch: the night

Sends what the table `nightbatch.job` holds to the batch APIs of OpenAI, Anthropic and Gemini, waits without holding a
worker, loads every result, and reports what was paid and what was saved.

- **plan** claims the queued jobs and cuts them into batches. A run that was given what it does not know (a misspelt name, a job
  type or a job that there is not) fails here, in words, before anything is claimed. A scheduled or backfilled run takes what was
  queued before the end of its data interval; a run that you start takes all that is due.
- **submit, wait, load** run for each batch by itself: one that ends early is loaded early, and a provider that is down
  stops nobody else.
- **settle** puts jobs that were never sent back into the queue; **next_wave** starts the Dag once more if the provider's
  queue had no room for all of them, or if a provider has more batches than Airflow maps (`core.max_map_length`).
  **report** writes the figures, updates the asset `nightbatch://results`, and sends alerts. **watch** fails the run, in
  words, if anything of it needs a person.

A run that is not through 24 hours after it was queued raises the alert `night_late`.

Every task may be cleared and run again at any time: what was sent stands in the ledger, and nothing is paid for twice.
Clearing, marking or stopping a run never cancels a batch; `nightbatch_recover` loads what no run takes care of.

The pools `nightbatch_openai`, `nightbatch_anthropic` and `nightbatch_gemini` bound how many of a provider's tasks work
at once. They must exist, or Airflow never starts those tasks: `airflow pools set nightbatch_openai 4 nightbatch`.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, TriggerRule, dag, task, task_group
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from nightbatch.airflow.deadlines import within_a_day
from nightbatch.airflow.hooks import provider_for, store
from nightbatch.airflow.retries import by_error
from nightbatch.airflow.runs import NextWaveOperator
from nightbatch.airflow.sensor import BatchSensor
from nightbatch.airflow.tasks import (
    RESULTS,
    counts,
    failed_tasks,
    keep_report,
    queued_before,
    refusal,
    run_form,
    run_params,
    tell_metrics,
    this_wave,
)
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import profile, profiles
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types

log = logging.getLogger("nightbatch")
settings = Settings.from_env()


@dag(
    dag_id="nightbatch",
    schedule=CronTriggerTimetable(settings.schedule, timezone=settings.timezone, interval=timedelta(days=1)),
    catchup=False,
    max_active_runs=8,  # a run that you start need not wait for the night; the ledger keeps runs apart
    params=run_form(sorted(job_types())),
    deadline=within_a_day(),
    default_args=by_error(settings, retries=5),
    doc_md=__doc__,
    tags=["nightbatch"],
)
def nightbatch() -> None:
    planned = plan()
    nights = [night_at(name, planned) for name in profiles()]
    nights >> settle() >> [report(), NextWaveOperator(task_id="next_wave")] >> watch()


def night_at(name: ProviderName, planned: Any) -> Any:
    """Build one provider's part of the night: its batches, each going its own way."""

    @task_group(group_id=name, default_args={"pool": f"nightbatch_{name}"})
    def batch_by_batch(batch_id: int) -> None:
        sent = submit_to(name)(batch_id)
        BatchSensor(task_id="wait", batch_id=sent) >> load(sent)

    ids = batches_of.override(task_id=f"batches_of_{name}")
    return batch_by_batch.expand(batch_id=ids(planned, name))


@task(multiple_outputs=False)
def plan(*, dag_run: Any = None, params: Any = None) -> dict[str, list[int]]:
    """Claim the queued jobs, cut them into batches, and return their ids by provider."""
    from nightbatch.batches import submission

    wanted, before = run_params(params, dag_run), queued_before(dag_run)
    with store() as ledger:
        if wanted.dry_run:
            for line in submission.preview(ledger, job_types(), settings, queued_before=before, params=wanted):
                log.info("Would send %s.", line)
            return {}
        batches = submission.plan_run(
            ledger, job_types(), settings, run_id=dag_run.run_id, queued_before=before, params=wanted
        )
        return this_wave(ledger, batches)


@task
def batches_of(planned: dict[str, list[int]], name: ProviderName) -> list[int]:
    """Pick one provider's batches; Airflow maps over whole return values only."""
    return planned.get(name, [])


def submit_to(name: ProviderName) -> Any:
    """Make the submit task; without a tag creates go one by one, since two in doubt at once could not be told apart."""
    return submit if profile(name).tagged else submit.override(max_active_tis_per_dagrun=1)


@task(retries=1000)  # it may have to wait for room in the provider's queue, as long as other batches take
def submit(batch_id: int) -> int:
    """Send one batch, or find out what became of it; return the id of the attempt that is now with the provider."""
    from nightbatch.batches import submission

    with store() as ledger:
        provider = provider_for(ledger.batch(batch_id).provider)
        sent = submission.submit_batch(ledger, provider, job_types(), settings, batch_id)
    if sent is None:
        raise AirflowSkipException(
            f"Nothing of batch {batch_id} is with the provider; the status of its jobs says why."
        )
    return sent


@task
def load(batch_id: int) -> None:
    """Write the results of one ended batch."""
    from nightbatch.batches import loading

    with store() as ledger:
        provider = provider_for(ledger.batch(batch_id).provider)
        log.info("%s", loading.load_batch(ledger, provider, job_types(), batch_id))


@task(trigger_rule=TriggerRule.ALL_DONE)
def settle(*, ti: Any = None) -> None:
    """Put the jobs of batches that were never sent back into the queue."""
    from nightbatch.batches import recovery

    with store() as ledger:
        log.info("%s jobs are queued again.", recovery.settle_run(ledger, ti.run_id))


@task(trigger_rule=TriggerRule.ALL_DONE, outlets=[RESULTS])
def report(*, ti: Any = None, dag_run: Any = None, params: Any = None, outlet_events: Any = None) -> None:
    """Write down what the run sent, paid and saved; tell the Dags that follow, and send alerts."""
    from nightbatch import reporting
    from nightbatch.airflow.notifiers import tell

    if params["dry_run"]:
        raise AirflowSkipException("A dry run has nothing to report.")
    with store() as ledger:
        if why := refusal(ledger, ti.run_id, params, dag_run):
            raise AirflowSkipException(f"A run that was refused has nothing to report. {why}")
        figures = reporting.run_report(ledger, ti.run_id)
    log.info("%s", reporting.render_markdown(figures))
    keep_report(settings.report_dir, ti.run_id, figures)
    values = reporting.to_json(figures)
    tell_metrics(values)
    outlet_events[RESULTS].extra = counts(values)
    with store() as ledger:
        tell(ledger, settings)


@task(trigger_rule=TriggerRule.ALL_DONE)
def watch(*, ti: Any = None, dag_run: Any = None, params: Any = None) -> None:
    """Fail the run if anything of it needs a person."""
    from nightbatch.batches import recovery

    with store() as ledger:
        why = refusal(ledger, ti.run_id, params, dag_run) if params else None
        told = [*filter(None, [why]), *recovery.needs_a_person(ledger, ti.run_id), *failed_tasks(ti)]
    if told:
        raise AirflowFailException("\n".join(told))


nightbatch()

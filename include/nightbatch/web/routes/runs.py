"""Routes for runs: start one now, and pause the nights."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from nightbatch.airflow import steering
from nightbatch.core.ledger import RunParams
from nightbatch.job_types import job_types
from nightbatch.planning import run_forms
from nightbatch.web.auth import DAG_ID, EDIT, RUN, By
from nightbatch.web.bodies import RunWish, Scheduler, Started
from nightbatch.web.database import OpenStore

router = APIRouter(tags=["runs"])


@router.post("/process", dependencies=RUN, status_code=202)
def process(wish: RunWish, store: OpenStore, by: By) -> Started:
    """Start a run now for given providers, job types or jobs. What another run holds is never taken twice."""
    run_forms.check(store, job_types(), RunParams(job_types=tuple(wish.job_types), job_ids=tuple(wish.job_ids)))
    return _start(wish.model_dump(exclude_none=True), by)


@router.post("/process/all", dependencies=RUN, status_code=202)
def process_all(by: By) -> Started:
    """Start a run now for all that is due."""
    return _start({}, by)


def _start(conf: dict[str, Any], by: str) -> Started:
    run_id = steering.start_run(DAG_ID, conf, by=by)
    return Started(dag_id=DAG_ID, run_id=run_id, paused=steering.is_paused(DAG_ID))


@router.post("/scheduler/start", dependencies=EDIT)
def start_scheduler() -> Scheduler:
    """Unpause the Dag: nights begin by themselves again."""
    steering.pause(DAG_ID, paused=False)
    return Scheduler(paused=False)


@router.post("/scheduler/stop", dependencies=EDIT)
def stop_scheduler() -> Scheduler:
    """Pause the Dag: no night begins by itself. What was sent goes on, and `nightbatch_recover` loads it."""
    steering.pause(DAG_ID, paused=True)
    return Scheduler(paused=True)

"""Routes for single jobs, and two for services that want one kind of work done."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException

from nightbatch.core.errors import NotFound
from nightbatch.job_types import job_types
from nightbatch.jobs import cancelling, council, intake
from nightbatch.reporting import stats
from nightbatch.web.auth import READ_PAYLOADS, RUN, By
from nightbatch.web.bodies import CancelledJob, Creatives, Id, Integrated, JobDetail, Texts
from nightbatch.web.database import OpenStore

router = APIRouter(tags=["jobs"])


@router.get("/jobs/{job_id}", dependencies=READ_PAYLOADS)
def job(job_id: Id, store: OpenStore) -> JobDetail:
    """Show a job with its input, where it stands, and every answer that it ever had."""
    found = stats.job(store, job_id)
    if found is None:
        raise NotFound(f"There is no job {job_id}.")
    return JobDetail(job=found, results=stats.job_results(store, job_id))


@router.delete("/jobs/{job_id}", dependencies=RUN)
def cancel(job_id: Id, store: OpenStore, by: By) -> CancelledJob:
    """Take a job out of the queue. One that is in a batch cannot be called back: 409 says which batch has it."""
    done = cancelling.cancel_jobs(store, [job_id], by=by, reason="Cancelled through the REST API")
    message = " ".join(done.sentences())
    if done.unknown:
        raise NotFound(f"There is no job {job_id}.")
    if not done.cancelled:
        raise HTTPException(409, message)
    return CancelledJob(job_id=job_id, message=message)


@router.post("/integrate/creative-scoring", dependencies=RUN, status_code=201)
def creative_scoring(body: Creatives, store: OpenStore) -> Integrated:
    """Have creatives scored: a job for each and each provider, or with `council` a council for each."""
    if body.council:
        members = [(provider, None) for provider in body.providers]
        with store.transaction():
            names = [
                council.convene(store, job_types(), creative, members, priority=body.priority, labels=body.labels)
                for creative in body.creatives
            ]
        return Integrated(councils=names)
    rows = [
        {"job_type": "creative_scoring", "provider": provider, "input": creative, "priority": body.priority,
         "labels": body.labels}
        for creative in body.creatives
        for provider in body.providers
    ]  # fmt: skip
    return Integrated(job_ids=intake.enqueue_rows(store, job_types(), rows))


@router.post("/integrate/embeddings", dependencies=RUN, status_code=201)
def embeddings(body: Texts, store: OpenStore) -> Integrated:
    """Have texts turned into vectors, a job each; they land in ``nightbatch.embedding`` by job id."""
    size = {} if body.dimensions is None else {"dimensions": body.dimensions}
    rows = [
        {"job_type": "embedding_generation", "provider": body.provider, "model": body.model, "input": {"text": text, **size},
         "priority": body.priority, "labels": body.labels}
        for text in body.texts
    ]  # fmt: skip
    return Integrated(job_ids=intake.enqueue_rows(store, job_types(), rows))

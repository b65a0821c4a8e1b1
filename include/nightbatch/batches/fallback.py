"""Answer jobs whose deadline no batch can meet any more through the realtime API, at full price, each at most once.

Only for jobs that no attempt holds: a batch that could still bill a job keeps it. A realtime call has no tag and stands in
no list, so one whose answer was lost is never repeated: its job ends as failed, and a person is told.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from nightbatch.batches import accounts, home, in_doubt, loading, troubles, walk
from nightbatch.batches.input_file import line_hash
from nightbatch.batches.recovery import ProviderFor, account_told
from nightbatch.batches.rendering import Types, request_of
from nightbatch.core import certainty
from nightbatch.core.errors import Displaced, NightbatchError, Rejected, SubmissionInDoubt
from nightbatch.core.ledger import Batch, JobRow, RunParams
from nightbatch.core.models import custom_id
from nightbatch.core.provider import BatchProvider
from nightbatch.core.settings import Settings
from nightbatch.job_types import broken_job_types
from nightbatch.job_types.base import JobType, costs_the_job
from nightbatch.jobs import media
from nightbatch.planning import budgets, cache, estimates
from nightbatch.planning.routes import all_routes
from nightbatch.postgres import plans
from nightbatch.postgres.store import Store


def answer_urgent(store: Store, provider_for: ProviderFor, types: Types, settings: Settings) -> list[str]:
    """Answer each job that may go to the realtime API and cannot wait for a batch; return sentences about what was done."""
    try:
        home.require(store)
    except Displaced as error:
        return [str(error)]
    now = store.now()
    _plan(store, types, settings, now)
    told = []
    for batch in store.open_realtime():
        sentence = None
        with troubles.kept_apart(store, "attempt_stuck", str(batch.id), batch.planned_at) as kept:
            sentence = _bring_to_an_end(store, provider_for, types, settings, batch, now)
        if kept.error is not None:
            sentence = f"Attempt {batch.id}: {troubles.in_words(kept.error)}"
        if sentence:
            told.append(sentence)
    return told


class _NothingUrgent(Exception):
    pass


def _plan(store: Store, types: Types, settings: Settings, now: datetime) -> None:
    """Plan an attempt for each urgent job, and set its full price aside from the budgets."""
    turnarounds = plans.turnarounds(store)
    routes = [replace(route, max_requests=1) for route in all_routes(types.values(), settings, turnarounds)]
    run_id = f"fallback__{now:%Y-%m-%dT%H:%M:%S.%f}"
    with suppress(_NothingUrgent), store.transaction():
        store.start_run(run_id, None, RunParams())
        store.gather(routes, None, RunParams(), all_types_known=not broken_job_types(), urgent=True)
        answered = cache.answer(store, types, routes, run_id=run_id)
        if not estimates.measure(store, types, routes, at=now, mode="realtime") and not answered:
            raise _NothingUrgent  # and no run that did nothing
        budgeted = budgets.apply_budget(store, settings)
        store.claim(run_id, routes, None, mode="realtime")
        plans.keep_estimates(store, run_id, routes, reserve=budgeted)


def _bring_to_an_end(
    store: Store, provider_for: ProviderFor, types: Types, settings: Settings, batch: Batch, now: datetime
) -> str | None:
    if batch.state not in ("planned", "uploaded"):
        if batch.intent_at and now - batch.intent_at < timedelta(seconds=settings.create_seconds):
            return None  # its own process is, or may be, still at it
        return _lost(store, batch, "The process ended before the answer came.")
    (job,) = store.batch_inputs(batch.id)
    kind = types.get(job.job_type)
    if kind is None:
        return _reject(store, batch, job, f"there is no job type {job.job_type} any more")
    turn = _Turn(batch)
    while True:
        try:
            provider = provider_for(turn.attempt.provider)
            with account_told(store, provider), troubles.silence_told(store, provider):
                return _ask(store, provider, types, settings, turn, job)
        except NightbatchError as error:
            if not _nothing_was_done(error):
                raise
            other = _elsewhere(store, kind, turn.attempt, error)
            if other is None:
                raise
            turn.attempt = other


@dataclass(slots=True)
class _Turn:
    """An attempt as this process knows it: another process may have moved it on, and only the ledger decides that."""

    attempt: Batch


def _ask(store: Store, provider: BatchProvider, types: Types, settings: Settings, turn: _Turn, job: JobRow) -> str:
    """Make the one call of an intent, and return a sentence about it.

    When nothing was done, ``turn`` holds the attempt as it was put back.
    """
    batch = turn.attempt
    walk.before_first_create(store, provider, batch.run_id)
    home.require(store)
    name = custom_id(job.id, batch.id, batch.fresh_nonce)
    prompts: dict[str, str] = {}

    def of_version(job_type: str, version: str | None) -> JobType:
        kind = types[job_type].at_version(version)
        if kind.prompt_version is not None:
            prompts[kind.name] = kind.prompt_version
        return kind

    try:
        asked = request_of(of_version, job)
        request = media.looked_up(store, provider, batch, asked, settings)
        with costs_the_job(f"the adapter of {batch.provider}"):
            line = provider.render(name, batch.model, batch.endpoint, request)
    except Rejected as error:
        return _reject(store, batch, job, str(error))
    intent = _intent(store, provider, batch, line, prompts)
    try:
        answer = provider.ask(name, batch.model, batch.endpoint, request)
    except Rejected as error:
        return _reject(store, intent, job, f"{batch.provider} refused the request: {error}")
    except Exception as error:
        if not _nothing_was_done(error):
            return _lost(store, intent, str(error) or type(error).__name__)
        turn.attempt = store.record_throttled(intent, str(error)) or intent
        raise
    troubles.heard(store, provider)
    loaded = loading.load_answer(store, types, intent, answer)
    outcome = "answered" if loaded.succeeded else "answered, but not usably,"
    return f"Job {job.id} could not wait for a batch; {batch.provider} {outcome} at full price."


def _nothing_was_done(error: Exception) -> bool:
    """Say whether a call was certainly not answered, and so not billed."""
    return certainty.of(error) != "in_doubt"


def _intent(store: Store, provider: BatchProvider, batch: Batch, line: bytes, prompts: dict[str, str]) -> Batch:
    """Record the intent to make the call, and return the attempt with it.

    Raises `SubmissionInDoubt` when another process moved the attempt on, or when it was given up: its job is queued again then.
    """
    digest = hashlib.sha256(line).hexdigest()
    if not (
        store.bind_account(batch.id, accounts.of(store, provider)) and store.record_hash(batch, digest, line_hash(line))
    ):
        # Nothing of it was sent, so another prompt or another account may begin anew.
        in_doubt.give_up(store, batch, "Its request or its account changed before it was sent.", resend=False)
    else:
        store.record_prompts(batch.id, prompts)
        ready = store.record_upload(batch, None)
        if ready is not None and (intent := store.record_intent(ready)):
            return intent
    raise SubmissionInDoubt(f"Attempt {batch.id} was moved on or given up.")


def _elsewhere(store: Store, kind: JobType, batch: Batch, error: NightbatchError) -> Batch | None:
    """Replace an attempt that did nothing by one at the next provider of its type; None if there is none, or it moved on."""
    tried, before = {batch.provider}, batch
    while before.replaces is not None:
        before = store.batch(before.replaces)
        tried.add(before.provider)
    left = [name for name in kind.fallback_providers if name in kind.models and name not in tried]
    if not left:
        return None
    with store.transaction():
        if not store.close_attempt(batch, "abandoned", str(error)):
            return None
        return store.send_elsewhere(batch.id, left[0], kind.models[left[0]], kind.endpoint(left[0]))


def _reject(store: Store, batch: Batch, job: JobRow, reason: str) -> str:
    with store.transaction():
        if store.close_attempt(batch, "refused", reason):
            store.dismiss_members(batch.id, reason)
    return f"Job {job.id} was rejected: {reason}"


def _lost(store: Store, batch: Batch, reason: str) -> str:
    """Close an attempt whose answer was lost: nobody can find out whether it was billed, so it is never asked again by itself."""
    with store.transaction():
        if store.take_over(batch) is None:
            raise SubmissionInDoubt(f"Attempt {batch.id} was moved on by another process.")
        store.record_submission(batch.id, f"realtime-{batch.tag}")
        loading.give_results_up(store, batch.id, f"A realtime call went out and its answer was lost. {reason}")
    return f"Attempt {batch.id}: its answer was lost; it may have been billed and is not asked again by itself."

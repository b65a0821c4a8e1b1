"""Send queued jobs as batches to a provider, so that no job is ever sent twice (the protocol: docs/architecture.md)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from nightbatch.batches import accounts, home, in_doubt, recovery, rendering, troubles, walk
from nightbatch.batches.rendering import Rendered, Types
from nightbatch.core import certainty
from nightbatch.core.errors import Absent, ConfigurationError, ReconciliationError, Refused, Rejected, SubmissionInDoubt
from nightbatch.core.ledger import Batch, Route, RunParams
from nightbatch.core.models import FoundBatch
from nightbatch.core.provider import BatchProvider
from nightbatch.core.settings import Settings
from nightbatch.job_types import broken_job_types
from nightbatch.jobs import media
from nightbatch.planning import budgets, cache, capacity, estimates, run_forms
from nightbatch.planning.estimates import Estimate
from nightbatch.planning.routes import all_routes
from nightbatch.postgres import connections, plans
from nightbatch.postgres.store import Store


def plan_run(
    store: Store, types: Types, settings: Settings, *, run_id: str, queued_before: datetime | None, params: RunParams
) -> list[Batch]:
    """Claim the run's jobs and cut them into attempts, in one transaction.

    A run planned before gets the same attempts again. A dry run claims nothing: see `preview`. Raises `ConfigurationError` for
    job types and jobs that do not exist.
    """
    home.require(store)
    routes = _routes(store, types, settings)
    with store.transaction():
        if not store.start_run(run_id, queued_before, params):
            return store.run_batches(run_id)
        run_forms.check(store, types, params)
        since_then = store.gather(routes, queued_before, params, all_types_known=not broken_job_types())
        cache.answer(store, types, routes, run_id=run_id)
        estimates.measure(store, types, routes, at=store.now())
        media.add_media_bytes(store, types, routes, settings)
        budgeted = budgets.apply_budget(store, settings)
        planned = store.claim(run_id, routes, since_then)
        plans.keep_estimates(store, run_id, routes, reserve=budgeted)
        return planned


class _Rollback(Exception):
    pass


def preview(
    store: Store, types: Types, settings: Settings, *, queued_before: datetime | None = None, params: RunParams
) -> list[Estimate]:
    """Return estimates of what a plan would send now; changes nothing."""
    routes = _routes(store, types, settings)
    found: list[Estimate] = []
    try:
        with store.transaction():
            run_forms.check(store, types, params)
            store.gather(routes, queued_before, params, all_types_known=not broken_job_types())
            cache.answer(store, types, routes, run_id=None)
            measured = estimates.measure(store, types, routes, at=store.now())
            budgets.apply_budget(store, settings)
            found = estimates.estimates(store, measured)
            raise _Rollback
    except _Rollback:
        return found


def _routes(store: Store, types: Types, settings: Settings) -> list[Route]:
    return all_routes(types.values(), settings, plans.turnarounds(store))


def submit_batch(store: Store, provider: BatchProvider, types: Types, settings: Settings, batch_id: int) -> int | None:
    """Send an attempt, or find out what became of it; return the id of the attempt that is now with the provider.

    That may be a successor of ``batch_id``. None: nothing of it is, or ever will be, with the provider. Raises
    `SubmissionInDoubt` when it has to be called again later, `Throttled` and `AccountRefused` when nothing was sent.
    """
    home.require(store)
    batch: Batch | None = _latest(store, store.batch(batch_id))
    while batch is not None and batch.closed_at is None and batch.state != "submitted":
        with recovery.account_told(store, provider), troubles.silence_told(store, provider):
            _bind(store, provider, batch)
            if batch.state in ("submitting", "held"):
                again = not troubles.is_silent(store, provider)
                batch = in_doubt.resolve_doubt(store, provider, batch, settings, resend=again)
            else:
                batch = _send(store, provider, types, settings, batch)
    return batch.id if batch is not None and batch.state in ("submitted", "loaded") else None


def _latest(store: Store, batch: Batch) -> Batch:
    while (successor := store.successor(batch.id)) is not None:
        batch = successor
    return batch


def _bind(store: Store, provider: BatchProvider, batch: Batch) -> None:
    if not store.bind_account(batch.id, accounts.of(store, provider)) and not _rotated(store, provider, batch):
        raise ConfigurationError(
            f"Batch {batch.id} belongs to another {batch.provider} account than the connection's key. It is never sent"
            " through this one: put the key back. One that was only rotated is taken over when it sees a batch of the account;"
            " this one sees none."
        )


def _rotated(store: Store, provider: BatchProvider, batch: Batch) -> bool:
    account = store.batch(batch.id).account_fingerprint
    return account is not None and accounts.reaches(store, provider, account)


def _send(store: Store, provider: BatchProvider, types: Types, settings: Settings, batch: Batch) -> Batch | None:
    capacity.require_room(store, batch)  # before minutes go into rendering and an upload that would wait all the same
    walk.before_first_create(store, provider, batch.run_id)
    home.require(store)
    with rendering.rendered(store, provider, types, settings, batch) as rendered:
        if not _freeze(store, batch, rendered):
            return _latest(store, store.batch(batch.id))
        try:
            ready = _upload(store, provider, batch, rendered.path)
        except Refused as error:
            return _refused(store, batch, error, rendered.job_ids)
        return _create(store, provider, ready, rendered)


def _freeze(store: Store, batch: Batch, rendered: Rendered) -> bool:
    """Fix what the attempt consists of. Return False when it cannot be sent: it is closed, and maybe a successor made.

    Raises `SubmissionInDoubt` when another process moved it on since it was read: its requests may be on their way.
    """
    with store.transaction():
        current = store.lock_batch(batch.id)
        if (current.state, current.epoch) != (batch.state, batch.epoch):
            raise SubmissionInDoubt(f"Batch {batch.id} was moved on by another process.", look_again_in=5)
        if current.payload_sha256 is None:
            return _fix(store, current, rendered)
        if rendered.job_ids and store.record_hash(current, rendered.sha256, rendered.hashes):
            return True
        # The prompt, schema or adapter changed between the upload and the intent: the new words get a new attempt.
        if store.close_attempt(current, "abandoned", "Its requests changed before it was sent."):
            store.insert_successor(batch.id)
        return False


def _fix(store: Store, batch: Batch, rendered: Rendered) -> bool:
    """Take out of a locked attempt what cannot be sent with it, and fix the rest, once. Return False when nothing is left."""
    if rendered.bad:
        store.reject_members(batch, rendered.bad)
    if rendered.too_many:
        store.postpone_members(batch.id, rendered.too_many)
    if store.count_members(batch.id) != len(rendered.job_ids):
        raise SubmissionInDoubt(f"Batch {batch.id} has other jobs than were rendered.", look_again_in=1)
    if not rendered.job_ids:
        store.close_attempt(batch, "abandoned", "None of its jobs could be sent.")
        return False
    store.record_hash(batch, rendered.sha256, rendered.hashes)
    store.record_prompts(batch.id, rendered.prompts)
    return True


def _upload(store: Store, provider: BatchProvider, batch: Batch, path: Path) -> Batch:
    if batch.state == "uploaded":
        return batch
    uploaded = store.record_upload(batch, provider.upload(batch.submission, path))
    if uploaded is None:
        raise SubmissionInDoubt(f"Batch {batch.id} was moved on by another process.", look_again_in=5)
    return uploaded


def _create(store: Store, provider: BatchProvider, batch: Batch, rendered: Rendered) -> Batch | None:
    """Make the one create of an intent. What is not a definite answer stays in doubt, and `recovery` settles it."""
    capacity.require_room(store, batch)  # others may have taken it meanwhile
    intent = store.record_intent(batch)
    if intent is None:
        raise SubmissionInDoubt(f"Batch {batch.id} was moved on by another process.", look_again_in=5)
    try:
        provider_batch_id = provider.submit(intent.submission, rendered.path)
    except Exception as error:
        if certainty.of(error) == "in_doubt":
            store.record_doubt(intent, str(error))
            raise SubmissionInDoubt(
                f"Batch {batch.id}: the create was sent and its outcome is not known ({error})."
                f" nightbatch looks for it at {batch.provider} and does not send it again by itself.",
                look_again_in=1,
            ) from error
        if isinstance(error, Refused):
            return _refused(store, intent, error, rendered.job_ids)
        # Nothing was done: the attempt is as it was before the intent, and nothing has to be looked for.
        unsent = store.record_throttled(intent, str(error))
        full = capacity.learn(store, intent, str(error))
        if full and unsent and (smaller := _halved(store, unsent, rendered.job_ids)):
            return smaller
        raise
    submitted = record_id(store, intent, provider_batch_id)
    troubles.heard(store, provider)
    if provider.shows_tags:
        connections.record_tags(store, provider)
    return submitted


def record_id(store: Store, batch: Batch, provider_batch_id: str) -> Batch:
    """Write down the provider's id. Raises `ReconciliationError` when the attempt was closed in the meantime."""
    submitted = store.record_submission(batch.id, provider_batch_id)
    if submitted is not None:
        return submitted
    current = store.batch(batch.id)
    if current.provider_batch_id == provider_batch_id:
        return current
    found = FoundBatch(provider_batch_id, certain=True)
    raise ReconciliationError(in_doubt.record_duplicate(store, current, found))


def _refused(store: Store, batch: Batch, error: Refused, job_ids: list[int]) -> Batch | None:
    """Close a definitely refused attempt: the jobs at fault end with the reason, the others go on in a successor."""
    reason = f"{batch.provider} refused the batch: {error}"
    with store.transaction():
        if not store.close_attempt(batch, "refused", str(error)):
            return _latest(store, store.batch(batch.id))
        if isinstance(error, Absent) and batch.epoch > 1:
            # It waited after a 429, and its input may have expired meanwhile: a new attempt uploads it again.
            return store.insert_successor(batch.id)
        at_fault = [job_ids[place] for place in getattr(error, "requests", ()) if place < len(job_ids)]
        if error.status == 413 and batch.job_count > 1:
            # Too large as a whole: half of it goes with the next run.
            store.free_members(batch.id, job_ids[len(job_ids) // 2 :], counts_as_attempt=False)
        elif at_fault and len(at_fault) < batch.job_count:
            store.dismiss_members(batch.id, reason, at_fault)
        elif isinstance(error, Rejected) or (error.status == 413 and batch.job_count == 1):
            store.dismiss_members(batch.id, reason)
            return None
        else:
            store.free_members(batch.id, counts_as_attempt=True)
            message = f"{reason}. It names no job that is at fault, so its {batch.job_count} jobs are queued again."
            store.raise_alert("batch_refused", batch.provider, message)
            return None
        return store.insert_successor(batch.id)


def _halved(store: Store, batch: Batch, job_ids: list[int]) -> Batch | None:
    """Return a successor with half of the jobs for an attempt that would not fit even into an empty queue; None if it would."""
    limit, _, needed = plans.room(store, batch)
    if limit is None or needed <= limit or batch.job_count < 2:
        return None
    with store.transaction():
        if not store.close_attempt(batch, "refused", "It is larger than the account's queue."):
            return _latest(store, store.batch(batch.id))
        store.free_members(batch.id, job_ids[len(job_ids) // 2 :], counts_as_attempt=False)
        return store.insert_successor(batch.id)

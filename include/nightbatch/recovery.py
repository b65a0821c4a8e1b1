"""What became of submissions whose outcome is not known, and of batches that nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from nightbatch import loading
from nightbatch.errors import NightbatchError, SubmissionInDoubt
from nightbatch.job_types.base import JobType
from nightbatch.ledger import Batch
from nightbatch.models import ProviderName
from nightbatch.postgres.store import Store
from nightbatch.provider import BatchProvider
from nightbatch.settings import Settings

ProviderFor = Callable[[ProviderName], BatchProvider]


def resolve_doubt(store: Store, provider: BatchProvider, batch: Batch, settings: Settings, *, resend: bool) -> Batch:
    """Find the batch of an attempt whose create may have been sent, or prove that there is none.

    Returns the attempt as adopted; or, with ``resend``, its successor, and without, the closed attempt, its jobs queued.
    Raises `SubmissionInDoubt` while neither is certain. Call it with the account that the attempt is bound to only.
    """
    taken = store.take_over(batch)
    if taken is None:
        raise SubmissionInDoubt(f"Batch {batch.id} is being settled by another process.", look_again_in=5)
    adopted = look(store, provider, taken)
    if adopted is not None:
        return adopted
    if _may_be_released(store, taken, settings):
        reason = f"Released after {settings.release_anthropic_after_hours:g} hours, as the settings ask."
        return give_up(store, taken, reason, resend=resend)
    if taken.fenced_at is None:
        _fence(store, provider, taken, settings)
    remaining = settings.settle_seconds - store.seconds_since("fence", taken.id)
    if remaining > 0:
        raise SubmissionInDoubt(
            f"Batch {batch.id}: {batch.provider} does not list it; its input is deleted. One more look follows.",
            look_again_in=remaining,
        )
    return give_up(store, taken, "The provider never listed it, and can no longer create it.", resend=resend)


def look(store: Store, provider: BatchProvider, batch: Batch) -> Batch | None:
    """Adopt the provider's batch that is this attempt, if its list holds one.

    Raises `SubmissionInDoubt` when more than one may be it and none is certain.
    """
    found = provider.find_submission(batch.submission)
    known = store.known_provider_ids(batch.provider, [candidate.provider_batch_id for candidate in found])
    new = [candidate for candidate in found if candidate.provider_batch_id not in known]
    if not new:
        return None
    certain = [candidate for candidate in new if candidate.certain]
    if not certain and len(new) > 1:
        store.record_held(batch, f"{len(new)} batches of {batch.provider} may be this one; their results will tell.")
        raise SubmissionInDoubt(
            f"Batch {batch.id}: {len(new)} batches at {batch.provider} may be it.", look_again_in=600
        )
    chosen, *others = certain or new
    for other in others:
        store.raise_alert(
            "duplicate_batch",
            other.provider_batch_id,
            f"Batch {batch.id} exists twice at {batch.provider}: {chosen.provider_batch_id} is used, and"
            f" {other.provider_batch_id} may be billed as well. Cancel it at the provider.",
        )
    adopted = store.record_submission(batch.id, chosen.provider_batch_id)
    if adopted is None:  # found, but somebody else moved the attempt on: not the same as absent, so nothing is fenced
        raise SubmissionInDoubt(f"Batch {batch.id} was moved on by another process.", look_again_in=5)
    return adopted


def _fence(store: Store, provider: BatchProvider, batch: Batch, settings: Settings) -> None:
    """Make a create still under way impossible; where that cannot be done, hold the attempt after the settle wait."""
    if provider.fence(batch.submission):
        store.record_fence(batch)
        return
    waited = store.seconds_since("intent", batch.id)
    if waited < settings.settle_seconds:
        raise SubmissionInDoubt(
            f"Batch {batch.id}: {batch.provider} does not list it yet.", look_again_in=settings.settle_seconds - waited
        )
    message = (
        f"Batch {batch.id} ({batch.job_count} jobs) was being sent to {batch.provider} when the connection or the process"
        f" broke. {batch.provider} does not list it, and cannot be kept from creating it late, so its jobs wait."
        " nightbatch goes on looking; look into the provider's console yourself before you release them."
    )
    store.record_held(batch, message)
    store.raise_alert("held", str(batch.id), message)
    raise SubmissionInDoubt(message)


def _may_be_released(store: Store, batch: Batch, settings: Settings) -> bool:
    """Whether the team asked for held Anthropic attempts to be sent again by themselves, at the risk of paying twice."""
    hours = settings.release_anthropic_after_hours
    return batch.provider == "anthropic" and 0 < hours * 3600 <= store.seconds_since("intent", batch.id)


def give_up(store: Store, batch: Batch, reason: str, *, resend: bool) -> Batch:
    """Close an attempt that was never accepted. Raises `SubmissionInDoubt` when it has moved on meanwhile."""
    with store.transaction():
        if not store.close_attempt(batch, "abandoned", reason):
            raise SubmissionInDoubt(f"Batch {batch.id} was moved on by another process.", look_again_in=5)
        if resend:
            return store.insert_successor(batch.id)
        store.free_members(batch.id, counts_as_attempt=False)
        return store.batch(batch.id)


def settle_run(store: Store, run_id: str) -> int:
    """Put the jobs of the run's attempts that were never sent back into the queue; how many jobs."""
    freed = 0
    for batch in store.never_sent(run_id):
        try:
            give_up(store, batch, "It was not sent in its run.", resend=False)
        except SubmissionInDoubt:
            continue
        freed += batch.job_count
    return freed


def recover(store: Store, provider_for: ProviderFor, types: Mapping[str, JobType], settings: Settings) -> list[str]:
    """Settle what no run takes care of any more; sentences about what was found and done.

    One provider's trouble does not keep the others from being settled.
    """
    now = store.now()
    told = []
    for batch in store.open_attempts():
        try:
            sentence = _recover_one(store, provider_for, types, settings, batch, now)
        except NightbatchError as error:
            sentence = f"Batch {batch.id}: {error}"
        if sentence:
            told.append(sentence)
    return told


def _recover_one(
    store: Store,
    provider_for: ProviderFor,
    types: Mapping[str, JobType],
    settings: Settings,
    batch: Batch,
    now: datetime,
) -> str | None:
    match batch.state:
        case "submitting" | "held":
            return _recover_doubt(store, provider_for, settings, batch, now)
        case "submitted":
            return _recover_submitted(store, provider_for, types, settings, batch, now)
        case _ if now - batch.planned_at > timedelta(hours=settings.wait_hours):
            give_up(store, batch, "Its run ended without sending it.", resend=False)
            return f"Batch {batch.id} was never sent; its {batch.job_count} jobs are queued again."
    return None


def _recover_doubt(
    store: Store, provider_for: ProviderFor, settings: Settings, batch: Batch, now: datetime
) -> str | None:
    if batch.intent_at and now - batch.intent_at < timedelta(seconds=settings.create_seconds):
        return None  # its own task is, or may be, still at it
    provider = provider_for(batch.provider)
    if batch.account_fingerprint != provider.account:
        return _other_account(store, batch)
    settled = resolve_doubt(store, provider, batch, settings, resend=False)
    store.resolve_alert("held", str(batch.id))
    if settled.state == "submitted":
        return f"Batch {batch.id} was found at {batch.provider} as {settled.provider_batch_id} and adopted."
    return f"Batch {batch.id} was never created; its {batch.job_count} jobs are queued again."


def _recover_submitted(
    store: Store,
    provider_for: ProviderFor,
    types: Mapping[str, JobType],
    settings: Settings,
    batch: Batch,
    now: datetime,
) -> str | None:
    provider = provider_for(batch.provider)
    if batch.account_fingerprint != provider.account:
        return _other_account(store, batch)
    assert batch.provider_batch_id and batch.submitted_at  # the schema says so for this state
    state = asyncio.run(provider.get_state(batch.provider_batch_id))
    if state.phase != "running":
        loaded = loading.load_batch(store, provider, types, batch.id)
        store.resolve_alert("overdue", str(batch.id))
        return f"Batch {batch.id} had ended and is loaded: {loaded.succeeded} of {loaded.jobs} succeeded."
    if now - batch.submitted_at > timedelta(hours=overdue_hours(batch.provider, settings)):
        message = (
            f"Batch {batch.id} is overdue: {batch.provider} has had it since {batch.submitted_at:%Y-%m-%d %H:%M} UTC."
        )
        store.raise_alert("overdue", str(batch.id), message)
        return message
    return None


def overdue_hours(provider: ProviderName, settings: Settings) -> float:
    """When a batch is overdue, in hours; Gemini's batches may take 48 before they expire."""
    return max(settings.wait_hours, 50.0) if provider == "gemini" else settings.wait_hours


def _other_account(store: Store, batch: Batch) -> str:
    message = (
        f"Batch {batch.id} belongs to another {batch.provider} account than the connection's key; nothing is sent again."
        " Put the key back, or name the account in the connection's extra if only the key was rotated."
    )
    store.raise_alert("other_account", str(batch.id), message)
    return message


def needs_a_person(store: Store, run_id: str) -> list[str]:
    """Why a run is not simply done, in sentences; empty when it is."""
    sentences = []
    for batch in store.open_attempts_of(run_id):
        match batch.state:
            case "held":
                sentences.append(batch.error or f"Batch {batch.id} is held.")
            case "submitting":
                sentences.append(
                    f"Batch {batch.id}: whether {batch.provider} has it is in doubt; nightbatch_recover settles it."
                )
            case "submitted":
                sentences.append(
                    f"Batch {batch.id} is still with {batch.provider}; nightbatch_recover loads it when it ends."
                )
            case _:
                sentences.append(f"Batch {batch.id} was not sent.")
    return sentences

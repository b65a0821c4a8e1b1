"""Settle a create whose answer was lost: its batch is adopted, proven absent, or held, and is never sent again on a guess."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from nightbatch.core import certainty
from nightbatch.core.errors import Refused, SubmissionInDoubt
from nightbatch.core.ledger import Batch
from nightbatch.core.models import FoundBatch, ResultLine, parse_custom_id
from nightbatch.core.profiles import profile
from nightbatch.core.provider import BatchProvider
from nightbatch.core.settings import Settings
from nightbatch.postgres import connections
from nightbatch.postgres.store import Store


def resolve_doubt(store: Store, provider: BatchProvider, batch: Batch, settings: Settings, *, resend: bool) -> Batch:
    """Find the batch of an attempt whose create may have been sent, or prove that there is none.

    Returns the attempt as adopted; or, with ``resend``, its successor, and without, the closed attempt, its jobs queued.
    Raises `SubmissionInDoubt` while neither is certain. Call it only with the account that the attempt is bound to.
    """
    taken = store.take_over(batch)
    if taken is None:
        raise SubmissionInDoubt(f"Batch {batch.id} is being settled by another process.", look_again_in=5)
    adopted = look(store, provider, taken)
    if adopted is not None:
        return adopted
    current = store.batch(batch.id)
    if current.epoch != taken.epoch or current.provider_batch_id is not None:
        # Adopted by another process between the list and the ledger: known is not the same as absent.
        raise SubmissionInDoubt(f"Batch {batch.id} was moved on by another process.", look_again_in=5)
    if _may_be_released(store, taken, settings):
        reason = f"Released after {settings.release_anthropic_after_hours:g} hours, as the settings ask."
        store.record_decision(taken.id, "resend", "NIGHTBATCH_RELEASE_ANTHROPIC_AFTER_HOURS", reason)
        return give_up(store, taken, reason, resend=resend)
    if taken.fenced_at is None:
        _fence(store, provider, taken, settings)
    remaining = settings.settle_seconds - store.seconds_since("fence", taken.id)
    if remaining > 0:
        raise SubmissionInDoubt(
            f"Batch {batch.id}: {batch.provider} does not list it; its input is deleted. One more look follows.",
            look_again_in=remaining,
        )
    _require_tags(store, provider, taken)
    return give_up(store, taken, "The provider never listed it, and can no longer create it.", resend=resend)


def _require_tags(store: Store, provider: BatchProvider, batch: Batch) -> None:
    """Hold the attempt and raise `SubmissionInDoubt` where nothing shows that its batch would be listed with its tag."""
    if connections.shows_tags(store, provider):
        return
    if provider.shows_tags:
        connections.record_tags(store, provider)
        return
    message = (
        f"Batch {batch.id} ({batch.job_count} jobs) was being sent to {batch.provider} when the connection or the process"
        f" broke. It is not listed under its tag, but no batch of this connection ever was: a gateway on the way may drop"
        " tags. nightbatch goes on looking; look into the provider's console yourself before you release its jobs."
    )
    _hold(store, batch, message)
    raise SubmissionInDoubt(message)


def look(store: Store, provider: BatchProvider, batch: Batch) -> Batch | None:
    """Adopt the provider's batch that is this attempt, if its list holds one.

    Raises `SubmissionInDoubt` when more than one may be it and none is certain.
    """
    new = find(store, provider, batch)
    if not new:
        return None
    certain = [candidate for candidate in new if candidate.certain]
    if not certain and store.another_in_doubt(batch.id):
        return None  # what only looks like ours may be that one's, and cannot be ours: ours was refused with a 429
    if not certain and len(new) > 1:
        message = (
            f"{len(new)} batches of {batch.provider} may be batch {batch.id}; once they end, their results will tell."
        )
        _hold(store, batch, message)
        raise SubmissionInDoubt(message, look_again_in=600)
    chosen, *others = certain or new
    for other in others:
        record_duplicate(store, batch, other)
    try:
        adopted = store.record_submission(batch.id, chosen.provider_batch_id, chosen.created_at)
    except LookupError as error:  # another attempt was quicker to find out that it is its own
        raise SubmissionInDoubt(f"Batch {batch.id}: {error}", look_again_in=5) from None
    if adopted is None:  # found, but somebody else moved the attempt on: not the same as absent, so nothing is fenced
        if chosen.certain and store.batch(batch.id).provider_batch_id != chosen.provider_batch_id:
            record_duplicate(store, batch, chosen)
        raise SubmissionInDoubt(f"Batch {batch.id} was moved on by another process.", look_again_in=5)
    return adopted


def find(store: Store, provider: BatchProvider, batch: Batch) -> list[FoundBatch]:
    """Return the batches in the provider's list that are, or may be, this attempt, and that the ledger does not have.

    A candidate by time and count that has ended is either proven by its ``custom_id``s or left out.
    """
    found = provider.find_submission(replace(batch.submission, asked_at=store.now()))
    known = store.known_provider_ids(batch.provider, [candidate.provider_batch_id for candidate in found])
    new = [candidate for candidate in found if candidate.provider_batch_id not in known]
    return [proven for candidate in new if (proven := _proven(provider, batch, candidate))]


def _proven(provider: BatchProvider, batch: Batch, candidate: FoundBatch) -> FoundBatch | None:
    if candidate.certain:
        return candidate
    if asyncio.run(provider.get_state(candidate.provider_batch_id)).phase != "ended":
        return candidate
    with suppress(Refused):  # results that are gone prove nothing either way
        for line in provider.iter_results(candidate.provider_batch_id):
            if isinstance(line, ResultLine):
                ids = parse_custom_id(line.custom_id)
                return replace(candidate, certain=True) if ids and ids[1:] == (batch.id, batch.nonce) else None
    return candidate


def record_duplicate(store: Store, batch: Batch, found: FoundBatch) -> str:
    """Book a provider batch that exists besides the one an attempt uses: its cost is loaded. Return a sentence about it."""
    message = (
        f"{batch.provider} has {found.provider_batch_id} besides what the ledger uses for batch {batch.id}: its"
        f" {batch.job_count} jobs may be billed twice. Cancel it at the provider if it still runs; what it costs is booked"
        " when it ends."
    )
    with store.transaction():
        store.insert_duplicate(batch.id, found.provider_batch_id, found.created_at)
        store.raise_alert("duplicate_batch", found.provider_batch_id, message)
    return message


def _fence(store: Store, provider: BatchProvider, batch: Batch, settings: Settings) -> None:
    """Make a create that is still under way impossible; where that cannot be done, hold the attempt after the settle wait."""
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
    _hold(store, batch, message)
    raise SubmissionInDoubt(message)


def _hold(store: Store, batch: Batch, message: str) -> None:
    store.record_held(batch, message)
    store.raise_alert("held", str(batch.id), message)


def _may_be_released(store: Store, batch: Batch, settings: Settings) -> bool:
    """Whether the team asked for held attempts without a tag to be sent again by themselves, at the risk of paying twice."""
    hours = settings.release_anthropic_after_hours
    return not profile(batch.provider).tagged and 0 < hours * 3600 <= store.seconds_since("intent", batch.id)


def give_up(store: Store, batch: Batch, reason: str, *, resend: bool) -> Batch:
    """Close an attempt that was never accepted; return its successor with ``resend``, else the closed attempt, its jobs queued.

    Raises `SubmissionInDoubt` when it has moved on meanwhile.
    """
    with store.transaction():
        if not store.close_attempt(batch, "abandoned", reason):
            raise SubmissionInDoubt(f"Batch {batch.id} was moved on by another process.", look_again_in=5)
        if resend:
            return _successor(store, batch)
        store.free_members(batch.id, counts_as_attempt=False)
        return store.batch(batch.id)


def _successor(store: Store, batch: Batch) -> Batch:
    """Return a successor of a closed attempt, with half of the jobs if the create was too large for somebody on the way.

    A job that is alone and too large ends, and the closed attempt is returned.
    """
    if certainty.is_too_large(batch.error):
        jobs = sorted(store.members(batch.id))
        if len(jobs) == 1:
            store.dismiss_members(batch.id, f"Its request is too large for the way to {batch.provider}: {batch.error}")
            return store.batch(batch.id)
        store.free_members(batch.id, jobs[len(jobs) // 2 :], counts_as_attempt=False)
    return store.insert_successor(batch.id)

"""Reconcile batches that no Dag run owns any more: resolve, load, or raise an alert."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from nightbatch.batches import accounts, home, in_doubt, loading, retention, troubles, walk
from nightbatch.core.errors import Absent, AccountRefused, ConfigurationError, Displaced, NightbatchError, Transient
from nightbatch.core.ledger import Batch
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import profile, profiles
from nightbatch.core.provider import BatchProvider
from nightbatch.core.settings import Settings
from nightbatch.job_types.base import JobType
from nightbatch.postgres.store import Store

ProviderFor = Callable[[ProviderName], BatchProvider]


@contextmanager
def account_told(store: Store, provider: BatchProvider) -> Iterator[None]:
    """Raise an alert when the account is refused; until that is mended, make a free call first, so that nothing more is sent."""
    try:
        if store.has_open_alert("account_refused", provider.account):
            provider.check()
            store.resolve_alert("account_refused", provider.account)
        yield
    except AccountRefused as refused:
        message = (
            f"{provider.name} refuses the account of the connection {provider.name}_default: {refused}. Nothing more is"
            " sent through it until that is mended; batches under way are kept."
        )
        store.raise_alert("account_refused", provider.account, message)
        raise


def settle_run(store: Store, run_id: str) -> int:
    """Put the jobs of the run's attempts that were never sent back into the queue, and return how many jobs."""
    freed = 0
    for batch in store.never_sent(run_id):
        with troubles.kept_apart(store, "attempt_stuck", str(batch.id), batch.planned_at) as kept:
            in_doubt.give_up(store, batch, "It was not sent in its run.", resend=False)
        if kept.error is None:
            freed += batch.job_count
    return freed


def recover(store: Store, provider_for: ProviderFor, types: Mapping[str, JobType], settings: Settings) -> list[str]:
    """Settle the attempts that no run owns any more; return sentences about what was found and done.

    One provider's trouble does not keep the others from being settled.
    """
    now = store.now()
    try:
        told = home.come_home(store, provider_for, types, settings)
    except Displaced as error:
        return [str(error)]
    for batch in store.open_attempts():
        sentence = None
        with troubles.kept_apart(store, "attempt_stuck", str(batch.id), batch.planned_at) as kept:
            sentence = _recover_one(store, provider_for, types, settings, batch, now)
        if kept.error is not None:
            sentence = f"Batch {batch.id}: {troubles.in_words(kept.error)}"
            _tell_before_results_are_gone(store, batch, now)
        if sentence:
            told.append(sentence)
    told += _load_again(store, provider_for, types)
    store.resolve_settled_alerts()
    told += _take_back_what_waited(store, provider_for, types, settings) + _look_back(store, provider_for)
    if home.is_settled(store):
        told += walk.walk_after_nights(store, provider_for)
        with suppress(Displaced):  # what the walk found is told by an alert
            home.require(store)
    return told + _erase(store, types, settings)


def _take_back_what_waited(
    store: Store, provider_for: ProviderFor, types: Mapping[str, JobType], settings: Settings
) -> list[str]:
    """Carry out what a person said of the database as far as it had to wait for attempts to be settled."""
    if home.is_settled(store):
        return []
    try:
        return home.come_home(store, provider_for, types, settings)
    except Displaced as error:
        return [str(error)]


def _load_again(store: Store, provider_for: ProviderFor, types: Mapping[str, JobType]) -> list[str]:
    """Read batches once more that a person wants read; what the provider refuses for good is not tried again by itself."""
    told = []
    for batch_id in store.wanted_loads():
        with troubles.kept_apart(store, "attempt_stuck", str(batch_id), None) as kept:
            batch = store.batch(batch_id)
            told.append(loading.load_again(store, _of_the_same_account(store, provider_for, batch), types, batch_id))
        if kept.error is not None:
            told.append(f"Batch {batch_id} could not be read once more: {troubles.in_words(kept.error)}")
        if not isinstance(kept.error, Transient):
            store.load_done(batch_id)
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
            return _recover_doubt(store, provider_for, types, settings, batch, now)
        case "submitted":
            return _recover_submitted(store, provider_for, types, settings, batch, now)
        case _ if now - batch.planned_at > timedelta(hours=settings.wait_hours):
            in_doubt.give_up(store, batch, "Its run ended without sending it.", resend=False)
            return f"Batch {batch.id} was never sent; its {batch.job_count} jobs are queued again."
    return None


def _recover_doubt(
    store: Store,
    provider_for: ProviderFor,
    types: Mapping[str, JobType],
    settings: Settings,
    batch: Batch,
    now: datetime,
) -> str | None:
    if batch.intent_at and now - batch.intent_at < timedelta(seconds=settings.create_seconds):
        return None  # its own task is, or may be, still at it
    provider = _of_the_same_account(store, provider_for, batch)
    try:
        with account_told(store, provider):
            settled = in_doubt.resolve_doubt(store, provider, batch, settings, resend=False)
    except NightbatchError as error:
        if store.batch(batch.id).state == "submitting":
            store.raise_alert("in_doubt", str(batch.id), str(error))
        raise
    if settled.state == "submitted":
        found = f"Batch {batch.id} was found at {batch.provider} as {settled.provider_batch_id} and adopted."
        loaded = _recover_submitted(store, provider_for, types, settings, settled, now)
        return f"{found} {loaded}" if loaded else found
    return f"Batch {batch.id} was never created; its {batch.job_count} jobs are queued again."


def _recover_submitted(
    store: Store,
    provider_for: ProviderFor,
    types: Mapping[str, JobType],
    settings: Settings,
    batch: Batch,
    now: datetime,
) -> str | None:
    provider = _of_the_same_account(store, provider_for, batch)
    assert batch.provider_batch_id and batch.submitted_at  # the schema says so for this state
    with account_told(store, provider):
        try:
            state = asyncio.run(provider.get_state(batch.provider_batch_id))
        except Absent as error:
            return _unknown_batch(store, batch, error)
        store.resolve_alert("unknown_batch", str(batch.id))
        if state.phase != "running":
            loaded = loading.load_batch(store, provider, types, batch.id)
            return f"Batch {batch.id} had ended and is loaded: {loaded.succeeded} of {loaded.jobs} succeeded."
        if batch.cancel_wanted_at:
            provider.cancel(batch.provider_batch_id)
            return f"Batch {batch.id}: {batch.provider} was asked to cancel it; what has finished by then is loaded."
    if now - batch.submitted_at > timedelta(hours=overdue_hours(batch.provider, settings)):
        message = (
            f"Batch {batch.id} is overdue: {batch.provider} has had it since {batch.submitted_at:%Y-%m-%d %H:%M} UTC."
            f" It is waited for; `nightbatch cancel {batch.id}` ends it, loads what has finished, and lets the rest go with"
            " the next run."
        )
        store.raise_alert("overdue", str(batch.id), message)
        return message
    return None


def _of_the_same_account(store: Store, provider_for: ProviderFor, batch: Batch) -> BatchProvider:
    """Return the provider, if its key is of the attempt's account. Raises `ConfigurationError` if it is of another one."""
    provider = provider_for(batch.provider)
    with account_told(store, provider):
        same = batch.account_fingerprint is not None and accounts.reaches(store, provider, batch.account_fingerprint)
    if same:
        store.resolve_alert("other_account", str(batch.id))
        return provider
    message = (
        f"It belongs to another {batch.provider} account than the connection's key; nothing is sent again. Put the key"
        " back. One that was only rotated is taken over when it sees a batch of the account; this one sees none."
    )
    if batch.state == "submitting" and (taken := store.take_over(batch)):
        store.record_held(taken, message)
    store.raise_alert("other_account", str(batch.id), f"Batch {batch.id}: {message}")
    raise ConfigurationError(message)


def _unknown_batch(store: Store, batch: Batch, error: Absent) -> str:
    """Raise an alert for a batch that its provider does not know any more, and return its text.

    It was accepted once, so it may have been billed: it is never sent again.
    """
    message = (
        f"Batch {batch.id}: {batch.provider} does not know {batch.provider_batch_id} any more ({error}). Was it deleted"
        " there, or does the key belong to another project or workspace than the one that sent it? It is asked for again"
        f" every hour; `nightbatch release {batch.id}` gives its results up."
    )
    store.raise_alert("unknown_batch", str(batch.id), message)
    return message


def _tell_before_results_are_gone(store: Store, batch: Batch, now: datetime) -> None:
    """Raise an alert when half of the time has passed for which a provider keeps results, and these could not be loaded."""
    facts = profiles().get(batch.provider)  # its package may be gone
    if (
        facts
        and batch.state == "submitted"
        and batch.submitted_at
        and now - batch.submitted_at > facts.results_kept / 2
    ):
        until = batch.submitted_at + facts.results_kept
        message = (
            f"Batch {batch.id}: its {batch.job_count} results are paid for and not loaded, and {batch.provider} deletes"
            f" them about {until:%Y-%m-%d %H:%M} UTC. `nightbatch doctor` says what keeps them from being loaded."
        )
        store.raise_alert("results_expire", str(batch.id), message)


def _look_back(store: Store, provider_for: ProviderFor) -> list[str]:
    """Look once more for batches of released attempts, and book those that turned up; return sentences about them.

    A person's decision to release may prove wrong.
    """
    told = []
    for batch in store.released_attempts():
        with troubles.kept_apart(store, "not_looked_for", str(batch.id), batch.closed_at) as kept:
            provider = provider_for(batch.provider)
            if not accounts.reaches(store, provider, batch.account_fingerprint or ""):
                raise ConfigurationError(
                    f"its {batch.provider} account has no key any more. If it was created after all, it is paid for and nobody"
                    " sees it: put the key back for three days, or look into the provider's console."
                )
            found = [late for late in in_doubt.find(store, provider, batch) if late.certain]
            told += [in_doubt.record_duplicate(store, batch, late) for late in found]
        if kept.error is not None:
            why = troubles.in_words(kept.error)
            told.append(f"Batch {batch.id}, which was released, could not be looked for again: {why}")
    return told


def _erase(store: Store, types: Mapping[str, JobType], settings: Settings) -> list[str]:
    """Erase what has been kept for long enough; return sentences about it. What goes wrong is told, and ends nothing else."""
    with troubles.kept_apart(store, "not_erased", "retention", None) as kept:
        return retention.erase(store, types, settings)
    return [f"Old inputs and outputs could not be erased: {troubles.in_words(kept.error)}"] if kept.error else []


def overdue_hours(provider: ProviderName, settings: Settings) -> float:
    """Return when a batch is overdue, in hours."""
    return max(settings.wait_hours, profile(provider).overdue_hours)


def needs_a_person(store: Store, run_id: str) -> list[str]:
    """Return why a run is not simply done, in sentences; empty when it is."""
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

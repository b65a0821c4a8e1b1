"""Carry out what only a person can decide about an attempt: each choice is explained, done once, and recorded with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, assert_never

from nightbatch.batches import in_doubt, loading
from nightbatch.core.errors import NightbatchError, NotFound
from nightbatch.core.ledger import Batch
from nightbatch.postgres.store import Store

Choice = Literal["resend", "drop", "adopt"]

MEANINGS: Mapping[str, str] = {
    "adopt": "You found the batch in the provider's console: its results are waited for and loaded. Nothing is paid again.",
    "resend": (
        "You looked, and it is not there: its jobs go with the next run. If it was created after all, they are paid for"
        " twice; nightbatch goes on looking for three days and books what it finds as waste."
    ),
    "drop": (
        "Its jobs end as cancelled and are never sent again. If it was created after all, it is paid for and its results"
        " are not used."
    ),
}
"""What each choice does with a held attempt, as a person reads it before deciding."""

UNSEEN = (
    "The connection's key is another account's, so what may have been created cannot be looked for. Its jobs go with the next"
    " run; if it was created after all, they are paid for twice, and that is seen only if the key is put back within three days."
)
"""What ``resend`` does while the key is gone that the attempt was sent with."""

GIVE_UP_RESULTS = (
    "The provider accepted it, so it may have been billed: its jobs end as failed, without a result, and are never sent"
    " again. Insert them as new jobs if you want them paid for again."
)
"""What ``drop`` does with a batch that was accepted and that the provider does not know any more."""

CANCEL = (
    "The provider is asked to end it. What has finished by then is paid for and loaded; the rest is not, and goes with the"
    " next run."
)
"""What cancelling a batch does."""


def choices(batch: Batch, *, key_gone: bool = False) -> Mapping[str, str]:
    """Return what a person may decide about an attempt in its present state, each in words; empty when nothing is to be decided.

    ``key_gone``: it cannot be looked for through the key that the connection has now.
    """
    match batch.state:
        case "held":
            return {**MEANINGS, "resend": UNSEEN} if key_gone else MEANINGS
        case "submitted":
            return {"drop": GIVE_UP_RESULTS}
        case _:
            return {}


def release(
    store: Store, batch_id: int, *, choice: Choice, by: str, reason: str, provider_batch_id: str | None = None
) -> str:
    """Carry out a person's decision about an attempt, record it, and return a sentence about what was done.

    ``adopt`` needs the ``provider_batch_id`` that the person found. Raises `NightbatchError` where the attempt allows no
    such choice, or when it moved on meanwhile.
    """
    batch = find(store, batch_id)
    check(batch, choice)
    if (choice == "adopt") != (provider_batch_id is not None):
        raise NightbatchError(
            "To adopt a batch, name the id that the provider's console shows; no other choice needs one."
        )
    with store.transaction():
        store.record_decision(batch_id, choice, by, reason, provider_batch_id)
        told = _carry_out(store, batch, choice, f"{by}: {reason}", provider_batch_id)
        store.resolve_settled_alerts()
    return told


def find(store: Store, batch_id: int) -> Batch:
    """Return the batch with this id. Raises `NotFound` when there is none."""
    try:
        return store.batch(batch_id)
    except LookupError as error:
        raise NotFound(str(error)) from None


def check(batch: Batch, choice: Choice) -> None:
    """Raise `NightbatchError` for a choice that the attempt does not allow, and say what is open instead."""
    if choice not in choices(batch):
        raise NightbatchError(_no_choice(batch, choice))


def _carry_out(store: Store, batch: Batch, choice: Choice, why: str, provider_batch_id: str | None) -> str:
    if batch.state == "submitted":
        loading.give_results_up(store, batch.id, f"Its results were given up by {why}")
        return f"Batch {batch.id} is closed without its results; its {batch.job_count} jobs end as failed."
    taken = store.take_over(batch)
    if taken is None:
        raise NightbatchError(f"Batch {batch.id} was moved on by nightbatch itself meanwhile: look again.")
    match choice:
        case "adopt":
            return _adopt(store, taken, provider_batch_id or "")
        case "resend":
            told = f"Batch {batch.id} is released: its {batch.job_count} jobs go with the next run."
            unseen = f" {UNSEEN}" if store.has_open_alert("other_account", str(batch.id)) else ""
            in_doubt.give_up(store, taken, f"Released by {why}", resend=False)
            return told + unseen
        case "drop":
            if not store.close_attempt(taken, "abandoned", f"Dropped by {why}"):
                raise NightbatchError(f"Batch {batch.id} was moved on by nightbatch itself meanwhile: look again.")
            store.dismiss_members(batch.id, f"Its attempt was in doubt and was dropped by {why}", state="cancelled")
            return f"Batch {batch.id} is dropped: its {batch.job_count} jobs end as cancelled."
        case _:
            assert_never(choice)


def _adopt(store: Store, batch: Batch, provider_batch_id: str) -> str:
    try:
        adopted = store.record_submission(batch.id, provider_batch_id)
    except LookupError as error:
        raise NightbatchError(str(error)) from None
    if adopted is None:
        raise NightbatchError(f"Batch {batch.id} was moved on by nightbatch itself meanwhile: look again.")
    return f"Batch {batch.id} is {provider_batch_id}; its results are loaded when it ends, if they are of its jobs."


def _no_choice(batch: Batch, choice: Choice) -> str:
    if batch.closed_at is not None:
        return f"Batch {batch.id} is {batch.state}: there is nothing to decide any more."
    if batch.state == "submitted":
        return (
            f"Batch {batch.id} was accepted by {batch.provider} as {batch.provider_batch_id} and may have been billed, so"
            f" {choice} is not open: cancel it, wait for it, or drop its results."
        )
    return f"Batch {batch.id} is {batch.state}: nightbatch settles it by itself. `nightbatch doctor` says when."


def ask_to_cancel(store: Store, batch_id: int, *, by: str, reason: str) -> str:
    """Ask the next `nightbatch_recover`, which has the key, to end a batch early, record that, and return a sentence about it.

    What has finished by then is billed and loaded, the rest goes with the next run. Raises `NightbatchError` for an
    attempt that is not with a provider.
    """
    with store.transaction():
        if not store.want_cancel(batch_id):
            raise NightbatchError(not_with_a_provider(find(store, batch_id)))
        store.record_decision(batch_id, "cancel", by, reason)
    return f"Batch {batch_id} is cancelled by the next run of nightbatch_recover; what has finished by then is loaded."


def ask_to_load(store: Store, batch_id: int, *, by: str, reason: str) -> str:
    """Ask the next `nightbatch_recover`, which has the key, to read a loaded batch once more, record that, and return a sentence.

    What was missing is filled in; nothing is sent, paid or read twice. Raises `NightbatchError` for a batch that was not loaded.
    """
    with store.transaction():
        if not store.want_load(batch_id):
            batch = find(store, batch_id)
            raise NightbatchError(
                f"Batch {batch_id} is {batch.state}: only a batch whose results were loaded is read once more."
            )
        store.record_decision(batch_id, "load", by, reason)
    return f"Batch {batch_id} is read once more by the next run of nightbatch_recover; what was missing is filled in."


def not_with_a_provider(batch: Batch) -> str:
    """Return the sentence that says why a batch cannot be cancelled."""
    return f"Batch {batch.id} is {batch.state}: only one that is with its provider can be cancelled."

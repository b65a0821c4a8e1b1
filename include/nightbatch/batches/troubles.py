"""Tell a person of one attempt's trouble, and keep it from stopping the work on all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from traceback import extract_tb
from typing import Literal

from nightbatch.core import certainty
from nightbatch.core.errors import AccountRefused, NightbatchError, SubmissionInDoubt, Transient
from nightbatch.core.provider import BatchProvider
from nightbatch.postgres import connections
from nightbatch.postgres.store import Store

Kind = Literal["attempt_stuck", "not_looked_for", "not_walked", "not_erased"]

PATIENCE = timedelta(hours=24)
"""How long trouble that should pass by itself, as a provider that does not answer, is not told to anybody."""


@dataclass(slots=True)
class Kept:
    """The error that was kept from ending the loop around it; None when all went well."""

    error: Exception | None = None


@contextmanager
def kept_apart(store: Store, kind: Kind, subject: str, since: datetime | None) -> Iterator[Kept]:
    """Keep whatever is raised inside from ending the loop around it, and raise an alert of this kind that names the subject.

    ``since`` is when work on it began: trouble that passes by itself is told after `PATIENCE`. What goes well resolves the alert.
    An error that says nothing of the subject is raised: no memory, or no database to tell it to.
    """
    kept = Kept()
    try:
        yield kept
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  of a job type, an adapter, or ours: the others go on
        kept.error = error
        if _is_to_be_told(store, subject, since, error):
            store.raise_alert(kind, subject, f"{_about(kind, subject)}: {in_words(error)}")
    else:
        store.resolve_alert(kind, subject)


PATIENT_TRIES = 5
"""Tries in a row without a sign from a provider, after which a person is told and nothing is resent at once."""


@contextmanager
def silence_told(store: Store, provider: BatchProvider) -> Iterator[None]:
    """Count calls that the provider neither carried out nor answered; after `PATIENT_TRIES` of them raise an alert."""
    try:
        yield
    except Exception as error:
        if certainty.of(error) == "refused":
            heard(store, provider)
        elif _is_silence(error):
            tries = connections.count_silent(store, provider)
            if tries >= PATIENT_TRIES:
                store.raise_alert("no_sign", provider.account, _no_sign(provider, tries, error))
        raise


def is_silent(store: Store, provider: BatchProvider) -> bool:
    """Return whether a person was told that the provider gives no sign."""
    return store.has_open_alert("no_sign", provider.account)


def heard(store: Store, provider: BatchProvider) -> None:
    """Note a sign from the provider, which ends its silence."""
    if connections.heard(store, provider):
        store.resolve_alert("no_sign", provider.account)


def _is_silence(error: Exception) -> bool:
    """Say whether an error counts as silence: a create in doubt does, waiting for one to be settled does not."""
    return isinstance(error, Transient) or (isinstance(error, SubmissionInDoubt) and error.__cause__ is not None)


def _no_sign(provider: BatchProvider, tries: int, error: Exception) -> str:
    return (
        f"{provider.name} has given no sign through the connection {provider.name}_default for {tries} tries in a row: "
        f"{in_words(error)} The jobs are kept, and each run tries again. Is the network up, and does the base URL lead to"
        f" {provider.name}'s API?"
    )


def in_words(error: Exception) -> str:
    """Return what a person may read of an error; of one that is not ours only its place, since its text may hold a payload."""
    if isinstance(error, NightbatchError):
        return str(error)
    place = extract_tb(error.__traceback__)[-1]
    return (
        f"nightbatch failed with {type(error).__name__} in {place.name} (line {place.lineno} of"
        f" {place.filename.rpartition('/')[2]}). It is tried again every hour; the others go on."
    )


def _about(kind: Kind, subject: str) -> str:
    match kind:
        case "attempt_stuck":
            return f"Batch {subject}"
        case "not_looked_for":
            return f"Batch {subject}, which was released, could not be looked for again"
        case "not_walked":
            return f"The list of the account {subject} could not be read to its end after the night"
        case "not_erased":
            return "Old inputs and outputs could not be erased"


def _is_to_be_told(store: Store, subject: str, since: datetime | None, error: Exception) -> bool:
    match error:
        case AccountRefused():
            return False  # has an alert of its own, for all attempts of the account
        case Transient() | SubmissionInDoubt():
            return since is not None and store.now() - since > PATIENCE and not _is_told(store, subject)
        case NightbatchError():
            return not _is_told(store, subject)
        case _:
            return True


def _is_told(store: Store, subject: str) -> bool:
    """Say whether another alert names the subject already, in better words."""
    return any(alert.subject == subject and alert.kind != "attempt_stuck" for alert in store.open_alerts())

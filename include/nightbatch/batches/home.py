"""Find out whether this database is the one that the ledger was kept in, and carry out what a person says happened to it.

A ledger that was copied, restored from a backup, or failed over without its last seconds does not know what was sent since: its
jobs look queued and would be paid for again, and a copy that loads a batch deletes the original's files. So nothing is sent,
cancelled, fenced or deleted until a person has said what happened and the providers' lists have been read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nightbatch.batches import accounts, walk
from nightbatch.core.errors import ConfigurationError, Displaced, ProviderError, Refused
from nightbatch.core.ledger import Batch, Route
from nightbatch.core.models import ListedBatch, ProviderName, RequestId, ResultLine, parse_custom_id
from nightbatch.core.profiles import profiles
from nightbatch.core.provider import BatchProvider
from nightbatch.core.settings import Settings
from nightbatch.job_types.base import JobType
from nightbatch.planning.routes import all_routes
from nightbatch.postgres import homes, walks
from nightbatch.postgres.homes import Said as Said
from nightbatch.postgres.store import Store

ProviderFor = Callable[[ProviderName], BatchProvider]

MEANINGS: Mapping[Said, str] = {
    "moved": (
        "It was moved as it stood, and nothing ran meanwhile: dumped and loaded, upgraded, or a standby that had everything. The"
        " providers' lists are read; where they hold more than the ledger, it was no mere move, and nothing is sent."
    ),
    "restored": (
        "It is older than it was: a backup, a snapshot, or a standby that lacked the last seconds. Batches that were sent since"
        " are adopted and loaded. Queued jobs that may have been answered, with the answers gone, end as cancelled."
    ),
    "copy": (
        "It is a copy, and the original goes on: this one becomes an installation of its own. What is queued or under way"
        " here ends as cancelled, since the original has it; insert anew what is to be asked here too."
    ),
}
"""What a person may say of the database, and what is done then."""


def require(store: Store, *, to_load: bool = False) -> None:
    """Raise `Displaced`, and tell a person, where this database is not known to be the right one.

    ``to_load``: what was under way may be loaded once a person says that the database was restored, as no other has it then.
    """
    why = homes.displaced(store)
    if why is None or (to_load and (said := homes.said(store)) and said[0] == "restored"):
        return
    message = (
        f"Nothing is sent from this database: {why}. Jobs that look queued here may have been sent. Say what happened:"
        " `nightbatch identify --moved`, `--restored` or `--copy`; `nightbatch identify` tells what each does."
    )
    store.raise_alert("displaced", "ledger", message)
    raise Displaced(message)


def _told(store: Store, message: str) -> Displaced:
    """Return the error for what keeps anything from being sent from this database, and raise one alert with the same words."""
    if all(alert.message != message for alert in store.open_alerts()):
        with store.transaction():
            store.resolve_alert("displaced", "ledger")
            store.raise_alert("displaced", "ledger", message)
    return Displaced(message)


def say(store: Store, what: Said, *, by: str, reason: str, sure: bool = False) -> str:
    """Record what a person says happened, carry out what needs no provider, and return a sentence about what follows.

    Raises `ConfigurationError` for a database that is where it was. ``sure``: it is a copy all the same, as of a whole disk.
    """
    if what == "copy":
        if homes.displaced(store) is None and not sure:
            raise ConfigurationError(
                "This database is where it was. If it is the clone of a disk whose original goes on, say so with --yes: what is"
                " queued or under way here then ends as cancelled."
            )
        with store.transaction():
            homes.record(store, what, by, reason)
            attempts, jobs = homes.become_a_copy(store)
            homes.settle(store)
            store.resolve_alert("displaced", "ledger")
            store.resolve_settled_alerts()
        return f"This is an installation of its own now. {attempts} attempts and {jobs} jobs are left to the original."
    with store.transaction():
        if homes.displaced(store) is None:
            raise ConfigurationError("This database is where it was: there is nothing to say of it.")
        homes.record(store, what, by, reason)
        homes.say(store, what)
    return "nightbatch_recover reads the providers' lists, within the hour, and carries it out: start the Dag to have it now."


def is_settled(store: Store) -> bool:
    """Return whether nothing that a person said of the database is left to be carried out."""
    return homes.said(store) is None


def come_home(store: Store, provider_for: ProviderFor, types: Mapping[str, JobType], settings: Settings) -> list[str]:
    """Carry out what a person said of the database, and return sentences about what was found.

    Raises `Displaced` as `require` does, and where the lists hold batches that a database which was only moved would know.
    What was said cannot be carried out while a list cannot be read, or while a batch runs that may be this installation's. A
    batch of before may have answered jobs that an attempt holds and may give back to the queue: then that one is settled first,
    and the batch is left to the next call.
    """
    what = homes.said(store)
    if what is None:
        require(store)
        return []
    said, said_at = what
    found = _read_lists(store, provider_for, said_at)
    hindered = list(found.hindered)
    ours = [batch for _, batch in found.unknown if batch.tag or batch.ended]
    if said == "moved" and ours:
        hindered.append(
            f"It was no mere move: the ledger does not know {_named(ours)}. Say --restored if it is older than it was."
        )
    hindered += [
        f"{provider.name} still runs {batch.provider_batch_id}, and only its results tell whose it is and which jobs it holds:"
        " wait for its end, or cancel it in the console."
        for provider, batch in found.unknown
        if not batch.ended
    ]
    if hindered:
        raise _told(store, f"Nothing is sent from this database yet. {' '.join(hindered)}")
    lost = [(provider, batch, *_requests(provider, batch)) for provider, batch in found.unknown]
    routes = {(route.job_type, route.provider): route for route in all_routes(types.values(), settings)}
    with store.transaction():
        now = store.now()
        homes.settle(store)
        if said == "restored":
            _free_the_unsent(store, {batch.tag for _, batch, *_ in lost})
        run_id = f"restored__{now:%Y-%m-%dT%H:%M:%S}"
        told, waiting = [], []
        lost.sort(key=lambda one: not one[3])  # what may be of any job comes last
        for provider, batch, requests, whole in lost:
            if in_the_way := homes.in_the_way(store, provider.name, batch, requests if whole else None):
                waiting.append(_waits(provider, batch, in_the_way))
                continue
            told += _take_back(store, run_id, provider, batch, requests, routes)
            if not whole:
                told.append(_hold_back(store, provider, batch, "Not all of its results can be read."))
        if waiting:
            homes.doubt(store, "batches of before wait for what may hold their jobs")
            homes.say(store, said)
            return [*told, str(_told(store, f"Nothing is sent from this database yet. {' '.join(waiting)}"))]
        for name, account in found.read:
            walks.walked(store, name, account, now)
        store.resolve_alert("displaced", "ledger")
    return [f"This database is at home here from now on, as {said}.", *told]


def _waits(provider: BatchProvider, batch: ListedBatch, in_the_way: list[int]) -> str:
    numbers = ", ".join(map(str, in_the_way))
    return (
        f"{provider.name}'s {batch.provider_batch_id} may have answered jobs that are under way here in batch {numbers}: what is"
        " in doubt there is settled first, and what has ended is loaded; what is held waits for you (`nightbatch release`)."
    )


@dataclass(slots=True)
class _Lists:
    """What the providers' lists hold and the ledger lacks, and what kept the lists from being read."""

    read: list[tuple[ProviderName, str]] = field(default_factory=list)
    unknown: list[tuple[BatchProvider, ListedBatch]] = field(default_factory=list)
    hindered: list[str] = field(default_factory=list)


def _read_lists(store: Store, provider_for: ProviderFor, said_at: datetime) -> _Lists:
    found = _Lists()
    used = {(name, account): since for name, account, since in homes.accounts(store)}
    last = max(used.values(), default=store.now() - timedelta(days=31))
    for name in profiles():
        theirs = {account for other, account in used if other == name}
        try:
            provider = provider_for(name)
        except ConfigurationError as error:
            if theirs:
                found.hindered.append(f"The list of {name} cannot be read: {error}")
            continue
        try:
            gone = [account for account in theirs if not accounts.reaches(store, provider, account)]
            mine = accounts.of(store, provider)
            unknown = walk.unknown(store, provider, mine, used.get((name, mine), last), running_until=said_at)
        except ProviderError as error:
            found.hindered.append(f"The list of {name} cannot be read: {error}")
            continue
        if gone:
            found.hindered.append(
                f"{len(gone)} accounts of {name} have no key any more, and their lists cannot be read: put the key back."
            )
        found.unknown += [(provider, batch) for batch in unknown]
        found.read.append((name, mine))
    return found


def _requests(provider: BatchProvider, batch: ListedBatch) -> tuple[list[RequestId], bool]:
    """Return which requests a batch answered, and whether these are all: its results may be gone, or a line unreadable."""
    try:
        lines = list(provider.iter_results(batch.provider_batch_id))
    except Refused:
        return [], False
    named = [parse_custom_id(line.custom_id) if isinstance(line, ResultLine) else None for line in lines]
    return [request for request in named if request], None not in named


def _hold_back(
    store: Store, provider: BatchProvider, batch: ListedBatch, why: str, job_ids: list[int] | None = None
) -> str:
    """End queued jobs that a batch may have answered, these or all of the provider, and return a sentence about it."""
    name = batch.provider_batch_id
    reason = f"The database was restored, and {provider.name}'s {name} of before may have answered this job: it may be paid for."
    held = homes.hold_back(store, provider.name, batch.created_at or store.now(), reason, job_ids)
    return f"{name}: {why} {held} queued jobs that it may have answered end as cancelled."


def _free_the_unsent(store: Store, tags: Collection[str | None]) -> None:
    """Put jobs of attempts that were planned and not sent back into the queue, where the jobs of lost attempts are looked for."""
    for batch in homes.unsent(store):
        if batch.tag not in tags and store.close_attempt(batch, "abandoned", "The database was restored."):
            store.free_members(batch.id, counts_as_attempt=False)


def _take_back(
    store: Store, run_id: str, provider: BatchProvider, batch: ListedBatch, requests: list[RequestId],
    routes: Mapping[tuple[str, ProviderName], Route],
) -> list[str]:  # fmt: skip
    """Adopt a batch that the ledger does not know, within a transaction; return sentences about it."""
    name, created_at = batch.provider_batch_id, batch.created_at or store.now()
    known = walks.of_tag(store, batch.tag) if batch.tag else None
    if not requests:
        if known and store.close_attempt(known, "abandoned", "It was sent, and its results are gone."):
            store.free_members(known.id, counts_as_attempt=True)
        return []
    told: list[str] = []
    job_ids = [request.job_id for request in requests]
    if known:
        attempt = _as_sent(store, known, set(job_ids))
    else:
        waiting = homes.waiting(store, provider.name, job_ids, created_at)
        if unsure := [job.id for job in waiting if not job.certain]:
            why = "Their numbers may be those of lost jobs, given again."
            told.append(_hold_back(store, provider, batch, why, unsure))
        jobs = [job for job in waiting if job.certain]
        route = next((found for job in jobs if (found := routes.get((job.job_type, provider.name)))), None)
        if route is None:
            return [*told, f"{name}: none of its {len(job_ids)} jobs waits here. Its results stay at {provider.name}."]
        model = jobs[0].model or route.default_model
        ids = [job.id for job in jobs]
        attempt = homes.make_attempt(
            store, run_id, requests[0].batch_id, batch.tag, provider.name, model, route.endpoint, ids
        )
    if attempt.payload_sha256 is None:
        digest = hashlib.sha256(name.encode()).hexdigest()
        homes.fix(store, attempt.id, digest, requests[0].nonce, accounts.of(store, provider))
        attempt = store.record_upload(store.batch(attempt.id), None) or attempt
    if homes.adopt(store, attempt.id, created_at):
        store.record_submission(attempt.id, name, created_at)
    return [*told, f"{name} is adopted as batch {attempt.id}, and loaded by the next look."]


def _as_sent(store: Store, batch: Batch, job_ids: set[int]) -> Batch:
    """Take the jobs that were not sent with it out of an attempt that was planned before the backup, and return the attempt."""
    left = [job_id for job_id in store.members(batch.id) if job_id not in job_ids]
    if batch.payload_sha256 is None and left:
        store.postpone_members(batch.id, left)
        store.count_members(batch.id)
    return batch


def _named(batches: list[ListedBatch]) -> str:
    shown = ", ".join(batch.provider_batch_id for batch in batches[:3])
    return shown if len(batches) < 4 else f"{shown} and {len(batches) - 3} more"

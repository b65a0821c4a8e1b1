"""When to look at a batch again, and when to stop: pure decisions, made from what the last look brought."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from nightbatch.core.errors import AccountRefused, NightbatchError, Transient
from nightbatch.core.models import ProviderState

GROWTH = 1.5
"""Each look comes this many times later than the one before, up to the pace's longest pause."""

JITTER = 0.2
"""Pauses vary by this part either way, so that the waits of one night do not all look at the same moment."""

LIST_PAGE = 100
"""Batches on one page of a provider's list; Anthropic's may be longer."""

LOOKS_A_PAGE = 3
"""How many looks at one batch cost as much as one page, in time and in bytes, for the provider and for us."""

LIST_TRUSTED = timedelta(hours=1)
"""How long a batch may be seen in lists alone, give or take a half: a list that stands still must not hide its end."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a batch is looked at. ``first`` and ``longest`` are pauses in seconds.

    ``patience`` is for how long looks may go on failing: an outage is no reason to give a paid batch up.
    """

    first: float = 60.0
    longest: float = 300.0
    patience: timedelta = timedelta(hours=2)

    @property
    def company(self) -> float:
        """Return for how many seconds a look may wait for others that could be made by the same call."""
        return self.first / 12


@dataclass(frozen=True, slots=True)
class Watch:
    """What a wait remembers between two looks.

    ``deadline`` counts from the submission, so that it survives every restart. ``looks`` counts the pauses so far, without
    those that ended with a list; ``failing_since`` is the first of the failed looks since the last good one, ``warned_of``
    the last unknown status, ``listed_since`` when lists began to answer for the batch alone.
    """

    deadline: datetime
    looks: int = 0
    failing_since: datetime | None = None
    warned_of: str | None = None
    listed_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeepWaiting:
    """The decision to look again in ``seconds``, remembering ``watch``; ``warning`` is to be logged, if there is one.

    ``alone``: the next look asks for the batch itself, whatever a list may show.
    """

    seconds: float
    watch: Watch
    warning: str | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The batch is over and can be loaded; ``status`` is the provider's own word."""

    status: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The wait ends without a result, for a reason that a person should read. The batch itself goes on."""

    reason: str


Decision = KeepWaiting | Done | GiveUp


def next_step(
    seen: ProviderState | NightbatchError, watch: Watch, now: datetime, pace: Pace, chance: float = 0.5
) -> Decision:
    """Decide what to do after one look at a batch, from its state or from the error that the look ended with.

    ``now`` is aware; ``chance`` is a random number from 0 to 1, for the jitter.
    """
    if isinstance(seen, Transient):
        return _after_a_miss(seen, watch, now, pace, chance)
    if isinstance(seen, NightbatchError):
        return GiveUp(_refusal(seen))
    match seen.phase:
        case "ended" | "failed":
            return Done(seen.status)
        case "running":
            return _while_running(seen, watch, now, pace, chance)
        case _:
            assert_never(seen.phase)


def _while_running(seen: ProviderState, watch: Watch, now: datetime, pace: Pace, chance: float) -> Decision:
    if now >= watch.deadline and not seen.listed:
        return GiveUp(f"it is still {seen.status!r} past its deadline of {watch.deadline:%Y-%m-%d %H:%M %Z}.")
    warning = None
    if seen.unknown and seen.status != watch.warned_of:
        warning = f"nobody knows the status {seen.status!r}; it is taken for running"
        watch = replace(watch, warned_of=seen.status)
    pause = backoff(watch.looks, first=pace.first, longest=pace.longest, chance=chance)
    since = watch.listed_since or now if seen.listed else None
    alone = since is not None and (now >= watch.deadline or now - since >= LIST_TRUSTED * (0.5 + chance))
    if seen.listed:  # it cost next to nothing, so the next one need not come later
        watch = replace(watch, looks=watch.looks - 1)
    return replace(_wait(pause, replace(watch, failing_since=None, listed_since=since), now, warning), alone=alone)


def _after_a_miss(miss: Transient, watch: Watch, now: datetime, pace: Pace, chance: float) -> Decision:
    since = watch.failing_since or now
    if now >= watch.deadline or now - since >= pace.patience:
        return GiveUp(f"every look since {since:%Y-%m-%d %H:%M %Z} failed, the last one with: {miss}")
    pause = backoff(watch.looks, first=pace.first, longest=pace.longest, chance=chance)
    longer = max(pause, miss.retry_after or 0)
    return _wait(longer, replace(watch, failing_since=since), now, f"this look failed: {miss}")


def _wait(pause: float, watch: Watch, now: datetime, warning: str | None) -> KeepWaiting:
    """Return the decision to pause, but never past the deadline: the last look is made on it."""
    left = max((watch.deadline - now).total_seconds(), 0.0)
    return KeepWaiting(min(pause, left), replace(watch, looks=watch.looks + 1), warning)


def backoff(step: int, *, first: float, longest: float, chance: float = 0.5) -> float:
    """Return the seconds before try ``step`` (0 is the first) is repeated: growing, bounded, jittered."""
    # The exponent is bounded because a float overflows long before a patient wait has made its last look.
    pause = min(first * GROWTH ** min(step, 50), longest)
    return pause * (1 - JITTER + 2 * JITTER * chance)


def list_pages(due: int, waiting: int) -> int:
    """Return how many pages of the provider's list to read instead of a look at each batch that is ``due``; 0 for none.

    The list is for all that are ``waiting``, so it has to be about as long as they take; and it never costs more than the
    looks that it saves, however many batches of other people stand in it.
    """
    affordable = due // LOOKS_A_PAGE
    return affordable if affordable > waiting // LIST_PAGE else 0


def _refusal(error: NightbatchError) -> str:
    status = getattr(error, "status", None)
    if isinstance(error, AccountRefused):
        return f"the account is refused ({error}). Mend the key of the connection; nothing more is sent until then."
    if status == 404:
        return (
            f"the account of the connection does not know it ({error}). Does the key belong to another account or "
            "workspace than the one that sent it? It is not sent again."
        )
    return str(error)

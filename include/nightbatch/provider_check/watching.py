"""Look at what was sent until it has ended, or the time is up. Nothing here sends anything."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from nightbatch.core.errors import ProviderError, Refused
from nightbatch.core.models import ProviderState, ResultLine, Usage
from nightbatch.core.pricing import Cost, rates_for
from nightbatch.provider_check.desk import Desk
from nightbatch.provider_check.record import REQUESTS, Ended, Look, Sent, Words, shareable

_PAUSES = (0.5, 15.0)
_TOKENS = ("input_tokens", "output_tokens", "cached_tokens")


def look_again(desk: Desk) -> None:
    """Look once at every batch that is not done with. Free of charge; nothing new is sent."""
    if desk.record.batches:
        desk.record.trouble = None
    for sent in desk.record.batches:
        if not desk.stopped:
            with desk.alone():
                visit(desk, sent)


def watch(desks: Sequence[Desk], *, seconds: float) -> None:
    """Look again until there is nothing left to wait for, or the time is up."""
    until = time.monotonic() + seconds
    pause, longest = _PAUSES
    while (left := until - time.monotonic()) > 0 and (busy := [desk for desk in desks if desk.busy]):
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, longest)
        for desk in busy:
            look_again(desk)


def visit(desk: Desk, sent: Sent) -> None:
    """Do whatever is next for one batch."""
    if sent.in_doubt:
        _search(desk, sent)
    elif sent.wants_looks:
        _look(desk, sent)
    if sent.running and sent.step != "first" and sent.cancelled_at is None:
        _cancel(desk, sent)
    if sent.running:
        _follow(desk, sent)


def _look(desk: Desk, sent: Sent) -> None:
    since, asked = sent.answered_at or sent.intent_at, datetime.now(UTC)
    assert since  # whatever is looked for was sent
    found = {batch.provider_batch_id for batch in desk.provider.find_submission(sent.submission)}
    listed = sent.provider_batch_id in found
    at = datetime.now(UTC) if listed else asked
    sent.looks.append(Look(_seconds(at - since), listed, len(found - {sent.provider_batch_id})))
    desk.session.save()


def _search(desk: Desk, sent: Sent) -> None:
    """Find the batch of a create whose answer is not known. A candidate that is not certain is left alone."""
    assert sent.intent_at
    waited = datetime.now(UTC) - sent.intent_at
    found = desk.provider.find_submission(sent.submission)
    certain = [batch.provider_batch_id for batch in found if batch.certain]
    sent.looks.append(Look(_seconds(waited), bool(certain), len(found) - bool(certain)))
    if certain:
        sent.provider_batch_id = certain[0]
    elif waited > timedelta(seconds=desk.session.settle_seconds):
        sent.given_up = True
        clean(desk, sent)
    desk.session.save()


def _cancel(desk: Desk, sent: Sent) -> None:
    """Cancel a batch. Repeating it is safe, so it is written down afterwards."""
    if sent.step == "fence":
        desk.tell("ACCEPTED a create whose input file was deleted: the fence does not hold. Cancelling it.")
    assert sent.provider_batch_id
    try:
        desk.provider.cancel(sent.provider_batch_id)
    except Refused as error:
        sent.cancel_refused = Words.of(error)
    sent.cancelled_at = datetime.now(UTC)
    desk.session.save()


def _follow(desk: Desk, sent: Sent) -> None:
    assert sent.provider_batch_id
    try:
        state = asyncio.run(desk.provider.get_state(sent.provider_batch_id))
    except Refused as error:  # old batches vanish; their results then say why they cannot be read
        state = ProviderState(sent.provider_batch_id, "ended", "not known any more", error=str(error))
    sent.status = state.status
    if state.phase != "running":
        sent.ended = _ended(desk, sent, state)
        desk.tell(f"{sent.step}: {sent.provider_batch_id} ended as {state.status}")
    desk.session.save()
    if sent.ended:
        clean(desk, sent)


def _ended(desk: Desk, sent: Sent, state: ProviderState) -> Ended:
    """Count and price the results; their text is not kept."""
    lines: Counter[str] = Counter()
    used: list[Usage] = []
    unread = None
    try:
        results = () if state.phase == "failed" else desk.provider.iter_results(state.provider_batch_id)
        for line in results:
            lines[line.outcome if isinstance(line, ResultLine) else "unreadable"] += 1
            if isinstance(line, ResultLine) and line.usage:
                used.append(line.usage)
    except Refused as error:
        unread = Words.of(error)
    since = state.created_at or sent.answered_at or sent.intent_at or datetime.now(UTC)
    cost = _cost(desk, sent, used)
    return Ended(
        status=state.status,
        failed=state.phase == "failed",
        after_seconds=_seconds((state.ended_at or datetime.now(UTC)) - since),
        counts=state.counts,
        error=shareable(state.error) if state.error else None,
        lines=dict(lines),
        missing=REQUESTS - lines.total(),
        with_usage=len(used),
        usage=Usage(*(sum(getattr(one, name) for one in used) for name in _TOKENS)),
        batch_usd=cost.batch_usd if cost else None,
        realtime_usd=cost.realtime_usd if cost else None,
        unread=unread,
    )


def _cost(desk: Desk, sent: Sent, used: Sequence[Usage]) -> Cost | None:
    rates = rates_for(desk.name, sent.model, at=sent.intent_at or datetime.now(UTC))
    if rates is None:
        return None
    zero = Decimal(0)
    total = Cost(zero, zero)
    for one in used:
        cost = rates.cost(one)
        if cost is None:  # something in it has no price
            return None
        total = Cost(total.realtime_usd + cost.realtime_usd, total.batch_usd + cost.batch_usd)
    return total


def clean(desk: Desk, sent: Sent) -> None:
    """Delete the provider's files of a batch that is over."""
    with suppress(ProviderError):  # what is left behind expires by itself
        desk.provider.delete_files(sent.submission, sent.provider_batch_id)


def _seconds(span: timedelta) -> float:
    return round(span.total_seconds(), 3)

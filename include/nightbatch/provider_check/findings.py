"""Answer the questions of `nightbatch doctor --live` from a record: pure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from nightbatch.core.profiles import ProviderProfile
from nightbatch.provider_check.record import REQUESTS, Ended, Finding, Look, ProviderRecord, Sent, Words

_LISTED = "How soon is a new batch in the provider's list?"
_FENCE = "Is a create refused once its input file is deleted?"
_NAME = "What does an upload under a file name answer that is in use, or was deleted?"
_CANCELLED = "What does a batch return, and cost, that is cancelled right away?"
_ENDED = "What does a batch return, and cost, that nobody disturbs?"
_EXPIRED = "What is billed of an expired batch?"
_NOT_YET = "Not asked yet."


def findings(facts: ProviderProfile, record: ProviderRecord, settle_seconds: float) -> dict[str, Finding]:
    """Return every question with the answer so far. ``settle_seconds`` is how long recovery waits for a list to catch up."""
    first, cancelled = record.latest("first"), record.latest("cancel")
    found = {
        "listed": _listed(first, settle_seconds),
        "fence": _fence(facts, record.latest("fence")),
        "cancelled": _end(_CANCELLED, facts.bill, cancelled),
        "ended": _end(_ENDED, facts.bill, first),
        "expired": _expired(facts.bill, first),
    }
    return found | ({"reused_name": _reused_name(record)} if facts.names_uploads else {})


def _listed(sent: Sent | None, settle_seconds: float) -> Finding:
    if sent is None or not sent.looks:
        return Finding(_LISTED, _unsent(sent))
    seen = [look for look in sent.looks if look.listed]
    evidence = {"looks": msgspec.to_builtins(sent.looks), "create_seconds": _between(sent.intent_at, sent.answered_at)}
    if not seen:
        last = sent.looks[-1].after_seconds
        late = last > settle_seconds
        answer = f"Not listed {last:.1f} s after its create" + (
            f", longer than NIGHTBATCH_SETTLE_SECONDS ({settle_seconds:g}) waits." if late else "; run this again."
        )
        return Finding(_LISTED, answer, False if late else None, evidence)
    return Finding(_LISTED, *_listed_at(sent.looks, seen[0], settle_seconds), evidence)


def _listed_at(looks: list[Look], seen: Look, settle_seconds: float) -> tuple[str, bool]:
    before = [look.after_seconds for look in looks[: looks.index(seen)]]
    answer = f"Listed {seen.after_seconds:.1f} s after its create was answered, " + (
        f"not yet at {before[-1]:.1f} s." if before else "at the first look."
    )
    if gone := [look for look in looks[looks.index(seen) :] if not look.listed]:
        return f"{answer} But {gone[0].after_seconds:.1f} s after its create it was missing from the list again.", False
    if seen.after_seconds > settle_seconds:
        return f"{answer} NIGHTBATCH_SETTLE_SECONDS is {settle_seconds:g}: too short, set it higher.", False
    return f"{answer} NIGHTBATCH_SETTLE_SECONDS is {settle_seconds:g}.", True


def _fence(facts: ProviderProfile, sent: Sent | None) -> Finding:
    if not facts.takes_files:
        answer = (
            "Does not apply: the create carries the requests, there is no file. What is in doubt is held for a person."
        )
        return Finding(_FENCE, answer)
    if sent is None:
        return Finding(_FENCE, _NOT_YET)
    evidence = {"seconds_after_deletion": _between(sent.fenced_at, sent.intent_at)}
    if sent.refused:
        return Finding(_FENCE, f"Yes: {_said(sent.refused)}", True, evidence | _words(sent.refused))
    if sent.provider_batch_id is None:
        return Finding(_FENCE, _unsent(sent), evidence=evidence | _words(sent.unclear))
    if sent.ended and sent.ended.failed:
        answer = f"In effect: the create is accepted, but the batch then fails and runs nothing. “{sent.ended.error}”."
        return Finding(_FENCE, answer, None, evidence | _bill(sent.ended))
    became = f"its end: {sent.ended.status}" if sent.ended else "its end is not known yet"
    answer = (
        f"NO. {facts.name} accepted the create as {sent.provider_batch_id}: THE FENCE DOES NOT HOLD, and a create in doubt may be"
        f" paid twice. The batch was cancelled at once; {became}. Tell nightbatch's authors, with this file."
    )
    return Finding(_FENCE, answer, False, evidence | _bill(sent.ended))


def _reused_name(record: ProviderRecord) -> Finding:
    if record.names is None:
        return Finding(_NAME, _NOT_YET)
    in_use, deleted = record.names.in_use, record.names.deleted
    answer = f"In use: {_said(in_use)} Deleted before: {_said(deleted)}"
    fine = in_use.status in (200, 409)
    answer += (
        " nightbatch goes on with the file that has the name."
        if fine
        else " nightbatch expects 409 for a name in use: a crash right after an upload would keep the batch from being sent."
    )
    evidence = {"in_use": msgspec.to_builtins(in_use), "deleted": msgspec.to_builtins(deleted)}
    return Finding(_NAME, answer, fine, evidence)


def _end(question: str, bill: str, sent: Sent | None) -> Finding:
    if sent is None or sent.ended is None:
        return Finding(question, _unsent(sent))
    ended = sent.ended
    return Finding(question, f"{_became(sent, ended)} {_charged(bill, ended)}", _nothing_lost(ended), _bill(ended))


def _expired(bill: str, sent: Sent | None) -> Finding:
    if sent is None or sent.ended is None:
        return Finding(_EXPIRED, f"Not known: an expiry takes a day or two and cannot be asked for. {_unsent(sent)}")
    if "expired" not in (sent.ended.status.lower(), *sent.ended.lines):
        answer = (
            f"Not learned: the batch did not expire (its end: {sent.ended.status}), and an expiry cannot be asked for."
        )
        return Finding(_EXPIRED, answer)
    return _end(_EXPIRED, bill, sent)


def _became(sent: Sent, ended: Ended) -> str:
    if sent.cancel_refused:
        return f"The cancel was answered with {_said(sent.cancel_refused)} Its end: {ended.status}."
    why = f" (“{ended.error}”)" if ended.error else ""
    return f"Its end: {ended.status}{why}, after {ended.after_seconds:.0f} s."


def _charged(bill: str, ended: Ended) -> str:
    if ended.unread:
        return f"Its results could not be read: {_said(ended.unread)} The invoice: {bill}."
    lines = ", ".join(f"{count} {outcome}" for outcome, count in sorted(ended.lines.items())) or "no line"
    cost = "of unknown price" if ended.batch_usd is None else f"${ended.batch_usd:f} at the batch price"
    return (
        f"Of {REQUESTS} requests: {lines}. The API shows tokens for {ended.with_usage}"
        f" (in {ended.usage.input_tokens}, out {ended.usage.output_tokens}: {cost})."
        f" Whether more was charged only the invoice says: {bill}."
    )


def _nothing_lost(ended: Ended) -> bool | None:
    """Return whether every request that the provider counts as done, and so bills, came back with its tokens; None if unknown."""
    if ended.failed or ended.counts is None:
        return None
    return ended.unread is None and ended.counts.succeeded <= ended.with_usage


def _bill(ended: Ended | None) -> dict[str, object]:
    return dict(msgspec.to_builtins(ended)) if ended else {}


def _unsent(sent: Sent | None) -> str:
    """Say why a batch has no answer to give yet."""
    if sent is None:
        return _NOT_YET
    if sent.refused:
        return f"Not learned: the batch was refused. {_said(sent.refused)}"
    if sent.provider_batch_id:
        return f"It is still {sent.status or 'running'} as {sent.provider_batch_id}; run this again later."
    why = f" {_said(sent.unclear)}" if sent.unclear else ""
    looks = f" It was looked for {len(sent.looks)} times and not found." if sent.looks else ""
    return f"Not learned: whether the batch exists is not known.{why}{looks}"


def _said(words: Words) -> str:
    return f"{words.status or 'no status'}, “{words.words}”."


def _words(words: Words | None) -> dict[str, object]:
    return dict(msgspec.to_builtins(words)) if words else {}


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 3) if start and end else None

"""Each step of an attempt is taken from the states that it belongs to, by whoever saw it last, and of that attempt alone."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest

from nightbatch.core.ledger import Batch
from nightbatch.core.models import BatchState
from nightbatch.postgres.store import Store, open_store
from tests.unguarded import unguarded

STATES: tuple[BatchState, ...] = get_args(BatchState)
_CLOSED = ("loaded", "refused", "abandoned")
HASHES = bytes(range(16))  # of two requests


@pytest.fixture
def store(dsn: str) -> Iterator[Store]:
    with open_store(dsn) as opened:
        opened.connection.execute("INSERT INTO nightbatch.run (id) VALUES ('r1'), ('r2')")
        yield opened


def attempt(store: Store, state: str, **columns: Any) -> Batch:
    """An attempt without jobs, as it may stand in this state."""
    sent = state not in ("planned", "uploaded")
    accepted = state in ("submitted", "loaded")
    values: dict[str, Any] = {
        "run_id": "r1", "provider": "openai", "model": "gpt", "endpoint": "chat", "part": 1, "job_count": 3,
        "state": state, "epoch": 2 * sent, "account_fingerprint": "a", "tagged": True,
        "payload_sha256": None if state == "planned" else "h",
    }  # fmt: skip
    moments = {
        "uploaded_at": state != "planned", "intent_at": sent, "submitted_at": accepted, "closed_at": state in _CLOSED,
    }  # fmt: skip
    values |= {column: store.now() for column, happened in moments.items() if happened}
    values |= {"provider_batch_id": f"b{uuid.uuid4()}"} if accepted else {}
    values |= columns
    with unguarded(store.connection):
        number = store.connection.execute(
            f"INSERT INTO nightbatch.batch ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))}) RETURNING id",
            list(values.values()),
        ).fetchone()
    assert number is not None
    return store.batch(number[0])


def row(store: Store, batch: Batch) -> Any:
    return store.connection.execute("SELECT b::text FROM nightbatch.batch AS b WHERE id = %s", [batch.id]).fetchone()


@dataclass(frozen=True)
class Step:
    """What the store does, and the states that it may do it in. ``sees``: it is decided on the epoch that was read."""

    do: Callable[[Store, Batch], object]
    states: tuple[BatchState, ...]
    sees: bool = True


def _disown(store: Store, batch: Batch) -> None:
    store.disown(replace(batch, provider_batch_id=batch.provider_batch_id or "none"), None, "another's")


STEPS: dict[str, Step] = {
    "upload": Step(lambda store, batch: store.record_upload(batch, "f"), ("planned", "uploaded")),
    "intent": Step(lambda store, batch: store.record_intent(batch), ("uploaded",)),
    "throttled": Step(lambda store, batch: store.record_throttled(batch, "429"), ("submitting",)),
    "take over": Step(lambda store, batch: store.take_over(batch), ("submitting", "held")),
    "fence": Step(lambda store, batch: store.record_fence(batch), ("submitting", "held")),
    "hold": Step(lambda store, batch: store.record_held(batch, "why"), ("submitting", "held")),
    "close": Step(
        lambda store, batch: store.close_attempt(batch, "abandoned", "why"),
        ("planned", "uploaded", "submitting", "held"),
    ),
    "submission": Step(
        lambda store, batch: store.record_submission(batch.id, "b1"), ("submitting", "held"), sees=False
    ),
    "failure": Step(lambda store, batch: store.close_failed(batch.id, "failed", "why"), ("submitted",), sees=False),
    "cancel": Step(lambda store, batch: store.want_cancel(batch.id), ("submitted",), sees=False),
    "disown": Step(_disown, ("submitted",), sees=False),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_taken_from_its_states_only_and_of_one_attempt_alone(
    store: Store, name: str, state: BatchState
) -> None:
    step = STEPS[name]
    mine, theirs = (attempt(store, state, part=part, payload_sha256="h") for part in (1, 2))
    before, other = row(store, mine), row(store, theirs)
    step.do(store, mine)
    assert (row(store, mine) != before) is (state in step.states)
    assert row(store, theirs) == other


SEEN = [(name, state) for name, step in STEPS.items() if step.sees for state in step.states]


@pytest.mark.fault(9)
@pytest.mark.parametrize(("name", "state"), SEEN)
def test_a_step_decided_on_an_older_epoch_is_not_taken(store: Store, name: str, state: BatchState) -> None:
    mine = attempt(store, state, epoch=7, payload_sha256="h")
    before = row(store, mine)
    STEPS[name].do(store, replace(mine, epoch=6))
    assert row(store, mine) == before


@pytest.mark.fault(9)
@pytest.mark.parametrize(("name", "state"), [(name, state) for name, state in SEEN if len(STEPS[name].states) > 1])
def test_a_step_decided_on_another_state_is_not_taken(store: Store, name: str, state: BatchState) -> None:
    mine = attempt(store, state, payload_sha256="h")
    before = row(store, mine)
    (seen, *_) = [other for other in STEPS[name].states if other != state]
    if name not in ("fence", "hold"):  # what is in doubt may be fenced and held, whichever of the two was read
        STEPS[name].do(store, replace(mine, state=seen))
        assert row(store, mine) == before


def test_an_upload_may_be_submitted_by_a_look_once_it_was_intended(store: Store) -> None:
    """After a 429 the attempt is `uploaded` again, and its batch may be there all the same."""
    never, once = (
        attempt(store, "uploaded"),
        attempt(store, "uploaded", part=2, intent_at="2026-11-01 00:00+00", epoch=1),
    )
    assert store.record_submission(never.id, "b1") is None
    found = store.record_submission(once.id, "b2")
    assert found is not None
    assert (found.state, found.provider_batch_id) == ("submitted", "b2")


def test_an_intent_moves_the_epoch_on_and_takes_the_fence_away(store: Store) -> None:
    mine = attempt(store, "uploaded", epoch=3, intent_at="2026-11-01 00:00+00", fenced_at="2026-11-01 00:00+00")
    intent = store.record_intent(mine)
    assert intent is not None
    assert (intent.state, intent.epoch, intent.fenced_at) == ("submitting", 4, None)
    assert intent.intent_at == store.now() or intent.intent_at > mine.planned_at  # type: ignore[operator]


def test_the_first_fence_and_the_first_wish_to_cancel_count(store: Store) -> None:
    long_ago = "2026-11-01 00:00+00"
    fenced = attempt(store, "submitting", fenced_at=long_ago)
    wished = attempt(store, "submitted", part=2, cancel_wanted_at=long_ago)
    assert store.record_fence(fenced) == fenced
    assert store.want_cancel(wished.id)
    assert store.batch(wished.id) == wished


def test_an_attempt_is_bound_to_one_account(store: Store) -> None:
    mine, theirs = attempt(store, "planned", account_fingerprint=None), attempt(store, "planned", part=2)
    assert store.bind_account(mine.id, "b")
    assert store.bind_account(mine.id, "b")
    assert not store.bind_account(mine.id, "a")
    assert [store.batch(batch.id).account_fingerprint for batch in (mine, theirs)] == ["b", "a"]


def test_the_requests_of_an_attempt_are_fixed_once(store: Store) -> None:
    mine, theirs = attempt(store, "planned"), attempt(store, "planned", part=2)
    assert store.record_hash(mine, "one", HASHES)
    first = store.batch(mine.id)
    assert store.record_hash(first, "one", HASHES)
    assert not store.record_hash(first, "two", HASHES)
    assert store.batch(mine.id) == first
    assert store.batch(theirs.id).payload_sha256 is None
    kept = store.connection.execute("SELECT batch_id, hashes FROM nightbatch.request_hash").fetchall()
    assert kept == [(mine.id, HASHES)]


# -- which attempts are looked at


def ids(batches: list[Batch]) -> list[int]:
    return [batch.id for batch in batches]


def test_open_attempts_are_those_that_are_not_closed_batches_and_realtime_apart(store: Store) -> None:
    every = {state: attempt(store, state, part=part) for part, state in enumerate(STATES, 1)}
    quick = attempt(store, "submitting", part=20, mode="realtime", job_count=1)
    attempt(store, "loaded", part=21, mode="realtime", job_count=1)
    not_closed = [batch.id for state, batch in every.items() if state not in _CLOSED]
    assert ids(store.open_attempts()) == not_closed
    assert ids(store.open_realtime()) == [quick.id]


def test_of_a_run_the_attempts_that_were_never_sent_and_those_left_open(store: Store) -> None:
    every = {state: attempt(store, state, part=part) for part, state in enumerate(STATES, 1)}
    attempt(store, "planned", run_id="r2")
    attempt(store, "submitting", run_id="r2", part=2)
    assert ids(store.never_sent("r1")) == [every["planned"].id, every["uploaded"].id]
    not_closed = [batch.id for state, batch in every.items() if state not in _CLOSED]
    assert ids(store.open_attempts_of("r1")) == not_closed


def test_a_run_planned_its_attempts_without_their_successors_and_duplicates(store: Store) -> None:
    first = attempt(store, "abandoned")
    attempt(store, "planned", part=2, replaces=first.id)
    attempt(store, "submitted", part=3, duplicate_of=first.id)
    attempt(store, "planned", run_id="r2")
    assert ids(store.run_batches("r1")) == [first.id]


def test_only_ids_of_the_same_provider_are_known(store: Store) -> None:
    attempt(store, "submitted", provider_batch_id="b1")
    attempt(store, "submitted", part=2, provider="gemini", provider_batch_id="b2")
    attempt(store, "submitted", part=3, provider_batch_id="b3")
    assert store.known_provider_ids("openai", ["b1", "b2", "b4"]) == {"b1"}


@pytest.mark.parametrize(
    ("other", "doubtful"),
    [
        ({}, True),
        ({"provider": "openai"}, False),
        ({"account_fingerprint": "b"}, False),
        ({"mode": "realtime", "job_count": 1}, False),
    ],
)
def test_another_in_doubt_is_one_that_the_same_account_may_have(
    store: Store, other: dict[str, Any], doubtful: bool
) -> None:
    mine = attempt(store, "uploaded", provider="gemini")
    attempt(store, "submitting", part=2, **{"provider": "gemini"} | other)
    assert store.another_in_doubt(mine.id) is doubtful


@pytest.mark.parametrize("state", STATES)
def test_another_in_doubt_is_one_that_may_have_been_sent(store: Store, state: BatchState) -> None:
    mine = attempt(store, "uploaded")
    attempt(store, state, part=2)
    assert store.another_in_doubt(mine.id) is (state in ("submitting", "held"))


def test_an_attempt_in_doubt_is_not_another_one(store: Store) -> None:
    assert not store.another_in_doubt(attempt(store, "held").id)


@pytest.mark.parametrize(
    ("choice", "days", "looked_for"),
    [("resend", 2, True), ("drop", 2, True), ("resend", 4, False), ("drop", 4, False), ("adopt", 2, False)],
)
def test_what_a_person_gave_up_is_looked_for_three_days_long(
    store: Store, choice: str, days: int, looked_for: bool
) -> None:
    given_up = attempt(store, "abandoned")
    attempt(store, "abandoned", part=2)  # by nobody's decision
    for other in (attempt(store, "abandoned", part=3, intent_at=None, epoch=0), attempt(store, "held", part=4)):
        store.record_decision(other.id, "resend", "ann", "why")
    store.record_decision(given_up.id, choice, "ann", "why", "b1" if choice == "adopt" else None)
    store.connection.execute(
        "UPDATE nightbatch.decision SET decided_at = now() - make_interval(days => %s) WHERE batch_id = %s",
        [days, given_up.id],
    )
    assert ids(store.released_attempts()) == ([given_up.id] if looked_for else [])

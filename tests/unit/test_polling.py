"""The decisions of a wait: when to look again, when a batch is over, when a person has to hear of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightbatch.core.errors import AccountRefused, ConfigurationError, NightbatchError, Rejected, Throttled, Transient
from nightbatch.core.models import ProviderState
from nightbatch.core.polling import Decision, Done, GiveUp, KeepWaiting, Pace, Watch, list_pages, next_step

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
DEADLINE = NOW + timedelta(hours=26)
PACE = Pace(first=60, longest=300, patience=timedelta(hours=2))
RUNNING = ProviderState(provider_batch_id="batch_1", phase="running", status="in_progress")


def step(
    seen: ProviderState | NightbatchError,
    watch: Watch | None = None,
    now: datetime = NOW,
    chance: float = 0.5,
) -> Decision:
    return next_step(seen, watch or Watch(DEADLINE), now, PACE, chance)


def waiting(decision: Decision) -> KeepWaiting:
    assert isinstance(decision, KeepWaiting), decision
    return decision


def reason(decision: Decision) -> str:
    assert isinstance(decision, GiveUp), decision
    return decision.reason


@pytest.mark.parametrize("phase", ["ended", "failed"])
def test_a_batch_that_is_over_is_done_at_the_first_look(phase: Literal["ended", "failed"]) -> None:
    assert step(replace(RUNNING, phase=phase, status="its word")) == Done("its word")


def test_a_batch_that_ended_is_done_even_past_the_deadline() -> None:
    assert step(replace(RUNNING, phase="ended", status="completed"), now=DEADLINE + timedelta(days=3)) == Done(
        "completed"
    )


def test_a_running_batch_is_looked_at_again_after_the_first_pause() -> None:
    assert step(RUNNING) == KeepWaiting(60, Watch(DEADLINE, looks=1))


def test_the_pauses_grow_to_the_longest_and_stay_there() -> None:
    pauses, watch = [], Watch(DEADLINE)
    for _ in range(8):
        decision = waiting(step(RUNNING, watch))
        pauses.append(decision.seconds)
        watch = decision.watch
    assert pauses == [60, 90, 135, 202.5, 300, 300, 300, 300]


def test_the_jitter_moves_a_pause_by_a_fifth_either_way() -> None:
    assert [waiting(step(RUNNING, chance=chance)).seconds for chance in (0, 0.5, 1)] == pytest.approx([48, 60, 72])


def test_the_last_look_is_made_on_the_deadline() -> None:
    assert waiting(step(RUNNING, now=DEADLINE - timedelta(seconds=5))).seconds == 5


def test_a_batch_still_running_on_its_deadline_is_given_up_in_words() -> None:
    assert reason(step(RUNNING, now=DEADLINE)) == "it is still 'in_progress' past its deadline of 2026-11-24 04:00 UTC."


@pytest.mark.fault(25)
def test_a_status_that_nobody_knows_means_running_with_one_warning() -> None:
    unknown = replace(RUNNING, status="dreaming", unknown=True)
    first = waiting(step(unknown))
    assert first.warning == "nobody knows the status 'dreaming'; it is taken for running"
    assert waiting(step(unknown, first.watch)).warning is None


def test_a_failed_look_is_repeated_and_remembered() -> None:
    decision = waiting(step(Transient("HTTP 503", status=503)))
    assert decision == KeepWaiting(60, Watch(DEADLINE, looks=1, failing_since=NOW), "this look failed: HTTP 503")


def test_a_good_look_forgets_the_failed_ones() -> None:
    assert waiting(step(RUNNING, Watch(DEADLINE, looks=2, failing_since=NOW))).watch == Watch(DEADLINE, looks=3)


def test_failed_looks_are_borne_for_a_time_and_not_for_a_number() -> None:
    watch = Watch(DEADLINE, looks=10_000, failing_since=NOW)
    assert isinstance(step(Transient("reset"), watch, NOW + timedelta(minutes=119)), KeepWaiting)
    assert reason(step(Transient("reset"), watch, NOW + timedelta(hours=2))) == (
        "every look since 2026-11-23 02:00 UTC failed, the last one with: reset"
    )


def test_failed_looks_end_on_the_deadline() -> None:
    assert isinstance(step(Transient("reset"), now=DEADLINE), GiveUp)


@pytest.mark.fault(20)
def test_a_throttled_look_waits_as_long_as_the_provider_says() -> None:
    assert waiting(step(Throttled("429", status=429, retry_after=900))).seconds == 900


@pytest.mark.fault(23)
def test_a_refused_key_ends_the_wait_at_once() -> None:
    assert reason(step(AccountRefused("401 invalid key", status=401))) == (
        "the account is refused (401 invalid key). Mend the key of the connection; nothing more is sent until then."
    )


@pytest.mark.fault(24)
def test_a_batch_that_the_account_does_not_know_is_never_waited_for() -> None:
    assert "another account or workspace" in reason(step(Rejected("no such batch", status=404)))


@pytest.mark.parametrize("error", [Rejected("bad id", status=400), ConfigurationError("no connection")])
def test_what_no_repetition_would_mend_ends_the_wait_at_once(error: NightbatchError) -> None:
    assert step(error) == GiveUp(str(error))


@given(
    looks=st.integers(0, 10**6),
    chance=st.floats(0, 1),
    left=st.timedeltas(timedelta(milliseconds=1), timedelta(days=3)),
    first=st.floats(0.05, 600),
)
def test_a_pause_is_never_negative_nor_past_the_deadline(
    looks: int, chance: float, left: timedelta, first: float
) -> None:
    pace = Pace(first=first, longest=max(first, 300))
    decision = next_step(RUNNING, Watch(NOW + left, looks=looks), NOW, pace, chance)
    assert isinstance(decision, KeepWaiting)
    assert 0 < decision.seconds <= left.total_seconds()
    assert decision.seconds <= pace.longest * 1.2001  # a float may round up


def test_a_list_is_read_when_it_costs_less_than_a_look_at_each() -> None:
    assert list_pages(due=2, waiting=2) == 0
    assert list_pages(due=3, waiting=3) == 1
    assert list_pages(due=8, waiting=300) == 0
    assert list_pages(due=60, waiting=2000) == 0
    assert list_pages(due=63, waiting=2000) == 21
    assert list_pages(due=2000, waiting=2000) == 666


def test_what_a_list_shows_is_looked_at_at_the_same_pace_again() -> None:
    watch = Watch(DEADLINE, looks=2)
    looked, listed = waiting(step(RUNNING, watch)), waiting(step(replace(RUNNING, listed=True), watch))
    assert looked.seconds == listed.seconds
    assert (looked.watch.looks, listed.watch.looks) == (3, 2)


def test_a_list_that_stands_still_does_not_hide_an_end() -> None:
    listed = replace(RUNNING, listed=True)
    first = waiting(step(listed))
    assert (first.alone, first.watch.listed_since) == (False, NOW)
    assert not waiting(step(listed, first.watch, NOW + timedelta(minutes=59))).alone
    later = waiting(step(listed, first.watch, NOW + timedelta(minutes=61)))
    assert later.alone
    looked = waiting(step(RUNNING, later.watch, NOW + timedelta(minutes=62)))
    assert (looked.alone, looked.watch.listed_since) == (False, None)


def test_a_batch_is_looked_at_by_itself_before_it_is_given_up() -> None:
    last = waiting(step(replace(RUNNING, listed=True), now=DEADLINE))
    assert (last.seconds, last.alone) == (0, True)
    assert "past its deadline" in reason(step(RUNNING, last.watch, now=DEADLINE))

"""Results that are not all well, as the emulator can make them; and those that are gone."""

from __future__ import annotations

import pytest

from nightbatch.core.errors import Absent, Transient
from nightbatch.core.models import UnreadableLine
from tests.providers.bodies import DOWNLOADS
from tests.providers.lab import Lab, ids, readable, texts


def test_each_kind_of_bad_answer_has_its_own_outcome(lab: Lab) -> None:
    marks = ("refusal", "truncate", "error=400", "error=500")
    lines = [readable(line) for line in lab.results("fine", *(f"[[emulator:{mark}]]" for mark in marks))]
    assert [line.outcome for line in lines] == ["succeeded", "refused", "truncated", "errored", "errored"]
    assert [line.billed for line in lines] == [True, True, True, False, False]
    assert [line.retryable for line in lines] == [False, False, False, False, True]
    assert [line.error is None for line in lines] == [True, False, False, False, False]
    assert len(lab.billed()) == 3


def test_an_overloaded_or_throttled_line_is_worth_another_try(lab: Lab) -> None:
    codes = {"openai": (429, 503), "anthropic": (429, 529), "gemini": (429, 503)}[lab.name]
    lines = [readable(line) for line in lab.results(*[f"[[emulator:error={code}]]" for code in codes])]
    assert [(line.outcome, line.billed, line.retryable) for line in lines] == [("errored", False, True)] * 2


@pytest.mark.fault(34)
def test_an_answer_without_usage_has_no_usage_rather_than_none_spent(lab: Lab) -> None:
    (line,) = lab.results("[[emulator:nousage]] Name a harbour.")
    assert (readable(line).outcome, readable(line).usage) == ("succeeded", None)


@pytest.mark.fault(28)
def test_a_batch_of_errors_only_is_loaded(lab: Lab) -> None:
    lines = lab.results("[[emulator:error=400]]", "[[emulator:error=429]]")
    assert [(readable(line).outcome, readable(line).billed) for line in lines] == [("errored", False)] * 2


@pytest.mark.fault(26, 27)
@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
def test_what_was_done_before_the_end_is_loaded(lab: Lab, outcome: str) -> None:
    batch_id = lab.send(*texts(4))
    state = lab.end(batch_id, outcome, finished=0.5)
    lines = [readable(line) for line in lab.lines(batch_id)]
    assert state.phase == "ended" and state.counts and not state.unknown
    if lab.name == "gemini":  # nothing to fetch, and nothing billed
        assert (lines, state.counts.succeeded, lab.billed()) == ([], 0, [])
        return
    assert [line.outcome for line in lines] == ["succeeded", "succeeded", outcome, outcome]
    assert [line.retryable for line in lines] == [False, False, True, True]
    assert state.counts.succeeded == len(lab.billed()) == 2


@pytest.mark.fault(33)
def test_a_corrupt_line_is_kept_as_it_came_and_the_others_go_on(lab: Lab) -> None:
    batch_id = lab.send(*texts(4))
    lab.end(batch_id)
    whole = set(lab.lines(batch_id))
    lab.fault(DOWNLOADS[lab.name], "corrupt")
    found = set(lab.provider.iter_results(batch_id))
    (broken,) = found - whole
    assert isinstance(broken, UnreadableLine) and broken.raw.endswith(b"\x00\xff~") and broken.reason
    assert len(found & whole) == 3


@pytest.mark.fault(32)
def test_a_download_cut_short_is_noticed_and_can_be_fetched_again(lab: Lab) -> None:
    batch_id = lab.send(*texts(6))
    lab.end(batch_id)
    lab.fault(DOWNLOADS[lab.name], "truncate", times=None)
    with pytest.raises(Transient):
        list(lab.provider.iter_results(batch_id))
    lab.emulator.control("DELETE", "faults")
    assert len(lab.lines(batch_id)) == 6


@pytest.mark.fault(29, 30)
@pytest.mark.parametrize(("fault", "lines", "jobs"), [("duplicate_line", 4, 3), ("missing_line", 2, 2)])
def test_lines_come_as_the_provider_sent_them(lab: Lab, fault: str, lines: int, jobs: int) -> None:
    """What to make of them is the load's to say."""
    batch_id = lab.send(*texts(3))
    lab.end(batch_id)
    lab.fault(DOWNLOADS[lab.name], fault)
    found = ids(lab.lines(batch_id))
    assert (len(found), len(set(found))) == (lines, jobs)


@pytest.mark.fault(31)
def test_a_line_that_nobody_asked_for_comes_through_for_the_quarantine(lab: Lab) -> None:
    batch_id = lab.send(*texts(2))
    lab.end(batch_id)
    lab.fault(DOWNLOADS[lab.name], "unknown_line")
    assert "j0_a0_unknown" in ids(lab.lines(batch_id))


@pytest.mark.fault(35)
def test_results_past_their_retention_are_definitely_gone(lab: Lab) -> None:
    batch_id = lab.send(*texts(2))
    lab.end(batch_id)
    lab.age(batch_id, 28)
    assert len(lab.lines(batch_id)) == 2
    lab.age(batch_id, 3)
    for _ in range(2):
        with pytest.raises(Absent, match=r"keep|any more") as caught:
            list(lab.provider.iter_results(batch_id))
        assert caught.value.status == 410
    assert lab.state(batch_id).phase == "ended"  # the batch itself is still known


@pytest.mark.fault(24)
def test_a_batch_that_the_provider_does_not_know_is_neither_an_outage_nor_a_loss_of_results(lab: Lab) -> None:
    """It may be another account's: 404, where results that are gone are 410."""
    batch_id = lab.send(*texts(1))
    lab.end(batch_id)
    lab.fault("batch_get", "refuse", status=404, times=None)
    for attempt in (lambda: lab.state(batch_id), lambda: list(lab.provider.iter_results(batch_id))):
        with pytest.raises(Absent) as caught:
            attempt()
        assert caught.value.status == 404


def test_a_download_that_is_refused_for_a_while_is_not_gone(lab: Lab) -> None:
    batch_id = lab.send(*texts(1))
    lab.end(batch_id)
    lab.fault(DOWNLOADS[lab.name], "refuse", status=503, times=None)
    with pytest.raises(Transient):
        list(lab.provider.iter_results(batch_id))

"""Finding a submission whose outcome nobody knows, and fencing it off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nightbatch.core.errors import Absent, Refused, Transient
from nightbatch.core.models import custom_id
from tests.providers.lab import Lab, ids, texts
from tests.providers.loopback import Reply, Wire


@pytest.mark.fault(21)
def test_a_create_whose_answer_was_lost_is_found_by_another_process(lab: Lab) -> None:
    submission, path = lab.uploaded()
    lab.fault("batch_create", "lose_answer")
    with pytest.raises(Transient):
        lab.provider.submit(submission, path)
    (found,) = lab.adapter().find_submission(submission)
    assert found.certain == (lab.name != "anthropic")
    assert found.created_at and found.created_at.tzinfo
    lab.end(found.provider_batch_id)
    assert ids(lab.lines(found.provider_batch_id)) == [custom_id(1, 7, None), custom_id(2, 7, None)]


def test_another_attempt_is_not_taken_for_this_one(lab: Lab) -> None:
    lab.send(*texts(3))
    submission, _ = lab.uploaded(texts(2))
    assert lab.provider.find_submission(submission) == []


def test_a_batch_from_before_the_intent_is_no_candidate_where_only_time_tells(lab: Lab) -> None:
    submission, path = lab.uploaded()
    lab.provider.submit(submission, path)
    assert submission.intent_at
    later = replace(submission, intent_at=submission.intent_at.replace(year=submission.intent_at.year + 1))
    assert bool(lab.provider.find_submission(later)) == (lab.name != "anthropic")
    forgotten = replace(submission, intent_at=None)
    assert len(lab.provider.find_submission(forgotten)) == 1


def test_two_batches_of_one_submission_are_both_found(lab: Lab) -> None:
    submission, path = lab.uploaded()
    sent = {lab.provider.submit(submission, path) for _ in range(2)}
    assert {found.provider_batch_id for found in lab.provider.find_submission(submission)} == sent


@pytest.mark.fault(21)
def test_a_list_that_cannot_be_read_never_means_absent(lab: Lab) -> None:
    submission, _ = lab.uploaded()
    lab.fault("batch_list", "refuse", status=503, times=None)
    with pytest.raises(Transient):
        lab.provider.find_submission(submission)


@pytest.mark.parametrize("body", [b"<h1>Log in</h1>", {"status": "log in"}, [], None, {"data": None}])
def test_a_list_in_other_words_is_not_an_empty_list(wire: Wire, body: Any) -> None:
    with pytest.raises(Transient):
        wire.find(Reply(body))


def test_a_list_that_leaves_something_out_is_not_read_to_its_end(wire: Wire) -> None:
    """OpenAI and Anthropic end with has_more false; Google names what it could not reach."""
    google = {"operations": [], "unreachable": ["somewhere"]}
    with pytest.raises(Transient):
        wire.find(Reply(google if wire.name == "gemini" else {"object": "list", "data": []}))


def test_a_list_that_lags_shows_the_batch_later(lab: Lab) -> None:
    submission, path = lab.uploaded()
    lab.fault("batch_list", "list_lag", delay_seconds=3600, times=None)
    batch_id = lab.provider.submit(submission, path)
    assert lab.provider.find_submission(submission) == []
    lab.emulator.control("DELETE", "faults")
    assert [found.provider_batch_id for found in lab.provider.find_submission(submission)] == [batch_id]


@pytest.mark.fault(21)
def test_a_fence_refuses_a_create_that_arrives_late(lab: Lab) -> None:
    """Two creates are held up on the way, one of them fenced; Anthropic has nothing that could be fenced."""
    fenced, fenced_path = lab.uploaded(texts(2))
    free, free_path = lab.uploaded(texts(3))
    lab.fault("batch_create", "deliver_late", delay_seconds=3600, times=2)
    with pytest.raises(Transient):
        lab.provider.submit(fenced, fenced_path)
    assert lab.provider.find_submission(fenced) == []
    for _ in range(2):  # again, as after a crash
        assert lab.provider.fence(fenced) == (lab.name != "anthropic")
    with pytest.raises(Transient):
        lab.provider.submit(free, free_path)
    assert lab.emulator.let_the_late_arrive(lab.account) == 2
    assert [found.certain for found in lab.provider.find_submission(free)] == [lab.name != "anthropic"]
    assert len(lab.provider.find_submission(fenced)) == (lab.name == "anthropic")


def test_a_fenced_input_is_refused_for_good(lab: Lab) -> None:
    submission, path = lab.uploaded()
    if lab.provider.fence(submission):
        with pytest.raises(Absent):
            lab.provider.submit(submission, path)
        assert lab.provider.find_submission(submission) == []


@pytest.mark.parametrize(("status", "kind"), [(500, Transient), (400, Refused)])
def test_a_fence_that_could_not_be_raised_says_so(lab: Lab, status: int, kind: type[Exception]) -> None:
    submission, _ = lab.uploaded()
    lab.fault("file_delete", "refuse", status=status, times=None)
    if lab.name == "anthropic":
        assert not lab.provider.fence(submission)
        return
    with pytest.raises(kind):
        lab.provider.fence(submission)

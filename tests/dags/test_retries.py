"""A task is tried again by what went wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import RetryAction

from nightbatch.airflow.retries import RetryByError
from nightbatch.core.errors import (
    AccountRefused,
    ConfigurationError,
    NightbatchError,
    ReconciliationError,
    Rejected,
    SubmissionInDoubt,
    Throttled,
    Transient,
)


def decide(error: BaseException, try_number: int = 1) -> tuple[RetryAction, timedelta | None]:
    decision = RetryByError().evaluate(error, try_number, max_tries=20)
    assert decision.reason
    assert str(error) in decision.reason or type(error).__name__ in decision.reason
    return decision.action, decision.retry_delay


@pytest.mark.parametrize(
    "error",
    [
        AccountRefused("401", status=401),
        ConfigurationError("no connection"),
        Rejected("400", status=400),
        ReconciliationError("one line too many"),
        SubmissionInDoubt("only a person can decide"),
    ],
)
def test_what_a_person_has_to_mend_fails_at_once(error: NightbatchError) -> None:
    assert decide(error) == (RetryAction.FAIL, None)


def test_a_submission_in_doubt_is_looked_at_when_it_says() -> None:
    assert decide(SubmissionInDoubt("in doubt", look_again_in=90)) == (
        RetryAction.RETRY,
        timedelta(seconds=90),
    )


@pytest.mark.fault(20)
def test_a_throttled_call_waits_at_least_as_long_as_told() -> None:
    assert decide(Throttled("429", status=429, retry_after=3600)) == (RetryAction.RETRY, timedelta(hours=1))


@pytest.mark.parametrize("error", [Transient("503", status=503), Throttled("429"), OSError("disk full")])
def test_other_trouble_backs_off_in_the_rhythm_of_the_waits(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBATCH_POLL_SECONDS", "10")
    monkeypatch.setenv("NIGHTBATCH_POLL_MAX_SECONDS", "40")
    pauses = [decide(error, try_number)[1] for try_number in (1, 2, 20)]
    middles = (10, 15, 40)
    for pause, middle in zip(pauses, middles, strict=True):
        assert pause is not None
        assert middle * 0.8 <= pause.total_seconds() <= middle * 1.2

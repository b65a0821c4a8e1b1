"""Decide when a task of the night is tried again: by what went wrong, not by a number alone."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy

from nightbatch.core.errors import NightbatchError, SubmissionInDoubt, Throttled, Transient
from nightbatch.core.polling import backoff
from nightbatch.core.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Context

_TRIES = 20  # of trouble that nobody can put a name to; a full queue and a doubt are waited for as long as they last


def by_error(settings: Settings, *, retries: int) -> dict[str, Any]:
    """Return a Dag's default arguments. The plain delay is for tasks that were killed: they have no error to decide by."""
    delay = timedelta(seconds=settings.poll_seconds)
    return {"retries": retries, "retry_policy": RetryByError(), "retry_delay": delay}


class RetryByError(RetryPolicy):
    """Wait as told by the error; fail at once where no repetition would help.

    Asking again is safe for every task: what was sent stands in the ledger, and a create is never repeated.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide for one failure; a crash that is no error of ours is tried again like a transient one."""
        match exception:
            case SubmissionInDoubt(look_again_in=float() | int() as seconds):
                return RetryDecision.retry(timedelta(seconds=seconds), f"looks again: {exception}")
            case Throttled(retry_after=seconds):
                return RetryDecision.retry(_pause(try_number, at_least=seconds or 0), f"asked to wait: {exception}")
            case NightbatchError() if not isinstance(exception, Transient):
                return RetryDecision.fail(f"needs a person: {exception}")
            case _ if try_number > _TRIES:
                return RetryDecision.fail(f"gave up after {_TRIES} tries: {type(exception).__name__}: {exception}")
            case Transient(retry_after=seconds):
                return RetryDecision.retry(_pause(try_number, at_least=seconds or 0), f"tries again: {exception}")
            case _:
                return RetryDecision.retry(_pause(try_number), f"tries again after a {type(exception).__name__}")


def _pause(try_number: int, *, at_least: float = 0) -> timedelta:
    """Return a pause in the rhythm of the waits: ``poll_seconds``, growing to ``poll_max_seconds``."""
    settings = Settings.from_env()
    step = max(try_number - 1, 0)
    pause = backoff(step, first=settings.poll_seconds, longest=settings.poll_max_seconds, chance=random.random())
    return timedelta(seconds=max(pause, at_least))

"""What can go wrong, as one tree. A message says what happened and what to do."""

from __future__ import annotations


class NightbatchError(Exception):
    """Anything that nightbatch itself reports."""


class ConfigurationError(NightbatchError):
    """A setting, connection or file is missing or wrong; a person has to mend it."""


class DatabaseUnreachable(ConfigurationError):
    """No server takes the connection, or only a standby does: it may be starting, or taking over."""


class NotFound(NightbatchError):
    """There is no batch, job or alert of that number."""


class ProviderError(NightbatchError):
    """A provider answered with an error, or not at all.

    ``status`` is the HTTP status, or None when no answer came.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Transient(ProviderError):
    """Worth another try: 408, 409, 429, 5xx, a timeout, a connection that broke.

    For a create this says nothing about whether the batch exists. ``retry_after`` is in seconds, as the provider told.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class Unreachable(Transient):
    """No connection came about: nothing was sent."""


class Throttled(Transient):
    """429 in the provider's own words: nothing was done, and it may be asked again after ``retry_after`` seconds."""


class Rejected(ProviderError):
    """A definite refusal (400, 404, 413, 422): the same request would be refused again.

    ``requests`` are the places (0 is the first) of the requests that a create was refused for, where the provider says so.
    """

    def __init__(self, message: str, *, status: int | None = None, requests: tuple[int, ...] = ()) -> None:
        super().__init__(message, status=status)
        self.requests = requests


class NotNamed(Rejected):
    """An ended batch whose provider does not name its results: not yet, or not any more."""


class AccountRefused(ProviderError):
    """401, 402, 403 or an exhausted quota: nothing more can be sent with this key until a person acts."""


class SubmissionInDoubt(NightbatchError):
    """A create was sent and its outcome is not known. It is never sent again by itself.

    ``look_again_in`` is in seconds; None when only a person can decide.
    """

    def __init__(self, message: str, *, look_again_in: float | None = None) -> None:
        super().__init__(message)
        self.look_again_in = look_again_in


class ReconciliationError(NightbatchError):
    """What came back from a provider does not add up with what was sent."""

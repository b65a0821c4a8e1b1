"""What can go wrong, as one tree. A message says what happened and what to do."""

from __future__ import annotations


class NightbatchError(Exception):
    """Anything that nightbatch itself reports."""


class ConfigurationError(NightbatchError):
    """A setting, connection or file is missing or wrong; a person has to mend it."""


class Displaced(ConfigurationError):
    """The database is not known to be the one that the ledger was kept in: nothing is sent until a person says what happened."""


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
    """Not sent: it failed before the first byte of the request, so nothing was done and nothing was billed.

    No connection came about, TLS failed, or the request could not even be built.
    """


class Throttled(Transient):
    """In the provider's own words nothing was done, and it may be asked again after ``retry_after`` seconds."""


class Refused(ProviderError):
    """The provider says in its own error envelope that it did not do this, and not for what fault.

    Nothing was done and nothing billed. It says nothing against the jobs: they stay, a person is told, and tries are
    bounded. ``status`` 413: the whole body is too large for whoever stands in front, so less of it may go.
    """


class Absent(Refused):
    """404 or 410 for something that was asked for by its id: a batch, a file, results, the input of a create."""


class NotNamed(Absent):
    """An ended batch whose provider does not name its results: not yet, or not any more."""


class Rejected(Refused):
    """A fault of a request's content: the same request would be refused again, by whatever account and address.

    ``requests`` are the places (0 is the first) of the requests that a create was refused for, where the provider names
    them. None are named where all of the batch share the fault, like a model that does not exist.
    """

    def __init__(self, message: str, *, status: int | None = None, requests: tuple[int, ...] = ()) -> None:
        super().__init__(message, status=status)
        self.requests = requests


class AccountRefused(ProviderError):
    """Trouble of the account or of the way to it: nothing more can be sent through it until a person acts.

    401, 402, 403, an exhausted quota, a spend limit, a region that is not served, or a base URL behind which there is no
    such API. Nothing was done and nothing billed; the jobs stay.
    """


class SubmissionInDoubt(NightbatchError):
    """A create was sent and its outcome is not known. It is never sent again by itself.

    ``look_again_in`` is in seconds; None when only a person can decide.
    """

    def __init__(self, message: str, *, look_again_in: float | None = None) -> None:
        super().__init__(message)
        self.look_again_in = look_again_in


class ReconciliationError(NightbatchError):
    """What came back from a provider does not add up with what was sent."""

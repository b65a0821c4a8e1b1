"""All errors of nightbatch, as one tree. A message says what happened and what to do."""

from __future__ import annotations


class NightbatchError(Exception):
    """The base class of every error that nightbatch itself reports."""


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
    """An error that is worth another try: HTTP 408, 409, 429, 5xx, a timeout, a connection that broke.

    After a create it does not say whether the batch exists. ``retry_after`` is in seconds, as the provider gave it.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class Unreachable(Transient):
    """The request failed before its first byte was sent, so nothing was done and nothing was billed.

    No connection could be made, TLS failed, or the request could not even be built.
    """


class Throttled(Transient):
    """The provider says that it did nothing, and that it may be asked again after ``retry_after`` seconds."""


class Refused(ProviderError):
    """The provider says in its own error envelope that it did not do this, without saying whose fault that is.

    Nothing was done and nothing was billed. It is no evidence against the jobs: they stay, a person is told, and the number of
    tries is bounded. ``status`` 413: the whole body is too large for a server on the way, so a smaller one may pass.
    """


class Absent(Refused):
    """The provider answered 404 or 410 for something named by its id: a batch, a file, results, the input of a create."""


class NotNamed(Absent):
    """The provider does not name the results of an ended batch: not yet, or not any more."""


class Rejected(Refused):
    """The content of a request is at fault: every account and address would refuse the same request again.

    ``requests`` are the places (0 is the first) of the requests that a create was refused for, where the provider names
    them. It is empty where the whole batch shares the fault, such as a model that does not exist.
    """

    def __init__(self, message: str, *, status: int | None = None, requests: tuple[int, ...] = ()) -> None:
        super().__init__(message, status=status)
        self.requests = requests


class AccountRefused(ProviderError):
    """The account, or the way to it, is refused: nothing more can be sent through it until a person acts.

    The cause is 401, 402, 403, an exhausted quota, a spend limit, a region that is not served, or a base URL behind which there
    is no such API. Nothing was done and nothing was billed; the jobs stay.
    """


class SubmissionInDoubt(NightbatchError):
    """A create was sent and its outcome is not known. It is never sent again automatically.

    ``look_again_in`` is in seconds; None when only a person can decide.
    """

    def __init__(self, message: str, *, look_again_in: float | None = None) -> None:
        super().__init__(message)
        self.look_again_in = look_again_in


class ReconciliationError(NightbatchError):
    """What a provider gave back does not match what was sent."""

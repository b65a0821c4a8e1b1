"""The one protocol that makes the batch APIs of all providers look alike."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from nightbatch.core.models import (
    Endpoint,
    FoundBatch,
    ListedBatch,
    ProviderName,
    ProviderState,
    Request,
    ResultLine,
    Submission,
    UnreadableLine,
    UploadedMedia,
)


class BatchProvider(Protocol):
    """One account of one provider.

    Every method raises the errors of `nightbatch.core.errors` and none of an SDK's: `Transient` (with `Throttled`), `Refused`
    (with `Absent` and `Rejected`), `AccountRefused`. All calls but `submit` and `ask` may be repeated; they retry by themselves
    where the SDK does.
    """

    name: ProviderName

    @property
    def shows_tags(self) -> bool:
        """Return whether the provider is known to list a batch of ours with its tag.

        True for the provider's own host, or once an answer carried a tag: a gateway may drop tags, and then a batch that is not
        found under its tag may still exist. Always false for Anthropic, which has no tags.
        """
        ...

    @property
    def account(self) -> str:
        """Return a fingerprint of who pays; the same for two keys only if the connection's ``account`` extra says so.

        `nightbatch.batches.accounts` finds out which keys belong to the same account.
        """
        ...

    def render(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> bytes:
        """Return one line of the input file, without a line break. Raises `Rejected` for what this provider cannot do."""
        ...

    def upload(self, submission: Submission, path: Path) -> str | None:
        """Upload the input (free of charge) under a name that begins with the tag, and return the provider's id of it.

        Returns None where nothing is uploaded (Anthropic). Repeating it is safe: an earlier upload stays behind and expires.
        """
        ...

    def submit(self, submission: Submission, path: Path) -> str:
        """Send exactly one create, never retried, and return the provider's batch id.

        `Unreachable`, `Throttled`, `Refused` (with `Rejected`) and `AccountRefused` are definite: no batch exists. After any
        other exception of the call it may.
        """
        ...

    def find_submission(self, submission: Submission) -> list[FoundBatch]:
        """Return all batches that are, or may be, this submission, from the provider's list read to its end.

        Raises when the list could not be read to the end: "could not read" never means "absent".
        """
        ...

    def list_batches(self, since: datetime) -> Iterator[ListedBatch]:
        """Yield the account's batches that were created since then, and maybe older ones; raises as `find_submission` does."""
        ...

    def fence(self, submission: Submission) -> bool:
        """Delete the input, so that a create still under way is refused. Return False where nothing can be fenced (Anthropic)."""
        ...

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        """Return the state of a batch. Raises `Absent` with status 404 when this account does not know the batch."""
        ...

    async def list_states(self, ids: Collection[str], *, since: datetime, pages: int) -> dict[str, ProviderState]:
        """Return the states of those of ``ids`` that the provider's list of batches shows: one call answers for many.

        The list is read until it has shown them all, has passed ``since``, or ``pages`` pages were read. A list may lag behind: a
        batch that it leaves out is not gone, and has to be asked for with `get_state`. Raises when a page could not be read.
        """
        ...

    def iter_results(self, provider_batch_id: str, known: Container[int] = ()) -> Iterator[ResultLine | UnreadableLine]:
        """Yield the results of an ended batch, streamed and in no order.

        Lines whose ``hash`` is in ``known`` were read before, and are left out unread.

        Raises `Transient` when the download was cut short and the provider did not send the rest alone; `Absent` with status 410
        when the provider does not have the results any more, and with 404 when this account does not know the batch.
        """
        ...

    def ask(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> ResultLine | UnreadableLine:
        """Make one call of the realtime API, at full price and sent once; return the answer in the shape of a batch's line.

        `Unreachable`, `Throttled`, `Refused` (with `Rejected`) and `AccountRefused` are definite: nothing was billed.
        """
        ...

    def cancel(self, provider_batch_id: str) -> None:
        """Ask the provider to end a batch; what has finished by then is billed and still has to be loaded."""
        ...

    def delete_files(self, submission: Submission, provider_batch_id: str | None) -> None:
        """Delete the provider's copies of input and output after the load, where it allows that; what is already gone is fine."""
        ...

    def check(self) -> None:
        """Make a free call that proves base URL and key. Raises `AccountRefused` or `Transient`."""
        ...


@runtime_checkable
class MediaUploads(Protocol):
    """The extra methods of a provider that reads media from uploaded files (Gemini); the others take media in the request.

    Uploads cost nothing and expire by themselves: one that nobody recorded does no harm.
    """

    def upload_media(self, path: Path, mime_type: str, sha256: str) -> UploadedMedia:
        """Upload a file and wait until requests may refer to it. Raises `Rejected` for one that cannot be processed."""
        ...

    def has_media(self, file_name: str) -> bool:
        """Return whether requests may still refer to an upload."""
        ...

    def delete_media(self, file_name: str) -> None:
        """Delete an upload; what is gone already is fine."""
        ...

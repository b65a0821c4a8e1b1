"""The one protocol behind which the three providers' batch APIs look alike."""

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

    Every method raises the errors of `nightbatch.core.errors` and none of an SDK's: `Transient` (with `Throttled`),
    `Rejected`, `AccountRefused`. All calls but `submit` may be repeated; they retry by themselves where the SDK does.
    """

    name: ProviderName

    @property
    def shows_tags(self) -> bool:
        """Whether a batch of ours is known to be listed with its tag.

        By the provider's own host, or since an answer carried one: a gateway may drop tags, and then what is not found
        under its tag may be there. Never for Anthropic, which has none.
        """
        ...

    @property
    def account(self) -> str:
        """A fingerprint of who pays; the same for two keys only if the connection's ``account`` extra says so.

        Which of two keys are one account's, `nightbatch.batches.accounts` finds out.
        """
        ...

    def render(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> bytes:
        """One line of the input file, without a line break. Raises `Rejected` for what this provider cannot do."""
        ...

    def upload(self, submission: Submission, path: Path) -> str | None:
        """Upload the input (free of charge), named after the tag; the provider's id of it.

        None where nothing is uploaded (Anthropic). Repeating it is safe: an earlier upload with the tag is reused or replaced.
        """
        ...

    def submit(self, submission: Submission, path: Path) -> str:
        """Send exactly one create, never retried, and return the provider's batch id.

        `Rejected`, `Throttled` and `AccountRefused` are definite: no batch exists. After any other exception it may.
        """
        ...

    def find_submission(self, submission: Submission) -> list[FoundBatch]:
        """All batches that are, or may be, this submission, from the provider's list read to its end.

        Raises when the list could not be read to the end: "could not read" never means "absent".
        """
        ...

    def list_batches(self, since: datetime) -> Iterator[ListedBatch]:
        """Yield the account's batches that were created since then, and maybe older ones; raises as `find_submission` does."""
        ...

    def fence(self, submission: Submission) -> bool:
        """Delete the input, so that a create still under way is refused. False where nothing can be fenced (Anthropic)."""
        ...

    async def get_state(self, provider_batch_id: str) -> ProviderState:
        """Where the batch stands. `Rejected` with status 404: this account does not know it."""
        ...

    async def list_states(self, ids: Collection[str], *, since: datetime, pages: int) -> dict[str, ProviderState]:
        """Where those of ``ids`` stand that the provider's list of batches shows: one call answers for many.

        It is read until it has shown them all, is past ``since``, or for so many ``pages``. A list may lag behind: a batch
        that it leaves out is not gone, and is to be asked for by `get_state`. Raises when a page could not be read.
        """
        ...

    def iter_results(self, provider_batch_id: str, known: Container[int] = ()) -> Iterator[ResultLine | UnreadableLine]:
        """The results of an ended batch, unordered, streamed.

        Raises `Transient` when the download was cut short and the provider did not send the rest alone.
        Lines whose ``hash`` is ``known`` were read before, and are left out unread.

        `Rejected` with status 410: the provider has the results no more; with 404: this account does not know the batch.
        """
        ...

    def ask(self, custom_id: str, model: str, endpoint: Endpoint, request: Request) -> ResultLine | UnreadableLine:
        """One call of the realtime API, at full price and sent once; the answer in the shape of a batch's line.

        `Rejected`, `Throttled`, `AccountRefused` and `Unreachable` are definite: nothing was billed.
        """
        ...

    def cancel(self, provider_batch_id: str) -> None:
        """Ask for an end; what has finished by then is billed and still to be loaded."""
        ...

    def delete_files(self, submission: Submission, provider_batch_id: str | None) -> None:
        """Delete the provider's copies of input and output after the load; what is already gone is fine."""
        ...

    def check(self) -> None:
        """A free call that proves base URL and key. Raises `AccountRefused` or `Transient`."""
        ...


@runtime_checkable
class MediaUploads(Protocol):
    """What a provider adds that reads media from files uploaded before (Gemini); the others take images in the request.

    Uploads cost nothing and expire by themselves: one that nobody recorded does no harm.
    """

    def upload_media(self, path: Path, mime_type: str, sha256: str) -> UploadedMedia:
        """Upload a file and wait until requests may refer to it. Raises `Rejected` for one that cannot be processed."""
        ...

    def has_media(self, file_name: str) -> bool:
        """Whether requests may still refer to an upload."""
        ...

    def delete_media(self, file_name: str) -> None:
        """Delete an upload; what is gone already is fine."""
        ...

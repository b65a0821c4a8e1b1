"""The uploads that requests refer to, and the attempts that use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from nightbatch.core.ledger import JobRow
from nightbatch.core.models import ProviderName, UploadedMedia
from nightbatch.postgres.store import Store


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a file, at one account."""

    provider: ProviderName
    account: str
    sha256: str

    @property
    def values(self) -> dict[str, str]:
        """Return the content as parameters for a query."""
        return {"provider": self.provider, "account": self.account, "sha256": self.sha256}


@contextmanager
def alone(store: Store, content: Content) -> Iterator[None]:
    """Keep everybody else from uploading the same content meanwhile.

    This is a transaction, which ends with the process or its connection.
    """
    key = {"content": f"{content.provider} {content.account} {content.sha256}"}
    with store.transaction():
        store.run("lock_content", key, file="media")
        yield
        store.run("unlock_content", key, file="media")


def use(store: Store, content: Content, batch_id: int) -> tuple[str, str, str] | None:
    """Mark an upload of this content as the attempt's; return its file name, uri and MIME type, None if there is none to use."""
    return store.run("use", {**content.values, "batch_id": batch_id}, file="media").fetchone()


def keep(store: Store, content: Content, batch_id: int, made: UploadedMedia, *, mime_type: str, size: int) -> None:
    """Write down an upload that the attempt uses."""
    values = {"file_name": made.file_name, "uri": made.uri, "expires_at": made.expires_at}
    rest = {"batch_id": batch_id, "mime_type": mime_type, "bytes": size}
    store.run("keep", {**content.values, **values, **rest}, file="media")


def forget(store: Store, content: Content, file_name: str) -> None:
    """Write down that an upload is gone at the provider."""
    store.run("forget", {**content.values, "file_name": file_name}, file="media")


def retire(store: Store, provider: ProviderName, account: str) -> list[str]:
    """Take out of use what no open attempt refers to, and return the names of the files that may still be there."""
    values = {"provider": provider, "account": account}
    with store.transaction():
        ids = [row[0] for row in store.run("lock_unused", values, file="media")]
        if not ids:
            return []
        return [name for name, there in store.run("retire", {"ids": ids}, file="media").fetchall() if there]


def candidates(
    store: Store, routes: Sequence[int], job_types: Sequence[str]
) -> Iterator[tuple[int, ProviderName, JobRow]]:
    """Yield id, provider and row of a plan's candidates on these routes that are of these types, within its transaction."""
    values = {"routes": list(routes), "job_types": list(job_types)}
    for job_id, provider, job_type, text in store.run("candidates", values, file="media"):
        yield job_id, provider, JobRow(job_id, job_type, text.encode())


def add_media_bytes(store: Store, sizes: Mapping[int, int]) -> None:
    """Add these bytes to the candidates of a plan, by job id, without making them dearer: media are not billed by their bytes."""
    store.run("weigh", {"job_ids": list(sizes), "bytes": list(sizes.values())}, file="media")

"""Show the request of a job as it was sent: rendered again from the ledger, and compared with the hash of what went out."""

from __future__ import annotations

from dataclasses import dataclass

from nightbatch.batches.input_file import line_hash
from nightbatch.batches.rendering import Types, request_of
from nightbatch.core.errors import NotFound, Rejected
from nightbatch.core.ledger import Batch, JobRow
from nightbatch.core.models import custom_id
from nightbatch.core.settings import Settings
from nightbatch.job_types.base import JobType, MediaFolderMissing, costs_the_job
from nightbatch.jobs import media
from nightbatch.postgres import lookups
from nightbatch.postgres.store import Store
from nightbatch.providers import build


@dataclass(frozen=True, slots=True)
class Rendering:
    """A request as it is rendered today: a line of an attempt's input, or None where it cannot be rendered any more.

    ``as_sent``: whether these are the bytes that were sent; None where that cannot be told. ``reason`` says it in words.
    """

    job_id: int
    batch_id: int
    line: bytes | None
    as_sent: bool | None
    reason: str


def render_again(store: Store, types: Types, settings: Settings, job_id: int, batch_id: int | None = None) -> Rendering:
    """Render a job's request as in this attempt, or in its last one; sends nothing and needs no key.

    It is rendered with the version of its prompt that was used then. Raises `NotFound` for a job that was not in the attempt.
    """
    sent = lookups.sent_request(store, job_id, batch_id)
    if sent is None:
        where = "no batch" if batch_id is None else f"no batch {batch_id}"
        raise NotFound(f"Job {job_id} is in {where}: there is no request of it to be shown.")
    try:
        line = _render(types, settings, store.batch(sent.rendered_for), sent.job)
    except (Rejected, MediaFolderMissing) as error:
        return Rendering(job_id, sent.batch_id, None, None, f"It cannot be rendered any more: {error}")
    return Rendering(job_id, sent.batch_id, line, *_beside(line, sent.hash))


def _render(types: Types, settings: Settings, batch: Batch, job: JobRow) -> bytes:
    provider = build(batch.provider, api_key="none")
    request = media.MediaResolver(provider, settings.media_dir).resolve(
        request_of(lambda *asked: _kind(types, *asked), job)
    )
    if request is None:
        raise Rejected(
            f"its media were uploaded to {batch.provider}, and nobody keeps the addresses that they had there"
        )
    with costs_the_job(f"the adapter of {batch.provider}"):
        return provider.render(custom_id(job.id, batch.id, batch.nonce), batch.model, batch.endpoint, request)


def _kind(types: Types, job_type: str, prompt_version: str | None) -> JobType:
    if job_type not in types:
        raise Rejected(f"there is no job type {job_type} any more")
    return types[job_type].at_version(prompt_version)


def _beside(line: bytes, sent: bytes | None) -> tuple[bool | None, str]:
    if sent is None:
        return None, "No hash of it is kept: it was not sent yet, or by an earlier release."
    if line_hash(line) == sent:
        return True, "Byte for byte as it was sent."
    return False, "Not as it was sent: its job type, its media or the adapter have changed since."

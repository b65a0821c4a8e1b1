"""Write the input file of an attempt: one line for each job, in the words of its type and its provider."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

from nightbatch.batches.input_file import InputFile, private_folder
from nightbatch.core.errors import Rejected
from nightbatch.core.ledger import Batch, JobRow
from nightbatch.core.models import EmbeddingInput, Request, custom_id
from nightbatch.core.profiles import profile
from nightbatch.core.provider import BatchProvider
from nightbatch.core.settings import Settings
from nightbatch.job_types.base import JobType, costs_the_job
from nightbatch.jobs import media
from nightbatch.postgres.store import Store

Types = Mapping[str, JobType]


@dataclass(slots=True)
class Rendered:
    path: Path
    sha256: str = ""
    hashes: bytes = b""
    """Of the single requests, in the order of ``job_ids``."""
    bad: dict[int, str] = field(default_factory=dict)
    too_many: list[int] = field(default_factory=list)
    job_ids: list[int] = field(default_factory=list)
    prompts: dict[str, str] = field(default_factory=dict)


@contextmanager
def rendered(
    store: Store, provider: BatchProvider, types: Types, settings: Settings, batch: Batch
) -> Iterator[Rendered]:
    """Give the input file of an attempt, rendered anew each time: a file from before a crash may be cut short."""
    folder = private_folder(Path(settings.work_dir))
    _sweep(folder)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{batch.tag}-", suffix=".jsonl") as file:
        resolver = media.MediaResolver(provider, settings.media_dir)
        rendered = _render(store, provider, types, batch, resolver, file)
        while resolver.missing:  # after the inputs were read: an upload may take minutes, and asks the store
            resolver.upload_missing(store, batch)
            rendered = _render(store, provider, types, batch, resolver, file)
        yield rendered


def _sweep(folder: Path) -> None:
    """Delete files of killed processes that are older than a day: they hold prompts."""
    for path in folder.glob("nb-*.jsonl"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > 86_400:
                path.unlink()


def _render(
    store: Store, provider: BatchProvider, types: Types, batch: Batch, resolver: media.MediaResolver, file: IO[bytes]
) -> Rendered:
    rendered, limits, inputs = Rendered(Path(file.name)), profile(batch.provider).limits, 0
    kinds = lru_cache(None)(partial(kind_of, types, batch, rendered.prompts))
    with InputFile(file) as written:
        for job in store.batch_inputs(batch.id):
            try:
                request = resolver.resolve(request_of(kinds, job))
                if request is None:
                    continue  # its media are uploaded first
                with costs_the_job(f"the adapter of {batch.provider}"):
                    name = custom_id(job.id, batch.id, batch.fresh_nonce)
                    line = provider.render(name, batch.model, batch.endpoint, request)
                    # An embedding request with a list counts as that many inputs.
                    weight = len(request.texts) if isinstance(request, EmbeddingInput) else 1
                size = len(line) + 1
                if size > limits.max_request_bytes:
                    raise Rejected(f"the request has {size} bytes; {batch.provider} takes {limits.max_request_bytes}")
            except Rejected as error:
                rendered.bad[job.id] = str(error)
                continue
            inputs += weight
            if written.size + size > limits.max_bytes or inputs > limits.max_requests:
                rendered.too_many.append(job.id)
                continue
            written.add(line)
            rendered.job_ids.append(job.id)
    rendered.sha256, rendered.hashes = written.sha256, bytes(written.hashes)
    return rendered


def request_of(kinds: Callable[[str, str | None], JobType], job: JobRow) -> Request:
    """Return the request that a job makes. Raises `Rejected`, with the reason, whatever goes wrong in its type."""
    with costs_the_job(f"the job type {job.job_type}"):
        request = kinds(job.job_type, job.prompt_version).render_request(job.input)
        if not isinstance(request, Request):
            raise Rejected(f"the job type {job.job_type} gave a {type(request).__name__} instead of a request")
        return request


def kind_of(types: Types, batch: Batch, prompts: dict[str, str], job_type: str, prompt_version: str | None) -> JobType:
    """Return the type as a job of the attempt is asked; ``prompts`` gets the version. Raises `Rejected` where it cannot be."""
    kind = types.get(job_type)
    if kind is None:
        raise Rejected(f"there is no job type {job_type} any more")
    if batch.endpoint not in kind.endpoints(batch.provider):
        raise Rejected(f"a {job_type} job goes to {batch.provider}'s other endpoint: insert it as a job of its own")
    kind = kind.at_version(prompt_version)
    if kind.prompt_version is not None:
        prompts.setdefault(kind.name, kind.prompt_version)
    return kind

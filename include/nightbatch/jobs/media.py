"""The videos and images of requests: found in the media folder, uploaded once where that is needed, deleted after."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import orjson
from msgspec.structs import replace

from nightbatch.core.errors import ConfigurationError, Rejected, Transient
from nightbatch.core.ledger import Batch, Route
from nightbatch.core.models import Media, Prompt, ProviderName, Request
from nightbatch.core.profiles import profile
from nightbatch.core.provider import BatchProvider, MediaUploads
from nightbatch.core.settings import Settings
from nightbatch.job_types.base import JobType, MediaFolderMissing, costs_the_job
from nightbatch.jobs.media_types import HEAD_BYTES, LocalFile, goes_inside, in_base64, kind_of
from nightbatch.postgres import media as rows
from nightbatch.postgres.store import Store

Types = Mapping[str, JobType]

# Gemini keeps 20 GB of uploads for an account and takes 2 GB of requests in a batch (https://ai.google.dev/gemini-api/docs/files):
# weighed like this, the uploads of two batches fit at once.
_UPLOADS_PER_BYTE = 5


def find(folder: str, name: str) -> LocalFile:
    """Return a file of the media folder, looked at but not read.

    Raises `Rejected` with a reason that does not repeat the name, and `MediaFolderMissing` when the folder is not there.
    """
    if not folder:
        raise Rejected("files can be named only where NIGHTBATCH_MEDIA_DIR names their folder")
    root = Path(folder).resolve()
    if not root.is_dir():
        raise MediaFolderMissing(f"NIGHTBATCH_MEDIA_DIR={folder} is no folder on this worker; nothing was sent.")
    try:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise Rejected("the path has to be inside the media folder, and relative to it")
        path = (root / name).resolve(strict=True)
        if not path.is_relative_to(root):
            raise Rejected("the path leads out of the media folder")
        if not path.is_file():
            raise Rejected("it is no file")
        with path.open("rb") as file:
            kind = kind_of(file.read(HEAD_BYTES))
        size = path.stat().st_size
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a loop of links, not there, not readable
        raise Rejected(f"the file cannot be read ({type(error).__name__})") from None
    if kind is None:
        raise Rejected("its content is no video, image, document or sound of a known kind")
    return LocalFile(str(path), kind, size)


def _find_all(folder: str, media: Sequence[Media]) -> list[LocalFile | None]:
    """Return a file for each of the media; None for what is not in the folder but at the provider."""
    found: list[LocalFile | None] = []
    for place, one in enumerate(media, start=1):
        try:
            found.append(None if one.path is None else find(folder, one.path))
        except Rejected as error:
            raise Rejected(f"media {place}: {error}") from None
    return found


class MediaResolver:
    """The media of one attempt while its requests are rendered."""

    def __init__(self, provider: BatchProvider, folder: str) -> None:
        self._provider = provider
        self._folder = folder
        self._ready: dict[str, Media] = {}
        self._refused: dict[str, str] = {}
        self.missing: dict[str, LocalFile] = {}
        """The files that have to be uploaded before the requests that refer to them can be rendered."""

    def resolve(self, request: Request) -> Request | None:
        """Return the request with its media as the adapter takes them; None while some are ``missing``. Raises `Rejected`."""
        if not isinstance(request, Prompt) or not request.media:
            return request
        with costs_the_job("the look for its media"):
            files = _find_all(self._folder, request.media)
        local = [file for file in files if file is not None]
        inside = goes_inside(self._provider.name, local)
        missing = [] if inside else [file for file in local if file.path not in self._ready]
        for file in missing:
            if file.path in self._refused:
                raise Rejected(self._refused[file.path])
        self.missing |= {file.path: file for file in missing}
        if missing:
            return None
        placed = [self._placed(one, file, inside) for one, file in zip(request.media, files, strict=True)]
        return replace(request, media=tuple(placed))

    def _placed(self, media: Media, file: LocalFile | None, inside: bool) -> Media:
        if file is None:
            return media
        if inside:
            return replace(media, path=file.path, mime_type=file.mime_type)
        return replace(self._ready[file.path], fps=media.fps)

    def upload_missing(self, store: Store, batch: Batch) -> None:
        """Upload what is missing, each content once for the account, and write down that the attempt uses it.

        Raises `Transient` and `AccountRefused`; what the provider cannot process is remembered, for `resolve` to reject.
        """
        for path, file in self.missing.items():
            try:
                self._ready[path] = _upload(store, self._provider, batch, file)
            except Rejected as error:
                self._refused[path] = f"{batch.provider} refused the file: {error}"
            except OSError as error:
                self._refused[path] = f"a media file cannot be read ({type(error).__name__})"
        self.missing = {}


def looked_up(store: Store, provider: BatchProvider, batch: Batch, request: Request, settings: Settings) -> Request:
    """Return one request with its media, uploaded where that is needed. Raises what `MediaResolver` raises."""
    resolver = MediaResolver(provider, settings.media_dir)
    while (resolved := resolver.resolve(request)) is None:
        resolver.upload_missing(store, batch)
    return resolved


def _upload(store: Store, provider: BatchProvider, batch: Batch, file: LocalFile) -> Media:
    assert isinstance(provider, MediaUploads)  # the others carry their media inside, or reject them
    path = Path(file.path)
    before = path.stat()
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    content = rows.Content(provider.name, provider.account, digest)
    with rows.alone(store, content):
        if kept := rows.use(store, content, batch.id):
            file_name, uri, mime_type = kept
            if provider.has_media(file_name):
                return Media(uri=uri, mime_type=mime_type)
            rows.forget(store, content, file_name)
        made = provider.upload_media(path, file.mime_type, digest)
        after = path.stat()
        if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            raise Transient(f"Batch {batch.id}: a media file changed while it was uploaded; it is uploaded again.")
        rows.keep(store, content, batch.id, made, mime_type=file.mime_type, size=file.size)
    return Media(uri=made.uri, mime_type=file.mime_type)


def delete_unused(store: Store, provider: BatchProvider) -> None:
    """Delete the account's uploads that no open attempt refers to; what cannot be deleted expires by itself."""
    if isinstance(provider, MediaUploads):
        for file_name in rows.retire(store, provider.name, provider.account):
            with suppress(Exception):
                provider.delete_media(file_name)


def add_media_bytes(store: Store, types: Types, routes: Sequence[Route], settings: Settings) -> None:
    """Add the bytes of its media to each job that a plan has gathered, so that it cuts batches that can be sent.

    Within the plan's transaction. A job whose media cannot be found weighs nothing: it is rejected when it is rendered.
    """
    names = [name for name, kind in types.items() if _shows_media(kind)]
    numbers = [n for n, route in enumerate(routes) if route.job_type in (*names, "historical_reprocessing")]
    sizes: dict[int, int] = {}
    seen: set[str] = set()
    for job_id, provider, job in rows.candidates(store, numbers, names):
        with suppress(Rejected, ConfigurationError), costs_the_job(f"the job type {job.job_type}"):
            request = types[job.job_type].render_request(job.input)
            if size := _weight(settings.media_dir, provider, request, seen):
                sizes[job_id] = min(size, profile(provider).limits.max_request_bytes)
    if sizes:
        rows.add_media_bytes(store, sizes)


def _shows_media(kind: JobType) -> bool:
    """Return whether a type's own example asks about media."""
    with suppress(Rejected), costs_the_job(f"the job type {kind.name}"):
        request = kind.render_request(orjson.dumps(kind.example))
        return isinstance(request, Prompt) and bool(request.media)
    return False


def _weight(folder: str, provider: ProviderName, request: Request, seen: set[str]) -> int:
    """Return the bytes inside the request, or a fifth of those of the uploads that it is the first to need."""
    if not isinstance(request, Prompt) or not request.media:
        return 0
    files = [file for file in _find_all(folder, request.media) if file is not None]
    if goes_inside(provider, files):
        return sum(in_base64(file.size) for file in files)
    new = {file.path: file.size for file in files if file.path not in seen}
    seen.update(new)
    return sum(new.values()) // _UPLOADS_PER_BYTE

"""Ask Gemini for its answer to an upload under a file name that is taken, or whose file was deleted. Uploads cost nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import uuid4

from nightbatch.core.errors import AccountRefused, ProviderError, Throttled
from nightbatch.core.models import Submission
from nightbatch.core.provider import BatchProvider
from nightbatch.provider_check.record import Names, Words


def ask_gemini(provider: BatchProvider, model: str, first: bytes, second: bytes) -> Names:
    """Upload ``first``, then ``second`` under the same name, then once more after a deletion; nothing is left behind.

    Raises the provider's errors where it gave no answer to the question.
    """
    tag = f"nb-live-{uuid4().hex[:20]}"
    file = Submission(0, tag, model, "chat", 1, f"files/{tag}")
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder, "first.jsonl"), Path(folder, "second.jsonl")
        short.write_bytes(first)
        long.write_bytes(second)
        try:
            _upload_once(provider, tag, short)
            in_use = _upload_once(provider, tag, long)
            provider.fence(file)
            deleted = _upload_once(provider, tag, long)
        finally:
            provider.fence(file)
    return Names(in_use, deleted)


def _upload_once(provider: BatchProvider, tag: str, path: Path) -> Words:
    """Upload as the adapter does, but without what it does about a name in use: the answer to that is the question."""
    from nightbatch.providers.gemini import GeminiBatches

    assert isinstance(provider, GeminiBatches)
    try:
        with provider._errors():
            file = provider._upload(tag, path)
    except (AccountRefused, Throttled):
        raise
    except ProviderError as error:
        if error.status is None:
            raise
        return Words.of(error)
    return Words(200, f"accepted; the file has {file.size_bytes} bytes, and {path.stat().st_size} were sent")

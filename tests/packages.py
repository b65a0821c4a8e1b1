"""Packages that register providers, as pip would install them: a folder with the metadata of one, on the way that imports go."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nightbatch import job_types
from nightbatch.core import profiles


def package(folder: Path, name: str, **entries: str) -> Path:
    """Write the metadata of a package with these entry points into a folder, and return the folder."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{entry} = {value}" for entry, value in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{profiles.GROUP}]", *lines, ""]))
    return folder


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Have the packages of a folder installed in this process, which looks for them anew."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(folder)
        _forget()
        try:
            yield
        finally:
            patched.undo()
            _forget()


def _forget() -> None:
    importlib.invalidate_caches()
    profiles._found.cache_clear()
    job_types._found.cache_clear()  # they know the providers' default models

"""The job types there are: those in this package, and those in a team's own folder."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType

from nightbatch.core.errors import ConfigurationError
from nightbatch.job_types.base import JobType


def job_types() -> Mapping[str, JobType]:
    """Return every job type by name. A team's own files stand in the folder that ``NIGHTBATCH_JOB_TYPES`` names."""
    return _found(os.environ.get("NIGHTBATCH_JOB_TYPES", ""))[0]


def broken_job_types() -> Mapping[str, str]:
    """Return the files of the team's folder that could not be read, with the reason; the others work all the same."""
    return _found(os.environ.get("NIGHTBATCH_JOB_TYPES", ""))[1]


@cache
def _found(folder: str) -> tuple[Mapping[str, JobType], Mapping[str, str]]:
    types: dict[str, JobType] = {}
    broken: dict[str, str] = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name != "base":
            _add(types, import_module(f"{__name__}.{info.name}"))
    for path in sorted(Path(folder).glob("*.py")) if folder else ():
        try:
            _add(types, _load(path))
        except Exception as error:  # noqa: BLE001  a file of the team's own may fail in any way
            broken[str(path)] = f"{type(error).__name__}: {error}"
    return MappingProxyType(types), MappingProxyType(broken)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"nightbatch_job_types_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks annotations up there
    spec.loader.exec_module(module)
    return module


def _add(types: dict[str, JobType], module: ModuleType) -> None:
    for kind in vars(module).values():
        if not inspect.isclass(kind) or not issubclass(kind, JobType) or inspect.isabstract(kind):
            continue
        if kind.__module__ != module.__name__:
            continue  # only imported there
        made = kind()
        if made.name in types:
            other = inspect.getfile(type(types[made.name]))
            raise ConfigurationError(f"{module.__file__} and {other} both define the job type {made.name!r}.")
        made.overhead_bytes  # noqa: B018  a type whose own example does not fit is broken: say so now
        types[made.name] = made

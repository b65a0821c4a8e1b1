"""One emulator per test worker, in which batches end when a test says so; a fresh account for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightbatch.emulator.process import EmulatorProcess
from nightbatch.models import PROVIDERS, ProviderName
from tests.providers.conformance.kit import Lab


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """It ends with the worker."""
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), turnaround=3600) as running:
        yield running


@pytest.fixture(params=PROVIDERS)
def name(request: pytest.FixtureRequest) -> ProviderName:
    """Each of the three providers."""
    found: ProviderName = request.param
    return found


@pytest.fixture
def lab(emulator: EmulatorProcess, name: ProviderName, tmp_path: Path) -> Iterator[Lab]:
    """Each provider's adapter, on a new account."""
    yield Lab(emulator, name, tmp_path)
    emulator.control("DELETE", "faults")

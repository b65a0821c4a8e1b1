"""One emulator for the folder, whose batches end when a test says so, and a fresh account for every test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightbatch.emulator.process import EmulatorProcess
from nightbatch.models import PROVIDERS, ProviderName
from nightbatch.provider import BatchProvider
from nightbatch.providers import build
from tests.providers.desk import Desk, base_url
from tests.providers.loopback import KEY, Server, Wire, serve


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """Batches take an hour unless they are told to end."""
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), turnaround=3600) as process:
        yield process


@pytest.fixture(params=PROVIDERS)
def name(request: pytest.FixtureRequest) -> ProviderName:
    """Each provider in turn."""
    provider: ProviderName = request.param
    return provider


@pytest.fixture
def desk(emulator: EmulatorProcess, name: ProviderName, tmp_path: Path) -> Iterator[Desk]:
    """A fresh account with the adapter under test. Fault rules go with it."""
    account = uuid.uuid4().hex[:10]
    provider = build(name, api_key=f"emu-{account}", base_url=base_url(emulator, name))
    yield Desk(emulator, name, account, tmp_path, provider)
    emulator.control("DELETE", "faults")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A loopback server that answers as it is told."""
    with serve() as running:
        yield running


@pytest.fixture(scope="session")
def _adapters(server: Server) -> dict[ProviderName, BatchProvider]:
    """Made once: an adapter reads certificates."""
    return {name: build(name, api_key=KEY, base_url=server.url) for name in PROVIDERS}


@pytest.fixture
def wire(name: ProviderName, server: Server, _adapters: dict[ProviderName, BatchProvider], tmp_path: Path) -> Wire:
    """Each adapter in turn, at the loopback server."""
    return Wire(name, server, _adapters[name], tmp_path)


@pytest.fixture
def wires(server: Server, _adapters: dict[ProviderName, BatchProvider], tmp_path: Path) -> dict[ProviderName, Wire]:
    """All three, for what only one of them does."""
    return {name: Wire(name, server, adapter, tmp_path) for name, adapter in _adapters.items()}

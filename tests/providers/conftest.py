"""One emulator and one loopback server for the folder, and each provider's adapter at them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.core.provider import BatchProvider
from nightbatch.providers import build
from nightbatch_local.emulator.process import EmulatorProcess
from tests.providers.lab import Lab
from tests.providers.loopback import KEY, Server, Wire, serve


@pytest.fixture(scope="session", autouse=True)
def _no_waits_between_the_sdks_tries() -> Iterator[None]:
    """OpenAI's and Anthropic's SDKs repeat reads after half a second, and transfers go on after one; here at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nightbatch.providers.wire.RESUME_AFTER", 0.001)
        for sdk in ("openai", "anthropic"):
            patch.setattr(f"{sdk}._base_client.INITIAL_RETRY_DELAY", 0.001)
        yield


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """One for each test worker; batches take an hour unless they are told to end."""
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), turnaround=3600) as process:
        yield process


@pytest.fixture(params=BUILT_IN)
def name(request: pytest.FixtureRequest) -> ProviderName:
    """Each provider in turn; a file about one of them says which."""
    provider: ProviderName = request.param
    return provider


@pytest.fixture
def lab(emulator: EmulatorProcess, name: ProviderName, tmp_path: Path) -> Iterator[Lab]:
    """An adapter at the emulator, on a new account. Fault rules go with it."""
    yield Lab(emulator, name, tmp_path)
    emulator.control("DELETE", "faults")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A loopback server that answers as it is told."""
    with serve() as running:
        yield running


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[Server]:
    """Another one, to which nobody's key may go."""
    with serve() as running:
        yield running


@pytest.fixture(scope="session")
def _adapters(server: Server) -> dict[ProviderName, BatchProvider]:
    """Made once: that takes longer than most tests."""
    return {name: build(name, api_key=KEY, base_url=server.url) for name in BUILT_IN}


@pytest.fixture
def wire(name: ProviderName, server: Server, _adapters: dict[ProviderName, BatchProvider], tmp_path: Path) -> Wire:
    """An adapter at the loopback server."""
    return Wire(name, server, _adapters[name], tmp_path)

"""One emulator for the whole folder; every test has an account of its own, so nothing is shared but the process."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Iterator

import pytest

from nightbatch_local.emulator.process import EmulatorProcess
from tests.emulator.support import Account


@pytest.fixture(scope="module", autouse=True)
def _no_certificates() -> Iterator[None]:
    """Nobody speaks TLS here. Each client of an SDK would read all certificates, which takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
        yield


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """Batches end a quarter of a second after their creation."""
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), turnaround=0.25) as process:
        yield process


@pytest.fixture
def account(emulator: EmulatorProcess) -> Iterator[Account]:
    """A fresh account with a client of each SDK. Its fault rules go with it."""
    with Account(emulator, f"t{uuid.uuid4().hex[:10]}") as fresh:
        yield fresh
        emulator.control("DELETE", "faults")


@pytest.fixture
def own_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """An emulator for a test that kills it or turns its clock. Batches do not end by themselves."""
    with EmulatorProcess(tmp_path_factory.mktemp("own"), turnaround=3600) as process:
        yield process

"""From the first release to this one with batches under way, and beside a worker that nobody has upgraded."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightbatch.batches import recovery
from nightbatch.job_types import job_types
from nightbatch.postgres.migrate import migrate
from nightbatch.postgres.store import open_store
from nightbatch_local.emulator.process import EmulatorProcess
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests.use_cases.conftest import SETTINGS, World

ROOT = Path(__file__).parents[2]
FIRST = "530d236"


@pytest.fixture(scope="module")
def first_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its package, out of the repository's history."""
    folder = tmp_path_factory.mktemp("first")
    asked = subprocess.run(["git", "archive", FIRST, "include"], cwd=ROOT, capture_output=True, check=False)
    if asked.returncode:
        pytest.skip(f"this clone has no commit {FIRST} to upgrade from: {asked.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(asked.stdout)) as archive:
        archive.extractall(folder)  # our own history; the argument for a filter came with Python 3.11.4
    return folder / "include"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), turnaround=0.2) as running:
        yield running


def old(first_release: Path, what: str, world: World) -> subprocess.Popen[str]:
    """Start a process of the first release."""
    program = Path(__file__).with_name("release_before.py")
    urls = [world.emulator.openai_url, world.emulator.anthropic_url, world.emulator.gemini_url]
    environment = {**os.environ, "PYTHONPATH": str(first_release)}
    return subprocess.Popen(
        [sys.executable, program, what, world.dsn, world.account, *urls], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.fault(60)
@pytest.mark.parametrize("zombie", [False, True], ids=["alone", "beside a worker of the first release"])
def test_what_the_first_release_had_under_way_is_loaded_and_paid_once(
    first_release: Path, emulator: EmulatorProcess, postgres_server: EmbeddedPostgres, zombie: bool
) -> None:
    dsn = postgres_server.create_database(f"upgrade_{uuid.uuid4().hex[:8]}")
    account = uuid.uuid4().hex[:10]
    with open_store(dsn) as store:
        world = World(dsn, store, emulator, SETTINGS, account)
        leave_under_way(first_release, world)
        migrate(dsn)
        assert sorted(world.rows("SELECT DISTINCT state FROM nightbatch.batch")) == [
            "planned",
            "submitted",
            "submitting",
        ]
        if zombie:
            _, told = old(first_release, "go_on", world).communicate(timeout=300)
            assert "Error" in told, "a worker of the first release was not kept from anything"
        else:
            recovered(world)
            for batch in store.open_attempts():
                world.submit(batch)
        recovered(world)
        world.night("after the upgrade")
        recovered(world)
        assert set(world.states().values()) == {"succeeded"}
        world.judge()


def leave_under_way(first_release: Path, world: World) -> None:
    """Let the creates of the second run be done, and their answers be lost."""
    process = old(first_release, "begin", world)
    assert process.stdin is not None and process.stdout is not None
    for expected in ("sent", "in doubt", "planned"):
        told = process.stdout.readline().strip()
        assert told == expected, process.communicate()[1]
        if told == "sent":
            for name in ("openai", "anthropic", "gemini"):
                world.emulator.fault(name, "batch_create", "lose_answer", times=1, account=world.account)
        process.stdin.write("\n")
        process.stdin.flush()
    process.communicate(timeout=60)


def recovered(world: World) -> None:
    """Recover until nothing is under way."""
    deadline = time.monotonic() + 60
    while world.rows("SELECT count(*) FROM nightbatch.batch WHERE state IN ('submitting', 'submitted', 'held')") != [0]:
        told = recovery.recover(world.store, world.provider, job_types(), world.settings)
        assert time.monotonic() < deadline, told
        time.sleep(0.1)

"""Providers as others have written them: our emulator and our adapters share our beliefs, these do not.

Each is downloaded by the test that asks it, in one version with a known hash, and runs on loopback. Where that cannot be done the
test is skipped in words; CI fails (``NIGHTBATCH_OTHER_SERVERS=required``).
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from nightbatch_local.postgres.embedded import free_port
from tests.surroundings import missing

AIMOCK = "@copilotkit/aimock@1.43.0"
_AIMOCK_SHA512 = "V8D8cjSMtAR4rHaD2ulp3DR/ZguXQjDNOqwKDNvjb/OJL/KR1I0SDf5xpRCd+TYKjhmf9fM8Xpg3QBKPmV9Kmw=="
_NODE = (20, 15)
MOCK_AI_API = "mock-ai-api==0.1.1 --hash=sha256:3dc9d7e3b4fd5b162daf3689aed6d825830bbd1fbe3e99b2478cc3965d042362"
_START_SECONDS = 300.0


@contextmanager
def aimock(folder: Path) -> Iterator[str]:
    """CopilotKit's mock of OpenAI, from npm; its base URL."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not (node and npm and _version(node) >= _NODE):
        missing("Node.js 20.15 or newer, with npm", "apt-get install nodejs npm, or see nodejs.org")
    packed = _run(folder, [npm, "pack", "--silent", "--cache", str(folder / "npm"), AIMOCK], AIMOCK)
    tarball = folder / packed.strip().splitlines()[-1]
    found = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    assert found == _AIMOCK_SHA512, f"{AIMOCK} is not what it was: sha512-{found}"
    shutil.unpack_archive(tarball, folder)  # Debian's Python 3.11 knows no filters; its hash says what is in it
    port = free_port()
    command = [node, "package/dist/cli.js", "--port", str(port), "--log-level", "warn"]
    command += ["--fixtures", "package/fixtures/example-greeting.json"]  # it wants one; batches are answered without
    with _serving(folder, command, port):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def mock_ai_api(folder: Path) -> Iterator[str]:
    """Arman Ghevondyan's mock of Anthropic, from PyPI, on our Starlette: it asks for another FastAPI than Airflow."""
    (folder / "requirements.txt").write_text(MOCK_AI_API)
    library = folder / "library"
    install = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    install += ["--cache-dir", str(folder / "uv"), "--python", sys.executable, "--target", str(library)]
    _run(folder, [*install, "-r", "requirements.txt"], "mock-ai-api")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app.anthropic_app:app", "--port", str(port), "--log-level", "warning"]
    with _serving(folder, command, port, PYTHONPATH=str(library)):
        yield f"http://127.0.0.1:{port}"


def _version(node: str) -> tuple[int, ...]:
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in told.strip().removeprefix("v").split(".")[:2])


def _run(folder: Path, command: Sequence[str], what: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        missing(what, f"it could not be downloaded: {done.stderr.strip()[-500:]}")
    return done.stdout


@contextmanager
def _serving(folder: Path, command: Sequence[str], port: int, **environment: str) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            command, cwd=folder, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait_until_it_answers(running, port, folder / "log")
        yield
    finally:
        running.kill()
        running.wait()


def _wait_until_it_answers(running: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).raise_for_status()
        except httpx.HTTPError:
            assert running.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return

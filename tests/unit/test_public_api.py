"""`import nightbatch` is all that a user needs, costs nothing, and is what the pages show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nightbatch

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", nightbatch.__all__)
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(nightbatch, name).__doc__


def test_what_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Prompts'"):
        nightbatch.Prompts  # noqa: B018


def test_the_import_brings_nothing_along() -> None:
    code = "import sys, nightbatch; print([m for m in ('pydantic', 'psycopg', 'airflow', 'httpx') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md"])
def test_the_pages_import_nothing_else(page: str) -> None:
    imports = re.findall(r"^(?:from|import) nightbatch\S*", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert set(imports) <= {"from nightbatch", "import nightbatch", "from nightbatch.testing"}

"""What the README and the pages show can be typed: their Python and SQL runs, and their commands are understood."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
import typer.main

from nightbatch.cli import app
from nightbatch.job_types.base import JobType
from nightbatch.providers import writer

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "docs" / "examples" / "README.md",
]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What a reader has already: a table of her own, and a frame.
ADS = "CREATE TABLE ads AS SELECT 1 AS id, 'Coffee'::text AS title, 'At night.'::text AS text, now() AS created_at"


def snippets(*languages: str) -> list[Any]:
    found = [
        pytest.param(code, id=f"{page.relative_to(ROOT)}:{place}")
        for page in PAGES
        for place, (language, code) in enumerate(FENCE.findall(page.read_text(encoding="utf-8")))
        if language in languages
    ]
    assert found
    return found


@pytest.mark.parametrize("code", snippets("sql"))
def test_sql_of_a_page_runs(code: str, dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(ADS)
        connection.execute(code)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.name
)
def test_python_of_a_page_runs(page: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece after the one before, as a reader types them."""
    monkeypatch.setenv("NIGHTBATCH_DSN", dsn)
    there: dict[str, Any] = {"__name__": "page", "frame": pd.DataFrame({"title": ["Coffee", "Tea"]})}
    for language, code in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(code, page.name, "exec", dont_inherit=True), there)
    for kind in list(there.values()):
        if isinstance(kind, type) and issubclass(kind, JobType) and kind.__module__ == "page":
            for provider, model in kind().models.items():
                request = kind().render_request(json.dumps(kind.example).encode())
                assert writer(provider).write("j1", model, kind().endpoint(provider), request)


@pytest.mark.parametrize("code", snippets("", "sh", "console"))
def test_commands_of_a_page_are_understood(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in re.findall(r"^(?:\$ )?nightbatch (\w.*)$", code, re.MULTILINE):
        name, *words = shlex.split(line.split(" | ")[0], comments=True)
        for word in words:
            if word.endswith(".jsonl"):
                Path(word).touch()
        COMMANDS[name].make_context(name, words)  # raises for what would be wrong usage
    for target in re.findall(r"^make ([a-z-]+)", code, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), target
    for script in re.findall(r"docs/examples/\w+\.py", code):
        assert (ROOT / script).exists(), script

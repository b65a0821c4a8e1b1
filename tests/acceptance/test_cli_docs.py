"""docs/cli.md says what the app has, and its examples can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nightbatch.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SECTIONS = dict(re.findall(r"^## nightbatch (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
EXAMPLES = [
    (name, line.split(" | ")[0])
    for name, section in SECTIONS.items()
    for line in re.findall(r"^\$ nightbatch (.*)$", section, re.MULTILINE)
]


def test_the_page_has_the_commands_of_the_app_in_its_order() -> None:
    assert list(SECTIONS) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_options_its_exit_codes_and_an_example_on_the_page(name: str) -> None:
    told = re.search(r"^Options: (.*?)\sExit\scodes:\s(.*)", SECTIONS[name], re.MULTILINE | re.DOTALL)
    assert told is not None
    options, codes = told.groups()
    known = {opt for param in COMMANDS[name].params for opt in param.opts if opt.startswith("--")}
    assert set(re.findall(r"`(--[a-z-]+)", options)) == known - {"--help"}
    assert codes.startswith("0")
    assert name in [line.split()[0] for section, line in EXAMPLES if section == name]


@pytest.mark.parametrize("line", [line for _, line in EXAMPLES])
def test_an_example_is_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jobs.jsonl").touch()
    name, *words = shlex.split(line)
    COMMANDS[name].make_context(name, words)  # raises for what would be wrong usage


def test_every_command_speaks_json_but_the_server() -> None:
    without = [
        name for name, command in COMMANDS.items() if not any("--json" in param.opts for param in command.params)
    ]
    assert without == ["emulator"]

"""Every program of docs/examples runs by its own command line, with real nights between its two verbs.

One of them is started as a user does it; the others run here, for each start would import everything again.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nightbatch.batches import fallback
from nightbatch.job_types import job_types
from tests.samples import mp4, png
from tests.use_cases.conftest import World, emulator, world

__all__ = ["emulator", "world"]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
STARTED = "embeddings"  # pandas and `nightbatch` are imported in it
SHOWN = {
    "council": ["The verdict is in", "by 4 of 4"],
    "creative_scoring": [
        "anthropic  Coffee that waits for you",
        "openai     Your old coat, warm again",
        "instead of $0.0",
    ],
    "embedding_pipeline": ["3 of 3 articles have a vector."],
    "embeddings": ["a red bicycle", "64"],
    "fetching_results": ["succeeded", "tokens in"],
    "historical_reprocessing": ["gpt-6-luna said", "gpt-6-sol says"],
    "showing_metrics": ["anthropic", "100% succeeded", "back after"],
    "smart_fallback": ["succeeded by realtime at full price."],
    "vector_store": ["'a red bicycle' is nearest to"],
    "video_analysis": ["(gemini) succeeded", "(openai) succeeded"],
}


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "summer.mp4").write_bytes(mp4(6))
    for second in range(2):
        (tmp_path / f"summer-{second}.png").write_bytes(png(8, 8, seed=second))
    monkeypatch.setenv("NIGHTBATCH_MEDIA_DIR", str(tmp_path))
    yield str(tmp_path)


Run = Callable[[str, str], str]


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example with a verb; what it printed."""
    monkeypatch.setenv("NIGHTBATCH_DSN", world.dsn)

    def run(name: str, verb: str) -> str:
        path = str(EXAMPLES / f"{name}.py")
        if name == STARTED:
            done = subprocess.run(
                [sys.executable, path, verb], env=os.environ, capture_output=True, text=True, check=False, timeout=120
            )
            assert done.returncode == 0, done.stderr
            shown = done.stdout
        else:
            monkeypatch.setattr(sys, "argv", [path, verb])
            capsys.readouterr()
            runpy.run_path(path, run_name="__main__")
            shown = capsys.readouterr().out
        assert shown
        return shown

    return run


def test_all_examples_run_and_show_what_they_promise(world: World, media: str, run: Run) -> None:
    world.settings = replace(world.settings, media_dir=media)
    names = sorted(path.stem for path in EXAMPLES.glob("*.py"))
    assert names == sorted(SHOWN)
    later = "historical_reprocessing"  # its jobs are past ones
    for name in names:
        if name != later:
            run(name, "queue")
    world.night("first")
    assert "jobs queued" in run(later, "queue")
    world.night("second")
    fallback.answer_urgent(world.store, world.provider, job_types(), world.settings)
    for name in names:
        shown = run(name, "show")
        for words in SHOWN[name]:
            assert words in shown, f"{name}: {shown}"
    assert set(world.states().values()) == {"succeeded"}


def test_each_example_stands_in_the_readme() -> None:
    page = (EXAMPLES / "README.md").read_text()
    assert all(f"[{path.name}]({path.name})" in page for path in EXAMPLES.glob("*.py"))

"""A sample of `make interleave`: the first seeds, in processes of their own, since every process there has checkpoints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import surroundings
from tests.crash.surroundings import MEANINGS, PLAIN


@pytest.mark.parametrize("surrounding", MEANINGS)
def test_no_schedule_of_the_first_seeds_pays_twice_or_loses_anything(surrounding: str) -> None:
    if surrounding == "pgbouncer":
        surroundings.pgbouncer()
    seeds = 50 if surrounding == PLAIN else 8
    played = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.interleave",
            "--seeds",
            str(seeds),
            "--processes",
            "1",
            "--surrounding",
            surrounding,
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert played.returncode == 0, played.stdout + played.stderr[-4000:]
    assert f"{seeds} seeds," in played.stdout
    assert "0 find something" in played.stdout

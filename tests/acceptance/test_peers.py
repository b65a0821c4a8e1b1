"""The bench beside the peers, small, with the two contenders that need nothing installed; `make bench-peers` is the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.peers.contenders import NIGHTBATCH, OPERATOR, Contender
from tests.bench.peers.environments import Unavailable, python_for
from tests.bench.peers.measure import Crash, measure
from tests.bench.peers.table import Row, markdown, row_of, save, saved

_ROUNDS = [
    {"send_seconds": 1.0, "fetch_seconds": 2.0, "bare_mb": 50.0, "peak_mb": 80.0},
    {"send_seconds": 3.0, "fetch_seconds": 4.0, "bare_mb": 52.0, "peak_mb": 90.0},
    {"send_seconds": 2.0, "fetch_seconds": 9.0, "bare_mb": 51.0, "peak_mb": 85.0},
]
_NOWHERE = Contender("far", "far", "far", lacks="Nothing.", again="Never.", requirements=("far==1",), minor=19)


def test_nightbatch_is_killed_and_started_again_and_billed_once() -> None:
    (row,) = measure(50, rounds=0, contenders=[NIGHTBATCH])
    assert (row.billed, row.paid_twice, row.answers, row.note) == (50, 0, 50, "")


def test_the_operator_is_timed() -> None:
    (row,) = measure(50, rounds=1, contenders=[OPERATOR], crash=False)
    assert (row.rounds, row.billed, row.note) == (1, None, "")
    assert row.send_seconds and row.fetch_seconds and row.peak_mb and row.above_mb
    assert row.above_mb < row.peak_mb


def test_a_row_is_the_median_of_its_rounds() -> None:
    row = row_of(NIGHTBATCH, 10, "1.0 (Python 3.11.7)", _ROUNDS, Crash(billed=20, paid_twice=10, answers=10), "")
    assert row == Row(
        "nightbatch",
        "1.0 (Python 3.11.7)",
        10,
        3,
        send_seconds=2.0,
        fetch_seconds=4.0,
        seconds=7.0,
        spread=(3.0, 11.0),
        peak_mb=85.0,
        above_mb=34.0,
        billed=20,
        paid_twice=10,
        answers=10,
    )


def test_the_rows_come_back_from_the_file_and_stand_in_the_table(tmp_path: Path) -> None:
    rows = [
        row_of(NIGHTBATCH, 1000, "1.0", _ROUNDS, Crash(1000, 0, 1000), ""),
        row_of(OPERATOR, 1000, "", [], None, "not installed"),
    ]
    save(rows, tmp_path / "peers.json")
    assert saved(tmp_path / "peers.json") == rows
    table = markdown(rows).splitlines()
    assert table[2] == "| nightbatch | 3 | 2.00 | 4.00 | 7.00 (3.00–11.00) | 1.0 | 85 | 34 | 1,000 of 1,000 | 1,000 |"
    assert table[3] == "| LLMBatchOperator | not installed |" + "  |" * 8


def test_a_peer_whose_python_is_missing_is_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(Unavailable, match=r"needs Python 3\.19 or newer"):
        python_for(_NOWHERE)
    (row,) = measure(50, rounds=1, contenders=[_NOWHERE])
    assert row == Row("far", "", 50, 0, note="needs Python 3.19 or newer, and this machine has none")

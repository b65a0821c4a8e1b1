"""docs/reliability.md says what the tests hold, and they hold every fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import reliability
from tests.reliability import FAULTS, NOT_HELD_YET, BadMarker, collect, page


def test_every_fault_has_a_test_but_those_that_the_page_says_have_none() -> None:
    held = collect()
    assert {number for number in FAULTS if number not in held} == NOT_HELD_YET
    assert list(FAULTS) == list(range(1, 77))


def test_no_test_that_holds_a_fault_can_be_passed_over() -> None:
    assert reliability.never_skipped() == []


def test_the_page_is_what_the_tests_say() -> None:
    assert reliability.PAGE.read_text() == page(collect()), "run `python -m tests.reliability`"


def written(folder: Path, text: str) -> Path:
    (folder / "tests" / "room").mkdir(parents=True)
    (folder / "tests" / "room" / "test_it.py").write_text(text)
    return folder / "tests"


def test_a_test_may_hold_several_faults_and_a_fault_have_several_tests(tmp_path: Path) -> None:
    text = "@pytest.mark.fault(7, 1)\ndef test_b(): ...\n@other\n@pytest.mark.fault(7)\nasync def test_a(): ...\n"
    both = ["tests/room/test_it.py::test_a", "tests/room/test_it.py::test_b"]
    assert collect(written(tmp_path, text)) == {1: both[1:], 7: both}
    assert "| 7 | Two triggers" in page({7: both})
    assert "`room/test_it.py::test_a`<br>`room/test_it.py::test_b` |" in page({7: both})


@pytest.mark.parametrize(
    "text",
    [
        "@pytest.mark.fault(99)\ndef test_a(): ...",
        "@pytest.mark.fault('1')\ndef test_a(): ...",
        "@pytest.mark.fault()\ndef test_a(): ...",
        "@pytest.mark.fault(N)\ndef test_a(): ...",
        "pytestmark = pytest.mark.fault(1)",
        "@pytest.mark.fault(1)\ndef helper(): ...",
        "x = [pytest.param(1, marks=pytest.mark.fault(1))]",
    ],
)
def test_a_marker_that_the_page_cannot_show_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadMarker, match=r"test_it\.py:1: "):
        collect(written(tmp_path, text))


@pytest.mark.parametrize("how", ["@pytest.mark.skip\n", "@pytest.mark.skipif(True)\n", "@pytest.mark.xfail\n", ""])
def test_a_test_that_may_be_skipped_holds_nothing(tmp_path: Path, how: str) -> None:
    body = "..." if how else "pytest.skip()"
    folder = written(tmp_path, f"{how}@pytest.mark.fault(1)\ndef test_a(): {body}")
    assert reliability.never_skipped(folder) == ["tests/room/test_it.py::test_a"]

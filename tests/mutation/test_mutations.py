"""The list of mutations fits the tree, and the guard tells a caught one from one that survives."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutation.__main__ import main
from tests.mutation.guard import ROOT, Mutation, Outdated, mutated
from tests.mutation.mutations import MUTATIONS

PACKAGE = ROOT / "include" / "nightbatch"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_mutation_fits_the_tree(mutation: Mutation) -> None:
    changed = mutated(mutation, PACKAGE)
    assert changed != (PACKAGE / mutation.file).read_text()
    if mutation.file.endswith(".py"):
        ast.parse(changed)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_mutation_names_tests_that_there_are(mutation: Mutation) -> None:
    assert mutation.tests
    for test in mutation.tests:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        assert not name or name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


def test_no_two_mutations_have_one_name_or_one_change() -> None:
    assert [name for name, times in Counter(one.name for one in MUTATIONS).items() if times > 1] == []
    changes = Counter((one.file, one.part, one.old, one.new) for one in MUTATIONS)
    assert [change for change, times in changes.items() if times > 1] == []


# -- the guard itself, on a tree of one file


TOY = Mutation("toy", "toy.py", "double", "2 *", "3 *", ("tests/test_toy.py",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "include" / "nightbatch").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "include" / "nightbatch" / "__init__.py").touch()
    (root / "include" / "nightbatch" / "toy.py").write_text("def double(n: int) -> int:\n    return 2 * n\n")
    (root / "tests" / "test_toy.py").write_text(
        "from nightbatch.toy import double\n\ndef test_none():\n    assert double(0) == 0\n"
        "\ndef test_one():\n    assert double(1) == 2\n"
    )
    return root


def test_a_mutation_that_a_test_sees_is_caught_and_the_test_named(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], [TOY], tree) == 0
    assert "caught    toy: tests/test_toy.py::test_one" in capsys.readouterr().out
    assert (tree / "include" / "nightbatch" / "toy.py").read_text().endswith("2 * n\n"), "only a copy is changed"


def test_a_mutation_that_no_test_sees_ends_the_run_with_an_error(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unseen = replace(TOY, name="unseen", tests=("tests/test_toy.py::test_none",))
    assert main(["--jobs", "1"], [TOY, unseen], tree) == 1
    assert "SURVIVED  unseen" in capsys.readouterr().out


def test_a_test_that_is_red_anyway_catches_nothing(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tree / "tests" / "test_toy.py").open("a") as file:
        file.write("\ndef test_wrong():\n    assert double(1) == 3\n")
    wrong = replace(TOY, new="4 *", tests=("tests/test_toy.py::test_wrong",))
    assert main([], [wrong], tree) == 1
    assert "red without a mutation too" in capsys.readouterr().out


def test_a_mutation_that_does_not_run_catches_nothing(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], [replace(TOY, new="two *")], tree) == 1
    assert "it does not run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("outdated", "said"),
    [
        (replace(TOY, old="5 *"), "'5 \\*' stands 0 times in double of toy.py, not once"),
        (replace(TOY, old="n"), "stands 5 times in double"),
        (replace(TOY, part="treble"), "treble stands 0 times in toy.py"),
        (replace(TOY, file="gone.py"), "there is no gone.py any more"),
    ],
)
def test_a_mutation_whose_text_is_gone_is_an_error_in_words(tree: Path, outdated: Mutation, said: str) -> None:
    with pytest.raises(Outdated, match=said):
        mutated(outdated, tree / "include" / "nightbatch")
    assert main([], [outdated], tree) == 1

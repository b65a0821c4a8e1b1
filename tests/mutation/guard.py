"""Takes one part out of a copy of the tree, and asks the tests whether they see it."""

from __future__ import annotations

import ast
import multiprocessing
import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PACKAGE = Path("include/nightbatch")
_SKIPPED = shutil.ignore_patterns(".*", "var", "__pycache__")
_NOT_RUN = re.compile(r"psycopg\.errors\.(Syntax|Undefined)|NameError|SyntaxError|ImportError|UnboundLocalError")
"""A mutation that does not even run is seen by any test, and so proves nothing."""


class Outdated(Exception):
    """A mutation does not fit the tree any more; the message says what to mend."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of the product that some test has to see.

    ``old`` stands exactly once in ``part`` (a function, or a named query) of ``file``, a path inside of the package.
    ``tests`` are the files, or single tests, of which at least one has to turn red.
    """

    name: str
    file: str
    part: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests made of a mutation: the ``red`` one, or nothing, and what pytest said if it could not run."""

    mutation: Mutation
    red: str = ""
    trouble: str = field(default="")

    def __str__(self) -> str:
        """Return the line that the run prints."""
        if self.trouble:
            return f"ERROR     {self.mutation.name}: {self.trouble}"
        return f"caught    {self.mutation.name}: {self.red}" if self.red else f"SURVIVED  {self.mutation.name}"


def mutated(mutation: Mutation, package: Path) -> str:
    """Return the file's text with the change made. Raises `Outdated`."""
    path = package / mutation.file
    if not path.is_file():
        raise Outdated(f"{mutation.name}: there is no {mutation.file} any more.")
    text = path.read_text()
    start, end = _place(mutation, text)
    found = text.count(mutation.old, start, end)
    if found != 1:
        raise Outdated(
            f"{mutation.name}: {mutation.old!r} stands {found} times in {mutation.part} of {mutation.file}, not once."
            " Write the mutation anew for what stands there now."
        )
    place = text.index(mutation.old, start, end)
    return text[:place] + mutation.new + text[place + len(mutation.old) :]


def _place(mutation: Mutation, text: str) -> tuple[int, int]:
    """Return where the part begins and ends. Raises `Outdated`."""
    if mutation.file.endswith(".sql"):
        names = list(re.finditer(r"^-- ([a-z][a-z0-9_]*):", text, re.MULTILINE))
        ends = [name.start() for name in names[1:]] + [len(text)]
        places = [(name.start(), end) for name, end in zip(names, ends, strict=True) if name[1] == mutation.part]
    else:
        places = [_span(node, text) for node in ast.walk(ast.parse(text)) if _is_named(node, mutation.part)]
    if len(places) != 1:
        raise Outdated(f"{mutation.name}: {mutation.part} stands {len(places)} times in {mutation.file}, not once.")
    return places[0]


def _is_named(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name


def _span(node: ast.AST, text: str) -> tuple[int, int]:
    assert isinstance(node, ast.stmt)
    assert node.end_lineno is not None
    lines = [0, *(match.end() for match in re.finditer("\n", text)), len(text)]
    return lines[node.lineno - 1], lines[node.end_lineno]


def copy_tree(to: Path, root: Path = ROOT) -> Path:
    """Copy what the tests need; return the copy."""
    shutil.copytree(root, to, ignore=_SKIPPED, symlinks=True)
    return to


def ask(mutation: Mutation, copy: Path) -> Verdict:
    """Run the mutation's tests against a copy that holds it; the copy is as before afterwards. Raises `Outdated`."""
    changed = mutated(mutation, copy / _PACKAGE)
    path = copy / _PACKAGE / mutation.file
    whole = path.read_text()
    path.write_text(changed)
    try:
        code, red, output = run(copy, mutation.tests)
    finally:
        path.write_text(whole)
    if code == 0:
        return Verdict(mutation)
    if code != 1 or not red:
        return Verdict(mutation, trouble=f"pytest ended with {code}: {output[-600:].strip()}")
    if broken := [line for line in red if _NOT_RUN.search(line)]:
        return Verdict(mutation, trouble=f"it does not run: {broken[0]}")
    return Verdict(mutation, red=red[0])


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["pytest", "hypothesis", "psycopg", "pydantic", "msgspec", "genai_prices", "openai", "anthropic", "google.genai"]
)
"""Imported once for all mutations, since it takes longer than most of the tests; nothing of the product is among it."""


def run(copy: Path, tests: tuple[str, ...]) -> tuple[int, list[str], str]:
    """Run tests of a copy up to the first that fails; return pytest's code, what failed and why, and all that it said."""
    said = copy / "said.txt"
    process = _FORKS.Process(target=_pytest, args=(copy, tests, said))
    process.start()
    process.join()
    text = said.read_text()
    red = [line.removeprefix("FAILED ") for line in text.splitlines() if line.startswith("FAILED ")]
    return process.exitcode or 0, red, text


def _pytest(copy: Path, tests: tuple[str, ...], said: Path) -> None:
    """Be pytest, in this process."""
    sys.dont_write_bytecode = True  # two versions of a file may be of the same second and size
    roots = [str(copy / "include"), str(copy)]
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(roots), "COLUMNS": "400"}
    sys.path[:0] = roots
    for name in [name for name in sys.modules if name.partition(".")[0] in ("nightbatch", "nightbatch_local", "tests")]:
        del sys.modules[name]  # of the real tree: another user of this process's server may have had it import them
    os.chdir(copy)
    with said.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import pytest

    sys.exit(pytest.main(["-n", "0", "-x", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider", *tests]))

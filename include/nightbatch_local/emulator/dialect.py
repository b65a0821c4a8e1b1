"""Say what the worker needs to know of a provider."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nightbatch_local.emulator.prompt import Usage
from nightbatch_local.emulator.state import Batch, Outcome, State


@dataclass(frozen=True, slots=True)
class Checked:
    """What the first reading of an input found. Any entry in `errors` fails the whole batch."""

    total: int
    expiring: int = 0
    model: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Result:
    """One result line, without its newline. `usage` is None for what is not charged."""

    custom_id: str | None
    line: bytes
    ok: bool
    model: str = ""
    usage: Usage | None = None


class Dialect(Protocol):
    """One provider's way with batch lines."""

    splits_errors: bool
    """True if results that are not ok go to a file of their own."""
    keeps_partial: bool
    """True if what was done before an expiry or a cancel can be fetched, and is charged."""
    reports_failure: bool
    """True if a failed batch has an error of its own; False if its requests have."""

    def check(self, state: State, batch: Batch, lines: Iterable[bytes]) -> Checked:
        """Read the input once, as the provider does before it starts."""

    def answer(self, state: State, batch: Batch, raw: bytes, *, seed: int, at: float) -> Result:
        """Do one request."""

    def unfinished(self, batch: Batch, raw: bytes, outcome: Outcome) -> Result:
        """Return the line of a request that the batch's end came before."""


def read_lines(path: str) -> Iterator[bytes]:
    """Yield the lines of an input that are not blank, one at a time."""
    with Path(path).open("rb") as body:
        for line in body:
            stripped = line.strip()
            if stripped:
                yield stripped

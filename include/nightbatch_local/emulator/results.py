"""Write the results of one ended batch to files, and count them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import IO

import orjson

from nightbatch_local.emulator.billing import Rates, cost_text, rates
from nightbatch_local.emulator.dialect import Result
from nightbatch_local.emulator.prompt import Usage
from nightbatch_local.emulator.state import Batch

_SHUFFLED_AT_ONCE = 500

Charge = tuple[str, str, str, str | None, int, str, int, int, int, str | None, float, str, str]


class ResultFiles:
    """Collects result lines in `output` and `error`, and the charges for them.

    Lines come out of order, within a few hundred, as they do from the providers; an inline batch keeps its order.
    """

    def __init__(self, batch: Batch, output: IO[bytes], error: IO[bytes], *, in_order: bool) -> None:
        self._batch = batch
        self._output = output
        self._error = error
        self._waiting: list[Result] = []
        self._random = None if in_order else Random(batch.id)
        self._rates: dict[str, Rates | None] = {}
        self.ok = 0
        self.not_ok = 0
        self.charges: list[Charge] = []

    def add(self, number: int, result: Result, at: float) -> None:
        """Take one line, for the request that stands at `number` in the input."""
        self._waiting.append(result)
        if result.ok:
            self.ok += 1
        else:
            self.not_ok += 1
        if result.usage is not None:
            self.charges.append(self._charge(number, result, result.usage, at))
        if len(self._waiting) >= _SHUFFLED_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if self._random is not None:
            self._random.shuffle(self._waiting)
        self._output.writelines(result.line + b"\n" for result in self._waiting if result.ok)
        self._error.writelines(result.line + b"\n" for result in self._waiting if not result.ok)
        self._waiting.clear()

    def _charge(self, number: int, result: Result, usage: Usage, at: float) -> Charge:
        batch = self._batch
        if result.model not in self._rates:
            # the price in force when the batch was sent
            self._rates[result.model] = rates(batch.provider, result.model, "batch", batch.created_at)
        cost = cost_text(self._rates[result.model], usage)
        units = orjson.dumps(usage.others()).decode()
        who = (batch.provider, batch.account, batch.id, result.custom_id, number, result.model)
        return (*who, usage.input_tokens, usage.cached_tokens, usage.output_tokens, cost, at, "batch", units)


@contextmanager
def result_files(batch: Batch, folder: Path, *, split: bool) -> Iterator[tuple[ResultFiles, Path, Path]]:
    """Open files named after the batch, so that a second try after a crash overwrites the first."""
    name = batch.id.rpartition("/")[2]  # Gemini's ids begin with `batches/`
    output, error = folder / f"{name}.output", folder / f"{name}.error"
    with ExitStack() as stack:
        good = stack.enter_context(output.open("wb"))
        bad = stack.enter_context(error.open("wb")) if split else good
        files = ResultFiles(batch, good, bad, in_order=batch.inline)
        yield files, output, error
        files.flush()

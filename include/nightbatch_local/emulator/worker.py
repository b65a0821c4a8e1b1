"""Check, do and charge batches in a thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import orjson

from nightbatch_local.emulator.dialect import Dialect, read_lines
from nightbatch_local.emulator.errors import Provider
from nightbatch_local.emulator.export import BillingLog
from nightbatch_local.emulator.prompt import EXPIRE_MARKER
from nightbatch_local.emulator.results import ResultFiles, result_files
from nightbatch_local.emulator.state import Batch, File, Outcome, State

log = logging.getLogger(__name__)

_MAX_NAP = 1.0
_OUTPUT_KEPT = 30 * 86400.0
CHARGE = (
    "INSERT INTO billing (provider, account, batch_id, custom_id, line, model, input_tokens, cached_tokens,"
    " output_tokens, cost_usd, billed_at, processing, units) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a batch ends and which of its requests are done by then."""

    outcome: Outcome
    done: int

    @classmethod
    def of(cls, batch: Batch) -> Ending:
        """Return how a batch ends.

        As it was told to end; expired if it is too slow or a request is marked never to finish; else completed.
        """
        too_slow = batch.ending is None and batch.expires_at < batch.due_at
        outcome: Outcome = batch.ending or ("expired" if too_slow or batch.expiring else "completed")
        share = batch.progress(batch.expires_at) if too_slow else batch.finished
        share = {"completed": 1.0, "failed": 0.0}.get(outcome, share)
        return cls(outcome, round(batch.total * share))

    def reaches(self, number: int, raw: bytes) -> bool:
        """Return True if the request at this place is done before the batch's end."""
        return number < self.done and (self.outcome == "completed" or EXPIRE_MARKER not in raw)


class Stopped(Exception):
    """The emulator is closing; the batch is done again from its start after the next one."""


class Worker(threading.Thread):
    """Checks new batches and ends those that are due, one at a time."""

    def __init__(self, state: State, billing_log: BillingLog, dialects: Mapping[Provider, Dialect], seed: int) -> None:
        super().__init__(name="emulator-worker", daemon=True)
        self._state = state
        self._billing_log = billing_log
        self._dialects = dialects
        self._seed = seed
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def wake(self) -> None:
        """Tell the worker that there may be something to do."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread, with the billing log up to date."""
        self._stopping.set()
        self._wake.set()
        self.join()

    def run(self) -> None:
        """Work until told to stop. A fault of the emulator's own is logged and tried again."""
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                if not self._step():
                    self._wake.wait(self._nap())
            except Stopped:
                break
            except Exception:
                log.exception("The emulator failed to work on a batch.")
                self._wake.wait(_MAX_NAP)
        while self._billing_log.catch_up():
            pass

    def _step(self) -> bool:
        open_batches = self._state.open_batches()
        unchecked = next((batch for batch in open_batches if batch.checked_at is None), None)
        if unchecked is not None:
            self._check(unchecked)
            return True
        now = self._state.now()
        due = next((batch for batch in open_batches if batch.ends_at <= now), None)
        if due is not None:
            self._finish(due)
        return self._billing_log.catch_up() or due is not None

    def _nap(self) -> float:
        soonest = self._state.value("SELECT min(due_at) FROM batch WHERE outcome IS NULL")
        return _MAX_NAP if soonest is None else min(_MAX_NAP, max(0.0, soonest - self._state.now()))

    def _check(self, batch: Batch) -> None:
        found = self._dialects[batch.provider].check(self._state, batch, read_lines(batch.input_path))
        now = self._state.now()
        changes: dict[str, object] = {"checked_at": now, "total": found.total, "expiring": found.expiring}
        if found.model is not None:
            changes["model"] = found.model
        if found.errors:
            changes |= {"outcome": "failed", "ended_at": now, "errors": orjson.dumps(found.errors).decode()}
        self._state.update_batch(batch.id, changes)

    def _finish(self, batch: Batch) -> None:
        dialect = self._dialects[batch.provider]
        ending = Ending.of(batch)
        silent = not dialect.keeps_partial and ending.outcome != "completed"
        if silent or (ending.outcome == "failed" and dialect.reports_failure):
            self._commit(batch, {"outcome": ending.outcome, "late": batch.total}, None, [])
            return
        with result_files(batch, self._state.folder / "results", split=dialect.splits_errors) as (
            files,
            good,
            bad,
        ):
            unfinished = self._write(batch, dialect, ending, files)
        counts = {"succeeded": files.ok, "errored": files.not_ok - unfinished, "late": unfinished}
        produced = self._produced(batch, good, bad if dialect.splits_errors else None)
        self._commit(batch, {"outcome": ending.outcome, **counts}, files, produced)

    def _write(self, batch: Batch, dialect: Dialect, ending: Ending, files: ResultFiles) -> int:
        unfinished, at = 0, self._state.now()
        for number, raw in enumerate(read_lines(batch.input_path)):
            if self._stopping.is_set():
                raise Stopped
            if ending.reaches(number, raw):
                files.add(number, dialect.answer(self._state, batch, raw, seed=self._seed, at=at), at)
            else:
                files.add(number, dialect.unfinished(batch, raw, ending.outcome), at)
                unfinished += 1
        return unfinished

    def _produced(self, batch: Batch, good: Path, bad: Path | None) -> list[tuple[str, File]]:
        """Return the files to publish, by the batch's column that names them; an empty one is not published."""
        found = [("output_file", good)] + ([("error_file", bad)] if bad else [])
        return [(column, self._file(batch, path)) for column, path in found if path.stat().st_size]

    def _file(self, batch: Batch, path: Path) -> File:
        now = self._state.now()
        # Gemini's produced names are longer than the 40 characters that its own files.get accepts (python-genai #1759)
        name = f"file-{uuid4().hex[:24]}" if batch.provider == "openai" else f"batch-{uuid4().hex}{batch.id[-8:]}"
        return File(
            id=name,
            provider=batch.provider,
            account=batch.account,
            label=f"{path.stem}_{path.suffix[1:]}.jsonl",
            purpose="inline" if batch.inline else "batch_output",
            mime="application/jsonl",
            bytes=path.stat().st_size,
            sha256=_sha256(path),
            path=str(path),
            created_at=now,
            expires_at=now + (batch.output_kept or _OUTPUT_KEPT),
        )

    def _commit(
        self,
        batch: Batch,
        facts: dict[str, object],
        files: ResultFiles | None,
        produced: list[tuple[str, File]],
    ) -> None:
        """Write the end, its charges and its files in one transaction: all of it has happened, or nothing."""
        charges = files.charges if files else []
        totals = {"input": sum(c[6] for c in charges), "cached": sum(c[7] for c in charges)}
        totals["output"] = sum(c[8] for c in charges)
        others = [orjson.loads(c[12]) for c in charges]
        totals |= {name: sum(one.get(name, 0) for one in others) for name in ("written", "thoughts")}
        with self._state.transaction() as db:
            for column, file in produced:
                self._state.add_file(file)
                facts[column] = file.id
            db.executemany(CHARGE, charges)
            now = self._state.now()
            self._state.update_batch(batch.id, {**facts, "ended_at": now, "usage": orjson.dumps(totals).decode()})
        Path(batch.input_path).unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as body:
        while chunk := body.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

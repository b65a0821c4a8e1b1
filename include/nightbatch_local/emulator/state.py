"""Keep the emulator's memory: SQLite for facts, files for bodies."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from nightbatch_local.emulator.errors import Provider

Outcome = Literal["completed", "failed", "expired", "cancelled"]


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded or produced file; its body is at `path`. Times are seconds since 1970."""

    id: str
    provider: Provider
    account: str
    label: str
    purpose: str
    mime: str
    bytes: int
    sha256: str
    path: str
    created_at: float
    expires_at: float | None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Upload:
    """A resumable upload that has been started."""

    id: str
    account: str
    name: str
    label: str
    mime: str
    bytes: int
    path: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of any provider. Times are seconds since 1970; `schema.sql` says what each field means."""

    id: str
    provider: Provider
    account: str
    endpoint: str
    model: str | None
    label: str | None
    input_file: str | None
    input_path: str
    created_at: float
    due_at: float
    expires_at: float
    tokens: int
    output_kept: float | None = None
    checked_at: float | None = None
    total: int = 0
    expiring: int = 0
    cancelling_at: float | None = None
    ending: Outcome | None = None
    finished: float = 1.0
    outcome: Outcome | None = None
    ended_at: float | None = None
    succeeded: int = 0
    errored: int = 0
    late: int = 0
    errors: str | None = None
    usage: str | None = None
    output_file: str | None = None
    error_file: str | None = None
    deleted_at: float | None = None
    seq: int = 0

    @property
    def inline(self) -> bool:
        """Return True for a Gemini batch whose requests and results go without files."""
        return self.provider == "gemini" and self.input_file is None

    @property
    def ends_at(self) -> float:
        """Return when the batch ends: it is done, or its window is over."""
        return min(self.due_at, self.expires_at)

    def progress(self, now: float) -> float:
        """Return the share of the way from creation to the due time, 0..1."""
        whole = self.due_at - self.created_at
        return 1.0 if whole <= 0 else min(1.0, max(0.0, (now - self.created_at) / whole))


class State:
    """Opens or creates the state in `folder`. Every thread has a connection of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._local = threading.local()
        for name in ("files", "inputs", "results", "uploads"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.db.executescript(resources.files(__package__).joinpath("schema.sql").read_text())
        self._ahead = float(self.value("SELECT coalesce(max(ahead), 0) FROM clock"))

    @property
    def db(self) -> sqlite3.Connection:
        """Return this thread's connection; each statement commits by itself outside `transaction`."""
        if not hasattr(self._local, "db"):
            db = sqlite3.connect(self.folder / "state.sqlite", isolation_level=None, timeout=60)
            db.row_factory = sqlite3.Row
            # NORMAL is enough: a killed process loses nothing that is in the write-ahead log
            db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
            self._local.db = db
        return self._local.db  # type: ignore[no-any-return]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do all or nothing, one writer at a time."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def now(self) -> float:
        """Return the wall clock's time, and what a control call has advanced it by, in seconds since 1970."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the emulator's clock on, for good."""
        self._ahead += seconds
        self.db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (self._ahead,))

    def value(self, sql: str, params: Sequence[object] = ()) -> Any:
        """Return the first column of the first row, or None."""
        row = self.db.execute(sql, params).fetchone()
        return None if row is None else row[0]

    def new_path(self, kind: Literal["files", "inputs", "results", "uploads"]) -> Path:
        """Return a path in this state folder that nothing has used."""
        return self.folder / kind / uuid.uuid4().hex

    # -- files

    def file(self, provider: Provider, account: str, file_id: str) -> File | None:
        """Return a live file of this account; None if there is none."""
        where = "provider = ? AND account = ? AND id = ? AND (expires_at IS NULL OR expires_at > ?)"
        row = self.db.execute(f"SELECT * FROM file WHERE {where}", (provider, account, file_id, self.now())).fetchone()
        return None if row is None else File(**row)

    def files(self, provider: Provider, account: str) -> list[File]:
        """Return all live files of this account, newest first."""
        where = "provider = ? AND account = ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY seq DESC"
        rows = self.db.execute(f"SELECT * FROM file WHERE {where}", (provider, account, self.now()))
        return [File(**row) for row in rows]

    def add_file(self, file: File) -> None:
        """Make a file known. An expired file of the same name makes way; a live one raises `sqlite3.IntegrityError`."""
        gone = "provider = ? AND account = ? AND id = ? AND expires_at <= ?"
        self.db.execute(f"DELETE FROM file WHERE {gone}", (file.provider, file.account, file.id, self.now()))
        self._insert("file", file)

    def delete_file(self, file: File) -> None:
        """Forget the file. Batches that were made of it have their own link to the body."""
        self.db.execute("DELETE FROM file WHERE seq = ?", (file.seq,))
        Path(file.path).unlink(missing_ok=True)

    def link_input(self, file: File) -> Path:
        """Return a name for the file's body that outlives the file."""
        path = self.new_path("inputs")
        os.link(file.path, path)
        return path

    # -- uploads

    def add_upload(self, upload: Upload) -> None:
        """Remember an upload that was started."""
        Path(upload.path).touch()
        self._insert("upload", upload)

    def upload(self, upload_id: str) -> Upload | None:
        """Return an upload under way; None if there is none."""
        row = self.db.execute("SELECT * FROM upload WHERE id = ?", (upload_id,)).fetchone()
        return None if row is None else Upload(**row)

    def end_upload(self, upload: Upload) -> None:
        """Forget the upload; its body has become a file's."""
        self.db.execute("DELETE FROM upload WHERE id = ?", (upload.id,))

    # -- batches

    def add_batch(self, batch: Batch) -> None:
        """Make a batch known."""
        self._insert("batch", batch)

    def batch(self, provider: Provider, account: str, batch_id: str) -> Batch | None:
        """Return a batch of this account that has not been deleted; None if there is none."""
        where = "provider = ? AND account = ? AND id = ? AND deleted_at IS NULL"
        return self._one_batch(where, (provider, account, batch_id))

    def batches(self, provider: Provider, account: str) -> list[Batch]:
        """Return all batches of this account, newest first."""
        where = "provider = ? AND account = ? AND deleted_at IS NULL ORDER BY seq DESC"
        return self._batches(where, (provider, account))

    def batch_by_id(self, batch_id: str) -> Batch | None:
        """Return a batch of any account; None if there is none."""
        return self._one_batch("id = ?", (batch_id,))

    def open_batches(self) -> list[Batch]:
        """Return every batch that has not ended, the soonest due first."""
        return self._batches("outcome IS NULL ORDER BY due_at, seq")

    def update_batch(self, batch_id: str, changes: Mapping[str, object]) -> None:
        """Set columns of one batch that has not ended."""
        columns = ", ".join(f"{name} = ?" for name in changes)
        self.db.execute(f"UPDATE batch SET {columns} WHERE id = ? AND outcome IS NULL", (*changes.values(), batch_id))

    def delete_batch(self, batch: Batch) -> None:
        """Hide an ended batch."""
        self.db.execute("UPDATE batch SET deleted_at = ? WHERE id = ?", (self.now(), batch.id))

    def age(self, batch: Batch, seconds: float) -> None:
        """Move an ended batch into the past, with the files that it made, so that the providers' retention takes them."""
        times = ("created_at", "due_at", "expires_at", "checked_at", "cancelling_at", "ended_at")
        earlier = ", ".join(f"{name} = {name} - :seconds" for name in times)
        made = {"seconds": seconds, "id": batch.id, "output": batch.output_file, "error": batch.error_file}
        with self.transaction() as db:
            db.execute(f"UPDATE batch SET {earlier} WHERE id = :id", made)
            db.execute(
                "UPDATE file SET created_at = created_at - :seconds, expires_at = expires_at - :seconds"
                " WHERE id IN (:output, :error)",
                made,
            )

    def enqueued_tokens(self, provider: Provider, account: str, model: str | None) -> int:
        """Return how many tokens the open batches of this account and model hold."""
        sql = "SELECT coalesce(sum(tokens), 0) FROM batch WHERE provider = ? AND account = ? AND outcome IS NULL"
        if model is None:
            return int(self.value(sql, (provider, account)))
        return int(self.value(sql + " AND model = ?", (provider, account, model)))

    def token_limit(self, provider: Provider, account: str) -> int | None:
        """Return the account's enqueued-token limit, None for no limit."""
        sql = "SELECT tokens FROM token_limit WHERE provider = ? AND account = ?"
        return self.value(sql, (provider, account))  # type: ignore[no-any-return]

    def _one_batch(self, where: str, params: Sequence[object]) -> Batch | None:
        found = self._batches(where, params)
        return found[0] if found else None

    def _batches(self, where: str, params: Sequence[object] = ()) -> list[Batch]:
        return [Batch(**row) for row in self.db.execute(f"SELECT * FROM batch WHERE {where}", params)]

    def _insert(self, table: str, record: File | Upload | Batch) -> None:
        names = [field.name for field in fields(record) if field.name != "seq"]
        marks = ", ".join("?" * len(names))
        values = [getattr(record, name) for name in names]
        self.db.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", values)


def over_token_limit(state: State, provider: Provider, account: str, model: str | None, tokens: int) -> str | None:
    """Return what to tell a caller whose open batches would hold too many tokens with these, else None."""
    limit = state.token_limit(provider, account)
    if limit is None or state.enqueued_tokens(provider, account, model) + tokens <= limit:
        return None
    return f"Enqueued token limit reached for {model or 'this workspace'}. Limit: {limit} enqueued tokens."

"""The one way to the database: named queries, plain values in and out.

Every statement goes through `Store._run`, so a crash test can name each of them (`nightbatch.checkpoints`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, Literal, LiteralString, cast

import psycopg
from psycopg import Connection, Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.json import JsonbBinaryDumper, JsonBinaryDumper
from psycopg.types.string import ByteaBinaryLoader

from nightbatch.core.errors import NightbatchError, SubmissionInDoubt
from nightbatch.core.ledger import Alert, Batch, JobRow, Route, RunParams
from nightbatch.core.models import Endpoint, ProviderName
from nightbatch.core.pricing import PriceFactor, PriceOverride
from nightbatch.core.profiles import broken_profiles, profile, profiles
from nightbatch.postgres import session
from nightbatch.postgres.queries import queries

_MESSAGE_BYTES = 100_000
_ROWS = 100  # of a stream, in memory at once: inputs may be large
_BATCH_FIELDS = tuple(field.name for field in fields(Batch))


def _batch_row(cursor: Cursor[Any]) -> Callable[[Sequence[Any]], Batch]:
    columns = [column.name for column in cursor.description or ()]
    places = [columns.index(name) for name in _BATCH_FIELDS if name in columns]
    return lambda row: Batch(*(row[place] for place in places))


def _job_row(cursor: Cursor[Any]) -> Callable[[Sequence[Any]], JobRow]:
    return partial(tuple.__new__, JobRow)  # the quickest way to a named tuple


class _JsonDumper(JsonBinaryDumper):
    def dump(self, obj: bytes) -> bytes:
        return obj


class _JsonbDumper(JsonbBinaryDumper):
    def dump(self, obj: bytes) -> bytes:
        return b"\x01" + obj  # the version of the format


@contextmanager
def open_store(dsn: str) -> Iterator[Store]:
    """Open a store on one connection. Raises `ConfigurationError` when the server cannot be reached, or not be used."""
    with session.connect(dsn) as connection:
        yield Store(connection)


class RowsRefused(NightbatchError):
    """Postgres refused rows for what stands in them; its one-line message never holds a value of theirs."""


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except psycopg.DataError as error:
        # Not the server's own words: they quote the number that it could not take.
        raise RowsRefused(f"the database cannot keep it ({type(error).__name__})") from None
    except (
        psycopg.errors.ProgramLimitExceeded,
        psycopg.errors.StatementTooComplex,
        psycopg.errors.CheckViolation,
    ) as error:
        raise RowsRefused(f"the database cannot keep it ({type(error).__name__})") from None


class Store:
    """Reads and writes the ledger; one connection, one thread. Outside `transaction` every call commits by itself."""

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Open a transaction: all or nothing is written."""
        with session.transaction(self.connection):
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Open a read-only transaction that sees one moment only; inside another transaction it is that one."""
        if self.connection.info.transaction_status != TransactionStatus.IDLE:  # of the moment of the one around it
            yield
            return
        with session.transaction(self.connection):
            self._run("read_one_moment")
            yield

    def run(self, name: str, params: Mapping[str, Any] | None = None, *, file: str) -> Cursor[Any]:
        """Run a named query of one of the files beside the modules, for the other modules of this room."""
        cursor = self.connection.cursor(row_factory=tuple_row)
        return cursor.execute(queries(file)[name], params)

    @contextmanager
    def copy(self, name: str, types: Sequence[str], *, file: str) -> Iterator[Callable[[Sequence[Any]], None]]:
        """Open a named COPY FROM STDIN in the binary format: call what it gives with each row, whose columns have these types.

        JSON is given as bytes. The server takes a third less time for it than for text, which it has to search for line ends.
        """
        with self.connection.cursor() as cursor:
            cursor.adapters.register_dumper(None, _JsonDumper)
            cursor.adapters.register_dumper(None, _JsonbDumper)
            with cursor.copy(queries(file)[name]) as copy:
                copy.set_types(types)
                yield copy.write_row

    def _run(self, name: str, params: Mapping[str, Any] | None = None, *, file: str = "store") -> Cursor[Any]:
        return self.run(name, params, file=file)

    def batches_of(self, name: str, *, file: str, **params: Any) -> list[Batch]:
        """Return the attempts that a named query of one of the files finds, for the other modules of this room."""
        return self._batches(name, file=file, **params)

    def _batches(self, name: str, *, file: str = "store", **params: Any) -> list[Batch]:
        cursor = self.connection.cursor(row_factory=_batch_row)
        return cursor.execute(queries(file)[name], params).fetchall()

    def _one_batch(self, name: str, **params: Any) -> Batch | None:
        found = self._batches(name, **params)
        return found[0] if found else None

    def insert_job(self, job_type: str, provider: str, text: str) -> int:
        """Insert one job, as a producer's plain SQL would, and return its id. ``text`` is the input's JSON."""
        values = {"job_type": job_type, "provider": provider, "input": text}
        return int(self._run("insert_job", values, file="staging").fetchone()[0])  # type: ignore[index]

    # -- planning

    def start_run(self, run_id: str, queued_before: datetime | None, params: RunParams) -> bool:
        """Write down a run; return True for one that was not planned before. Waits for any other plan to end."""
        self._run("lock_planning")
        names = ("providers", "job_types", "job_ids", "max_jobs")
        shown = {name: getattr(params, name) for name in names}
        values = {"run_id": run_id, "queued_before": queued_before, "params": json.dumps(shown)}
        return self._run("start_run", values).fetchone() is not None

    def gather(
        self,
        routes: Sequence[Route],
        queued_before: datetime | None,
        params: RunParams,
        *,
        all_types_known: bool = True,
        urgent: bool = False,
    ) -> str:
        """Look at all unfinished jobs that no attempt holds, within a transaction; return where the next plan may begin.

        Without ``all_types_known`` jobs of unknown types are left alone instead of being dismissed, and so are those of unknown
        providers while a provider's package is broken. ``urgent``: only those that no batch can serve in time, which are left
        alone otherwise.
        """
        self._run("plan_in_memory")
        since, since_then, before, first, last = cast(
            "tuple[str, str, str, int, int]", self._run("shortcut").fetchone()
        )
        self._run("in_one_pass")
        self._run(
            "gather",
            {
                **_lane_columns(routes),
                "queued_before": queued_before,
                "providers": list(params.providers),
                "job_types": list(params.job_types),
                "job_ids": list(params.job_ids),
                "known_types": sorted({route.job_type for route in routes}),
                "all_types_known": all_types_known,
                "known_providers": list(profiles()),
                "all_providers_known": not broken_profiles(),
                "urgent": urgent,
                "since": since,
                "before": before,
                "first": first,
                "last": last,
            },
        )
        self._run("by_any_way")
        if params.max_jobs is not None:
            self._run("limit_candidates", {"max_jobs": params.max_jobs})
        self._run("analyze_candidates")
        return since_then

    def claim(
        self,
        run_id: str,
        routes: Sequence[Route],
        since_then: str | None,
        *,
        mode: Literal["batch", "realtime"] = "batch",
    ) -> list[Batch]:
        """Turn what was gathered into planned attempts; jobs that can never be sent are dismissed.

        With ``since_then``, as `gather` gave it, the next plan looks at new jobs from there on only.
        """
        columns = _lane_columns(routes)
        self._run("dismiss_candidates", {"run_id": run_id})
        self._run("make_kinds", columns)
        self._run("place", columns)
        self._run("insert_batches", {"run_id": run_id, "mode": mode})
        self._run("make_cuts", {"run_id": run_id})
        self._run("insert_members")
        claimed = self._run("claim_new").rowcount + self._run("claim_known").rowcount
        batches = self.run_batches(run_id)
        if claimed != sum(batch.job_count for batch in batches):
            raise AssertionError("a job was claimed by another plan despite the planning lock")
        if since_then is not None:
            self._run("keep_waiting")
            self._run("move_shortcut", {"since_then": since_then})
        return batches

    # -- attempts

    def batch(self, batch_id: int) -> Batch:
        """Return the attempt as it stands. Raises LookupError for an id that the ledger does not have."""
        found = self._one_batch("batch", batch_id=batch_id)
        if found is None:
            raise LookupError(f"There is no batch {batch_id} in the ledger.")
        return found

    def batches(self, ids: Iterable[int]) -> list[Batch]:
        """Return those of these attempts that the ledger has, in no order."""
        return self._batches("batches", ids=list(ids))

    def run_batches(self, run_id: str) -> list[Batch]:
        """Return the attempts that a run planned, without their successors."""
        return self._batches("run_batches", run_id=run_id)

    def open_attempts(self) -> list[Batch]:
        """Return every batch that is neither loaded nor given up, oldest first; no realtime attempts."""
        return self._batches("open_attempts")

    def open_realtime(self) -> list[Batch]:
        """Return the realtime attempts that have not ended, oldest first."""
        return self._batches("open_realtime")

    def send_elsewhere(self, batch_id: int, provider: ProviderName, model: str, endpoint: Endpoint) -> Batch:
        """Insert a new realtime attempt, at another provider, with the job of a closed one."""
        values: dict[str, Any] = {"batch_id": batch_id, "provider": provider, "model": model, "endpoint": endpoint}
        made = self._batches("send_elsewhere", **values)[0]
        self._run("move_members", {"batch_id": batch_id, "successor": made.id})
        return made

    def open_attempts_of(self, run_id: str) -> list[Batch]:
        """Return what a run has left open, successors included."""
        return self._batches("open_attempts_of", run_id=run_id)

    def now(self) -> datetime:
        """Return the time by the database's clock."""
        return cast("datetime", self._run("now").fetchone()[0])  # type: ignore[index]

    def never_sent(self, run_id: str) -> list[Batch]:
        """Return the attempts of a run that were not sent, and that no process is about to send."""
        return self._batches("never_sent", run_id=run_id)

    def successor(self, batch_id: int) -> Batch | None:
        """Return the attempt that replaced this one, None without one."""
        return self._one_batch("successor", batch_id=batch_id)

    def known_provider_ids(self, provider: ProviderName, ids: Sequence[str]) -> set[str]:
        """Return those of these provider batch ids that are in the ledger."""
        rows = self._run("known_provider_ids", {"provider": provider, "ids": list(ids)})
        return {row[0] for row in rows}

    def another_in_doubt(self, batch_id: int) -> bool:
        """Return whether another attempt of the same account is in doubt or held."""
        return bool(self._run("another_in_doubt", {"batch_id": batch_id}).fetchone()[0])  # type: ignore[index]

    def batch_inputs(self, batch_id: int, job_types: Sequence[str] | None = None) -> Iterator[JobRow]:
        """Yield the members' inputs by job id, of these types or of all, streamed: ask this connection nothing else meanwhile.

        The server reads ahead while the rows before are worked on. JSON comes as the bytes that the server keeps.
        """
        values = {"batch_id": batch_id, "job_types": None if job_types is None else list(job_types)}
        cursor = self.connection.cursor(row_factory=_job_row)
        cursor.adapters.register_loader("json", ByteaBinaryLoader)
        return cursor.stream(queries("store")["batch_inputs"], values, binary=True, size=_ROWS)

    def record_prompts(self, batch_id: int, versions: Mapping[str, str]) -> None:
        """Write down which version of its prompt each job type of an attempt is asked with."""
        values = {"batch_id": batch_id, "job_types": list(versions), "prompt_versions": list(versions.values())}
        self._run("record_prompts", values)

    def members(self, batch_id: int) -> dict[int, str]:
        """Return the job ids of an attempt with their job types."""
        return {job: kind for kind, jobs in self._run("members", {"batch_id": batch_id}) for job in jobs}

    def reject_members(self, batch: Batch, reasons: Mapping[int, str]) -> None:
        """Take jobs that can never be sent out of an unsent attempt, for good."""
        values = {
            "batch_id": batch.id,
            "run_id": batch.run_id,
            "job_ids": list(reasons),
            "reasons": list(reasons.values()),
        }
        self._run("reject_members", values)

    def postpone_members(self, batch_id: int, job_ids: Sequence[int]) -> None:
        """Leave jobs that did not fit into an unsent attempt to the next run."""
        self._run("postpone_members", {"batch_id": batch_id, "job_ids": list(job_ids)})

    def count_members(self, batch_id: int) -> int:
        """Count the members of an unsent attempt again; 0 when none is left."""
        row = self._run("count_members", {"batch_id": batch_id}).fetchone()
        return int(row[0]) if row else 0

    def bind_account(self, batch_id: int, account: str) -> bool:
        """Bind an attempt to an account. Return False when it belongs to another one."""
        return self._run("bind_account", {"batch_id": batch_id, "account": account}).fetchone() is not None

    def record_hash(self, batch: Batch, sha256: str, hashes: bytes) -> bool:
        """Fix what an attempt's requests are. Return False when an earlier rendering of it had other bytes.

        ``hashes`` are those of the single requests, in the order of their jobs, one after the other.
        """
        values = {"batch_id": batch.id, "sha256": sha256, "hashes": hashes, "nonce": batch.fresh_nonce}
        return self._run("record_hash", values).fetchone() is not None

    def record_upload(self, batch: Batch, input_file: str | None) -> Batch | None:
        """Write down where the input lies. Return None when another process moved the attempt on."""
        return self._one_batch(
            "record_upload", batch_id=batch.id, state=batch.state, epoch=batch.epoch, input_file=input_file
        )

    def record_intent(self, batch: Batch) -> Batch | None:
        """From here on a create may have been sent. None when another process moved the attempt on.

        Raises `SubmissionInDoubt` while another create is under way on the same account of a provider that carries no tags.
        """
        try:
            tagged = profile(batch.provider).tagged
            return self._one_batch("record_intent", batch_id=batch.id, epoch=batch.epoch, tagged=tagged)
        except psycopg.errors.UniqueViolation:
            raise SubmissionInDoubt(
                f"Batch {batch.id} waits: another create on this {profile(batch.provider).title} account is under way.",
                look_again_in=30,
            ) from None

    def record_submission(
        self, batch_id: int, provider_batch_id: str, created_at: datetime | None = None
    ) -> Batch | None:
        """Write down the provider's id, and when it created the batch (None: now), as far as that is after the intent.

        Return None when the attempt is closed or has an id already. Raises LookupError when another attempt has this id.
        """
        try:
            return self._one_batch(
                "record_submission", batch_id=batch_id, provider_batch_id=provider_batch_id, created_at=created_at
            )
        except psycopg.errors.UniqueViolation:
            raise LookupError(f"{provider_batch_id} belongs to another attempt.") from None

    def take_over(self, batch: Batch) -> Batch | None:
        """Move the epoch on. Return None when somebody else did."""
        return self._one_batch("take_over", batch_id=batch.id, state=batch.state, epoch=batch.epoch)

    def record_throttled(self, batch: Batch, error: str) -> Batch | None:
        """Note that the provider did nothing, so that it may be asked later. None when another process moved the attempt on."""
        return self._one_batch("record_throttled", batch_id=batch.id, epoch=batch.epoch, error=error)

    def record_doubt(self, batch: Batch, error: str) -> None:
        """Note why it is not known what became of a create."""
        self._run("record_doubt", {"batch_id": batch.id, "epoch": batch.epoch, "error": error})

    def record_fence(self, batch: Batch) -> Batch | None:
        """Note that the input is deleted; the first time counts. Return None when another process moved the attempt on."""
        return self._one_batch("record_fence", batch_id=batch.id, epoch=batch.epoch)

    def record_held(self, batch: Batch, error: str) -> None:
        """Hold an attempt: only a later look or a person decides."""
        self._run("record_held", {"batch_id": batch.id, "epoch": batch.epoch, "error": error})

    def seconds_since(self, event: LiteralString, batch_id: int) -> float:
        """Return the seconds since the ``fence`` or the ``intent``, by the database's clock; 0 without one."""
        row = self._run(f"seconds_since_{event}", {"batch_id": batch_id}).fetchone()
        return float(row[0]) if row and row[0] is not None else 0.0

    def close_attempt(self, batch: Batch, state: Literal["refused", "abandoned"], error: str) -> bool:
        """Close an attempt that the provider never accepted. Return False when it is not as ``batch`` says any more."""
        values = {
            "batch_id": batch.id, "state": batch.state, "epoch": batch.epoch, "closed_as": state, "error": error,
        }  # fmt: skip
        return self._run("close_attempt", values).fetchone() is not None

    def close_failed(self, batch_id: int, status: str, error: str) -> None:
        """Close an attempt that the provider accepted and then refused to run."""
        self._run("close_failed", {"batch_id": batch_id, "status": status, "error": error})

    def insert_successor(self, batch_id: int) -> Batch:
        """Insert a new attempt with the members of a closed one."""
        made = self._batches("insert_successor", batch_id=batch_id)[0]
        self._run("move_members", {"batch_id": batch_id, "successor": made.id})
        return made

    def free_members(self, batch_id: int, job_ids: Sequence[int] | None = None, *, counts_as_attempt: bool) -> None:
        """Put all, or the given, members of a closed attempt back into the queue; nothing was paid."""
        jobs = None if job_ids is None else list(job_ids)
        uncounted = 0 if counts_as_attempt else 1
        self._run("free_members", {"batch_id": batch_id, "job_ids": jobs, "uncounted": uncounted})

    def dismiss_members(
        self,
        batch_id: int,
        reason: str,
        job_ids: Sequence[int] | None = None,
        *,
        state: Literal["rejected", "cancelled"] = "rejected",
    ) -> None:
        """End all, or the given, members with a reason; none of them has a result."""
        jobs = None if job_ids is None else list(job_ids)
        self._run("dismiss_members", {"batch_id": batch_id, "reason": reason, "job_ids": jobs, "state": state})

    def insert_duplicate(self, batch_id: int, provider_batch_id: str, created_at: datetime | None) -> None:
        """Insert a provider batch besides the one that an attempt uses; nothing happens when the ledger knows it already."""
        values = {"batch_id": batch_id, "provider_batch_id": provider_batch_id, "created_at": created_at}
        self._run("insert_duplicate", values)

    # -- decisions

    def record_decision(
        self, batch_id: int, choice: str, by: str, reason: str, provider_batch_id: str | None = None
    ) -> None:
        """Write down who decided what about an attempt, and why."""
        values = {
            "batch_id": batch_id, "choice": choice, "by": by, "reason": reason, "provider_batch_id": provider_batch_id,
        }  # fmt: skip
        self._run("record_decision", values)

    def want_cancel(self, batch_id: int) -> bool:
        """Note that an attempt is to be cancelled. Return False when it is not with its provider."""
        return self._run("want_cancel", {"batch_id": batch_id}).fetchone() is not None

    def released_attempts(self) -> list[Batch]:
        """Return the attempts that were given up by a decision in the last three days."""
        return self._batches("released_attempts")

    # -- loading

    def lock_batch(self, batch_id: int) -> Batch:
        """Return the attempt, locked until the transaction ends."""
        return self._batches("lock_batch", batch_id=batch_id)[0]

    @contextmanager
    def copy_results(self) -> Iterator[Callable[[Sequence[Any]], None]]:
        """Open a COPY into ``result``: call what it gives with each row; see the query for the columns.

        The rows are put together here, many to a message: psycopg's own `write_row` takes twice as long.
        """
        with _refusals(), self.connection.cursor() as cursor, cursor.copy(queries("load")["copy_results"]) as copy:
            waiting = bytearray()

            def write(row: Sequence[Any]) -> None:
                waiting.extend(_result_line(*row))
                if len(waiting) > _MESSAGE_BYTES:
                    copy.write(bytes(waiting))
                    waiting.clear()

            yield write
            copy.write(bytes(waiting))

    def vector_brackets(self) -> tuple[bytes, bytes]:
        """Return the brackets of a vector in this database: pgvector's, or an array's."""
        row = self._run("embedding_is_vector", file="load").fetchone()
        return (b"[", b"]") if row and row[0] else (b"{", b"}")

    def copy_embeddings(self, batch_id: int, rows: Iterable[bytes], *, instead: bool = True) -> None:
        """Copy prepared lines into ``embedding``, in place of the vectors of other attempts (``instead``)."""
        if instead:
            self.forget_embeddings(batch_id)
        self._copy_vectors(rows)

    def copy_answers(self, rows: Iterable[bytes]) -> None:
        """Copy prepared lines into ``answer``."""
        with _refusals(), self.connection.cursor() as cursor, cursor.copy(queries("load")["copy_answers"]) as copy:
            for row in rows:
                copy.write(row)

    # -- loading once more

    def want_load(self, batch_id: int) -> bool:
        """Note that a person wants a batch read once more. Return False when it is none whose results were loaded."""
        return self._run("want_load", {"batch_id": batch_id}, file="load").fetchone() is not None

    def wanted_loads(self) -> list[int]:
        """Return the loaded batches that a person wants read once more."""
        return [row[0] for row in self._run("wanted_loads", file="load")]

    def load_done(self, batch_id: int) -> None:
        """Forget that a person wanted a batch read once more."""
        self._run("load_done", {"batch_id": batch_id}, file="load")

    def forget_missing(self, batch_id: int) -> list[tuple[int, datetime, bool]]:
        """Delete the results that say that a line is missing; return job, moment, and whether a later attempt has answered."""
        return self._run("forget_missing", {"batch_id": batch_id}, file="load").fetchall()

    def keep_moments(self, batch_id: int, moments: Mapping[int, datetime]) -> None:
        """Give results that were filled in the moments of those whose place they take."""
        values = {"batch_id": batch_id, "job_ids": list(moments), "moments": list(moments.values())}
        self._run("keep_moments", values, file="load")

    def billed_results(self, batch_id: int) -> int:
        """Count the results of an attempt that were read and paid for."""
        return int(self._run("billed_results", {"batch_id": batch_id}, file="load").fetchone()[0])  # type: ignore[index]

    def insert_new_rejects(self, batch_id: int, lines: Sequence[tuple[str, bytes]]) -> None:
        """Keep raw lines that are not kept already."""
        values = {"batch_id": batch_id, "reasons": [reason for reason, _ in lines], "raws": [raw for _, raw in lines]}
        self._run("insert_new_rejects", values, file="load")

    def sum_again(self, batch_id: int, price_source: str | None) -> None:
        """Make the sums of a loaded attempt anew, with this source of prices if it has none."""
        self._run("price_again", {"batch_id": batch_id, "price_source": price_source}, file="load")
        self._run("forget_rolled_up", {"batch_id": batch_id}, file="load")
        self._run("roll_up", {"batch_id": batch_id}, file="load")

    def forget_embeddings(self, batch_id: int) -> None:
        """Delete the vectors that earlier attempts of the same jobs left."""
        self._run("forget_embeddings", {"batch_id": batch_id}, file="load")

    def _copy_vectors(self, rows: Iterable[bytes]) -> None:
        with _refusals(), self.connection.cursor() as cursor, cursor.copy(queries("load")["copy_embeddings"]) as copy:
            for row in rows:
                copy.write(row)

    def why_refused(self, row: Sequence[Any], vectors: Sequence[bytes]) -> str | None:
        """Return why ``result`` and ``embedding`` would not take these rows, of one job; None if they would.

        Nothing is written. Within a transaction, after `forget_embeddings`.
        """
        try:
            with self.connection.transaction(force_rollback=True):
                with self.copy_results() as write:
                    write(row)
                self._copy_vectors(vectors)
        except RowsRefused as refused:
            return str(refused)
        return None

    def insert_rejects(self, batch_id: int, lines: Sequence[tuple[str, bytes]]) -> None:
        """Keep raw lines that could not be matched or read."""
        values = {"batch_id": batch_id, "reasons": [reason for reason, _ in lines], "raws": [raw for _, raw in lines]}
        self._run("insert_rejects", values, file="load")

    def insert_missing(self, batch_id: int, job_ids: Sequence[int], *, billed: bool, error: str) -> None:
        """Insert a result for each of the members without a line."""
        values = {"batch_id": batch_id, "job_ids": list(job_ids), "billed": billed, "error": error}
        self._run("insert_missing", values, file="load")

    def close_loaded(
        self,
        batch_id: int,
        again: Mapping[int, int | None],
        *,
        status: str,
        ended_at: datetime | None,
        price_source: str | None,
        error: str | None,
    ) -> None:
        """Close an attempt with the results that were written, and roll its figures up.

        The jobs ``again`` go back into the queue, as far as they have had fewer attempts than this says; the others end. None:
        a job goes again whatever it had, and this attempt does not count.
        """
        values = {
            "batch_id": batch_id, "status": status, "ended_at": ended_at, "price_source": price_source, "error": error,
        }  # fmt: skip
        self._run("close_loaded", values, file="load")
        values = {"batch_id": batch_id, "job_ids": list(again), "allowed": list(again.values())}
        self._run("requeue", values, file="load")
        self._run("close_jobs", {"batch_id": batch_id}, file="load")
        self._run("roll_up", {"batch_id": batch_id}, file="load")

    def date_submission(self, batch_id: int, created_at: datetime | None) -> Batch:
        """Date a batch that its provider has by its creation there; return it as it stands then."""
        return self._batches("date_submission", file="load", batch_id=batch_id, created_at=created_at)[0]

    def disown(self, batch: Batch, owner: int | None, error: str) -> None:
        """Take a wrongly adopted provider batch away from an attempt, which is held until its own is found.

        ``owner`` is the attempt that the batch's lines name; it gets the batch if it is still looking for it.
        """
        assert batch.provider_batch_id is not None
        with self.transaction():
            if self._run("disown", {"batch_id": batch.id, "error": error}, file="load").fetchone() is None:
                return
            if owner is not None:
                self.record_submission(owner, batch.provider_batch_id)
            self._run("hold_disowned", {"batch_id": batch.id}, file="load")

    def loaded_figures(self, batch_id: int) -> tuple[int, int, int, int, int]:
        """Return ``(jobs, succeeded, failed, requeued, quarantined)`` of a loaded attempt."""
        return cast(
            "tuple[int, int, int, int, int]",
            self._run("loaded_figures", {"batch_id": batch_id}, file="load").fetchone(),
        )

    def price_overrides(self) -> list[PriceOverride]:
        """Return all price overrides, the newest last."""
        return [
            replace(PriceOverride(*row[:-2]), other_usd=_prices(row[-2]), batch_other_usd=_prices(row[-1]))
            for row in self._run("price_overrides", file="load")
        ]

    def price_factors(self) -> list[PriceFactor]:
        """Return all price factors, the newest last."""
        return [PriceFactor(*row) for row in self._run("price_factors", file="load")]

    # -- alerts

    def raise_alert(self, kind: str, subject: str, message: str) -> bool:
        """Raise an alert. Return True the first time; an open alert only gets the newer message."""
        row = self._run("raise_alert", {"kind": kind, "subject": subject, "message": message}, file="alerts").fetchone()
        return bool(row and row[0])

    def resolve_alert(self, kind: str, subject: str) -> None:
        """Mark the alert as resolved."""
        self._run("resolve_alert", {"kind": kind, "subject": subject}, file="alerts")

    def has_open_alert(self, kind: str, subject: str) -> bool:
        """Return whether an alert was raised and not resolved since."""
        row = self._run("has_open_alert", {"kind": kind, "subject": subject}, file="alerts").fetchone()
        return bool(row and row[0])

    def resolve_settled_alerts(self) -> None:
        """Resolve what was told of attempts that have moved on since."""
        self._run("resolve_settled_alerts", file="alerts")

    def open_alerts(self) -> list[Alert]:
        """Return the open alerts, newest first."""
        return [Alert(*row) for row in self._run("open_alerts", file="alerts")]


def _prices(text: str | None) -> dict[str, Decimal] | None:
    """Return prices with all their digits."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal) if text else None


def _result_line(
    job_id: int, batch_id: int, outcome: str, billed: bool, output: bytes | None, finish_reason: str | None,
    input_tokens: int | None, cached_tokens: int | None, output_tokens: int | None,
    realtime_cost_usd: Decimal | None, batch_cost_usd: Decimal | None, price_source: str | None, units: bytes | None,
    error: str | None,
) -> bytes:  # fmt: skip
    """Return a row in COPY's text format.

    https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2
    """
    tokens = f"{_number(input_tokens)}\t{_number(cached_tokens)}\t{_number(output_tokens)}"
    costs = f"{_number(realtime_cost_usd)}\t{_number(batch_cost_usd)}"
    rest = f"\t{_text(finish_reason)}\t{tokens}\t{costs}\t{_text(price_source)}\t{_json(units)}\t{_text(error)}\n"
    return b"%b%b%b" % (
        f"{job_id}\t{batch_id}\t{outcome}\t{billed}\t".encode(),
        rb"\N" if output is None else _escaped(output),
        rest.encode(),
    )


def _json(value: bytes | None) -> str:
    return r"\N" if value is None else value.decode()


def _number(value: int | Decimal | None) -> str:
    return r"\N" if value is None else str(value)


@lru_cache(maxsize=1024)
def _text(value: str | None) -> str:
    return r"\N" if value is None else _escaped(value.encode()).decode()


def _escaped(text: bytes) -> bytes:
    return text.replace(b"\\", rb"\\").replace(b"\n", rb"\n").replace(b"\t", rb"\t").replace(b"\r", rb"\r")


def _lane_columns(routes: Sequence[Route]) -> dict[str, list[Any]]:
    return {
        "lane_numbers": list(range(len(routes))),
        "lane_types": [route.job_type for route in routes],
        "lane_providers": [route.provider for route in routes],
        "lane_models": [route.default_model for route in routes],
        "lane_endpoints": [route.endpoint for route in routes],
        "lane_overheads": [route.overhead for route in routes],
        "lane_capacities": [route.capacity for route in routes],
        "lane_requests": [route.max_requests for route in routes],
        "lane_request_bytes": [route.max_request_bytes for route in routes],
        "lane_fallbacks": [route.fallback for route in routes],
        "lane_turnarounds": [route.turnaround for route in routes],
        "lane_ready": [route.ready for route in routes],
        "lane_models_in": [route.model_in for route in routes],
        "lane_dialects": [route.dialect for route in routes],
        "lane_prefixes": [route.model_prefix for route in routes],
    }

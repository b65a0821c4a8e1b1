"""Where the schedules are played: forks die on it, and a judge reads the bill. `python -m tests.crash.stage` serves it.

A process of its own, without threads, that has imported everything: a life then costs milliseconds instead of seconds.
Reads one JSON object a line (`Schedule`), answers with one (`Verdict`).
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from typing import Any

import httpx
import psycopg

from nightbatch.batches import decisions, in_doubt
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.postgres.store import open_store
from nightbatch.providers import build
from tests.crash import life, surroundings
from tests.crash.life import DIED, Place, lead
from tests.crash.mutations import MUTATIONS

JOBS = 3
AT_ONCE = 0.05
"""Seconds of the settle wait where nothing lags: a list that lags needs one that is longer."""
PATHS = {"openai": "/openai/v1", "anthropic": "/anthropic", "gemini": "/gemini"}
_LIVES = 8
_UNFIT = 43


@dataclass(frozen=True, slots=True)
class Schedule:
    """What happens to a night: at which checkpoint each of its first lives ends, and what the provider does wrong.

    After those, ``together`` lives are led at the same time, as by a task and its zombie. With a ``mutation`` of
    `tests.crash.mutations`, every life is led without that part of the protocol. ``surrounding`` is one of
    `tests.crash.surroundings`.
    """

    provider: ProviderName
    die_at: tuple[int, ...] = ()
    fault: dict[str, Any] | None = None
    together: int = 1
    settle_seconds: float = AT_ONCE
    mutation: str | None = None
    surrounding: str = surroundings.PLAIN


@dataclass(slots=True)
class Verdict:
    """``wrong`` is empty when the promise was kept. ``checkpoints`` are those of the life after the last death.

    ``requests`` are that life's own count, and the provider's of all lives.
    """

    schedule: dict[str, Any]
    outcome: str = ""
    wrong: list[str] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    state: str = ""
    lives: int = 0
    requests: tuple[int, int] = (0, 0)


class Stage:
    """A server, a migrated template database on it, and an emulator."""

    def __init__(self, server_dsn: str, template: str, emulator_url: str, pooled_dsn: str) -> None:
        self._server_dsn, self._template, self._emulator_url = server_dsn, template, emulator_url
        self._pooled_dsn = pooled_dsn
        self._http = httpx.Client(base_url=emulator_url, trust_env=False, timeout=60)

    def warm_up(self) -> None:
        """A life at each provider in this very process: what it imports, its forks need not import."""
        # Nothing here speaks TLS, and each client would read the certificates of the whole world.
        ssl.SSLContext.load_verify_locations = lambda *_, **__: None  # type: ignore[method-assign]
        for provider in BUILT_IN:
            with self._place(provider) as place:
                lead(place)
        life.watch_requests()

    def play(self, schedule: Schedule) -> Verdict:
        """One schedule in a database and an account of its own."""
        with ExitStack() as kept:
            place = kept.enter_context(self._place(schedule.provider, unguarded=schedule.mutation is not None))
            match schedule.surrounding:
                case "pgbouncer":
                    base = self._pooled_dsn.rpartition("/")[0]
                    place = replace(place, dsn=f"{base}/{place.dsn.rpartition('/')[2]}")
                case "hostile settings":
                    with self._admin() as admin:
                        surroundings.make_hostile(admin, place.dsn.rpartition("/")[2])
                case "second installation":
                    neighbour = kept.enter_context(self._place(schedule.provider, headline="Theirs"))
                    neighbour = replace(neighbour, account=place.account)
                    surroundings.make_installation(neighbour.dsn)
                    surroundings.make_installation(place.dsn)
                    return self._play_beside(schedule, place, neighbour)
                case "restored":
                    admin = kept.enter_context(self._admin())
                    return self._play_restored(
                        schedule, place, kept.enter_context(surroundings.backup(admin, place.dsn))
                    )
            return self._play(schedule, place)

    def _admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._server_dsn, autocommit=True)

    def _play_beside(self, schedule: Schedule, place: Place, neighbour: Place) -> Verdict:
        """Another installation does its night meanwhile."""
        theirs = _start(neighbour, None, None)
        verdict = self._play(schedule, place)
        led = _end(*theirs)
        beside = Verdict(asdict(schedule))
        if led.error:
            self._to_rest(neighbour, beside)
        if _release_held(neighbour):
            self._to_rest(replace(neighbour, nights="released"), beside)
        self._judge(neighbour, beside)
        verdict.wrong += [f"the neighbour: {sentence}" for sentence in beside.wrong]
        return verdict

    def _play_restored(self, schedule: Schedule, place: Place, backup: str) -> Verdict:
        """The first life knows what the ledger of the others does not."""
        verdict = Verdict(asdict(schedule))
        life.settle_for(schedule.settle_seconds)
        verdict.lives += 1
        _live(place, schedule.die_at[0] if schedule.die_at else None, None)
        restored = replace(place, dsn=backup, nights="restored")
        surroundings.come_home(restored)
        self._to_rest(restored, verdict)
        self._judge(restored, verdict, lost_with_the_disk=True)
        return verdict

    @contextmanager
    def _place(self, provider: ProviderName, *, unguarded: bool = False, headline: str = "Creative") -> Iterator[Place]:
        """A database and an account of its own; ``unguarded``: without the triggers, which would hold what the code lacks."""
        name, account = f"crash_{uuid.uuid4().hex[:12]}", uuid.uuid4().hex[:12]
        with psycopg.connect(self._server_dsn, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY FILE_COPY")
            if unguarded:
                admin.execute(f"ALTER DATABASE {name} SET session_replication_role = replica")
        dsn = f"{self._server_dsn.rpartition('/')[0]}/{name}"
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                for number in range(JOBS):
                    connection.execute(
                        "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('creative_scoring', %s, %s)",
                        (provider, json.dumps({"headline": f"{headline} {number}"})),
                    )
            yield Place(dsn, self._emulator_url + PATHS[provider], provider, account)
        finally:
            with psycopg.connect(self._server_dsn, autocommit=True) as admin:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _play(self, schedule: Schedule, place: Place) -> Verdict:
        if schedule.fault:
            rule = {"provider": place.provider, "account": place.account, **schedule.fault}
            self._http.post("/control/faults", json=rule).raise_for_status()
        life.settle_for(schedule.settle_seconds)
        verdict = Verdict(asdict(schedule))
        for die_at in schedule.die_at:
            verdict.lives += 1
            led = _live(place, die_at, schedule.mutation)
            if not led.died and led.error:
                verdict.wrong.append(f"the life that was to die at {die_at} ended with {led.error}")
        if schedule.die_at:
            verdict.state = self._fingerprint(place)
        if schedule.together > 1:
            for child in [_start(place, None, schedule.mutation) for _ in range(schedule.together)]:
                _end(*child)
        self._to_rest(place, verdict)
        if schedule.fault and schedule.fault["fault"] == "deliver_late":
            late = self._http.post("/control/late", json={"account": place.account})
            late.raise_for_status()  # what was held up in the network has arrived
            self._to_rest(place, verdict)
        if _release_held(place):
            verdict.outcome = "held, then sent once"
            self._to_rest(replace(place, nights="released"), verdict)
        self._judge(place, verdict)
        return verdict

    def _to_rest(self, place: Place, verdict: Verdict) -> None:
        """Live until a life ends well; the checkpoints are those of the first."""
        error = ""
        for number in range(_LIVES):
            verdict.lives += 1
            led = _live(place, None, verdict.schedule["mutation"])
            if number == 0 and not verdict.checkpoints:
                verdict.checkpoints, verdict.requests = led.checkpoints, (led.requests, len(self._log(place)))
            if not led.error:
                return
            error = led.error
        verdict.wrong.append(f"not at rest after {_LIVES} lives: {error}")

    def _log(self, place: Place) -> list[dict[str, Any]]:
        """The requests of this account, as the provider saw them."""
        log: list[dict[str, Any]] = self._http.get("/control/log", params={"account": place.account}).json()
        return log

    def _creates(self, place: Place) -> int:
        return sum(entry["operation"] == "batch_create" for entry in self._log(place))

    def _look_at(self, place: Place) -> psycopg.Connection[Any]:
        """The stage's own connection to a life's database, which no setting of the surrounding and no pooler is meant for."""
        dsn = f"{self._server_dsn.rpartition('/')[0]}/{place.dsn.rpartition('/')[2]}"
        return psycopg.connect(dsn, autocommit=True, options=surroundings.CALM)

    def _fingerprint(self, place: Place) -> str:
        """What a death left behind, ids and times aside: two deaths with the same remains need no separate second death."""
        with self._look_at(place) as connection:
            found = connection.execute(
                "SELECT (SELECT count(*) FROM nightbatch.run), (SELECT count(*) FROM nightbatch.open_job),"
                " (SELECT count(*) FROM nightbatch.result), (SELECT count(*) FROM nightbatch_report.batch_rollup),"
                " (SELECT coalesce(string_agg(concat_ws(',', state, epoch, account_fingerprint IS NULL, payload_sha256 IS NULL,"
                " input_file IS NULL, provider_batch_id IS NULL, fenced_at IS NULL), ';' ORDER BY id), '')"
                " FROM nightbatch.batch)"
            ).fetchone()
        return f"{self._creates(place)} {found}"

    def _judge(self, place: Place, verdict: Verdict, *, lost_with_the_disk: bool = False) -> None:
        """``lost_with_the_disk``: a job whose answer the lost ledger had loaded may end as cancelled, and is not paid again."""
        bill = self._http.get("/control/billing", params={"account": place.account}).json()
        with self._look_at(place) as connection:

            def rows(query: str) -> list[Any]:
                return connection.execute(query).fetchall()

            states = Counter(state for (state,) in rows("SELECT state FROM nightbatch.job_status"))
            kept = {
                name
                for (name,) in rows(
                    "SELECT 'j' || r.job_id || '_a' || coalesce(b.sent_as, r.batch_id) || coalesce('_' || b.nonce, '')"
                    " FROM nightbatch.result AS r"
                    " JOIN nightbatch.batch AS b ON b.id = r.batch_id WHERE billed"
                )
            }
            ((booked,),) = rows("SELECT coalesce(sum(batch_cost_usd), 0) FROM nightbatch_report.savings_daily")
            attempts = [state for (state,) in rows("SELECT state FROM nightbatch.batch ORDER BY id")]
            ((installation,),) = rows("SELECT id FROM nightbatch.installation")
            cancelled = {
                f"j{job}" for (job,) in rows("SELECT job_id FROM nightbatch.job_status WHERE state = 'cancelled'")
            }
        if verdict.schedule["surrounding"] == "second installation":  # elsewhere all of the bill is ours to account for
            bill = [line for line in bill if f"_{installation}" in line["custom_id"]]
        if lost_with_the_disk:
            states["succeeded"] += states.pop("cancelled", 0)
            gone = [line for line in bill if line["custom_id"].partition("_")[0] in cancelled]
            bill = [line for line in bill if line not in gone]
            if len(gone) != len(cancelled):
                verdict.wrong.append(f"{len(cancelled)} jobs are cancelled, and {len(gone)} of them were paid")
        times = Counter(line["custom_id"].partition("_")[0] for line in bill)
        charged = sum((Decimal(line["cost_usd"]) for line in bill), Decimal(0))
        verdict.wrong += [f"{job} was paid {count} times" for job, count in times.items() if count > 1]
        verdict.wrong += [f"{line['custom_id']} was paid and lost" for line in bill if line["custom_id"] not in kept]
        if charged != booked:
            verdict.wrong.append(f"the bill says {charged}, the report {booked}")
        if sum(states.values()) != JOBS or set(states) - {"succeeded"}:
            verdict.wrong.append(f"jobs at rest are {dict(states)}")
        given_up = "abandoned" in attempts
        verdict.outcome = verdict.outcome or ("given up, then sent once" if given_up else "sent once")


def _release_held(place: Place) -> bool:
    """What a person does: look into the provider's list, and release what is not there. Whether anything was held."""
    released = False
    with open_store(place.dsn) as store:
        for batch in store.open_attempts():
            if batch.state == "held":
                provider = build(place.provider, api_key=f"emu-{place.account}", base_url=place.base_url)
                while found := in_doubt.find(store, provider, batch):  # another installation's, until its results tell
                    assert not any(one.certain for one in found), "recovery would have adopted it"
                    time.sleep(0.05)
                decisions.release(store, batch.id, choice="resend", by="the stage", reason="It is not in the list.")
                released = True
    return released


@dataclass(frozen=True, slots=True)
class _Life:
    """How a life ended: as planned, or with an error, or well."""

    died: bool = False
    checkpoints: list[str] = field(default_factory=list)
    requests: int = 0
    error: str = ""


def _live(place: Place, die_at: int | None, mutation: str | None) -> _Life:
    """Lead one life to its end."""
    return _end(*_start(place, die_at, mutation))


def _start(place: Place, die_at: int | None, mutation: str | None) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(place, die_at, mutation, reader, writer)
    os.close(writer)
    return pid, reader


def _end(pid: int, reader: int) -> _Life:
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code != _UNFIT, "a mutation no longer fits"
    if code == DIED:
        return _Life(died=True)
    checkpoints, requests, error = json.loads(told or b'[[], 0, "the process vanished"]')
    return _Life(False, checkpoints, requests, error)


def _child(place: Place, die_at: int | None, mutation: str | None, reader: int, writer: int) -> None:
    os.close(reader)
    if mutation:
        _mutate(mutation)
    try:
        told = [*lead(place, die_at=die_at), ""]
    except Exception:  # noqa: BLE001  whatever it is, the next life has to cope
        told = [[], 0, traceback.format_exc()]
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(json.dumps(told).encode())
    os._exit(0)


def _mutate(name: str) -> None:
    """Of this life alone. One that no longer fits ends the stage: it must not pass for a proof that turned red."""
    try:
        MUTATIONS[name]()
    except BaseException:  # noqa: BLE001  told above the stage's own end
        traceback.print_exc()
        os._exit(_UNFIT)


def main() -> None:
    """Serve schedules from standard input.

    Arguments: the server's DSN, the template's name, the emulator's URL, and the DSN of the pooler before the server, or ''.
    """
    stage = Stage(*sys.argv[1:])
    stage.warm_up()
    for line in sys.stdin:
        given = json.loads(line)
        given["die_at"] = tuple(given["die_at"])
        began = time.monotonic()
        verdict = asdict(stage.play(Schedule(**given)))
        print(json.dumps(verdict | {"seconds": round(time.monotonic() - began, 3)}), flush=True)


if __name__ == "__main__":
    main()

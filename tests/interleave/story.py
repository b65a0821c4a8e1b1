"""One seed: a night in some state, actors and faults that the seed draws, a schedule that it decides, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random
from typing import Any

import psycopg

from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from tests.crash.life import Place
from tests.crash.surroundings import CALM, PLAIN, come_home, gateways
from tests.interleave.night import Night, job_and_attempt
from tests.interleave.pool import AT_ONCE, NEVER, SETTINGS, Pool
from tests.interleave.scheduler import Actor, Scheduler

_NIGHTS = 10
_HEADLINES = ("Creative {}",) * 5 + ("Creative {} [[emulator:error=500]]", "Creative {} [[emulator:refusal]]")
_STAGES = ("queued",) + ("planned",) * 4 + ("submit died", "submit failed", "held", "submitted", "ended", "loaded")
_ANSWERS = (("rate_limit", 429), ("reset", 0), ("lose_answer", 0), ("error_after", 0))
_CREATE = (*(("refuse", 503),) * 3, *_ANSWERS)
_REALTIME = (*(("refuse", 503),) * 6, *_ANSWERS)
_REFUSALS = (("refuse", 400), ("refuse", 401), ("refuse", 404), ("refuse", 413))
_OFTEN: tuple[str, ...] = ("batch_create",) * 4 + (
    "batch_list",
    "file_upload",
    "file_delete",
    "batch_get",
    "file_download",
)


@dataclass(slots=True)
class Verdict:
    """``wrong`` is empty when the promise was kept; ``story`` is all that happened."""

    seed: int
    wrong: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    steps: int = 0


class Story:
    """Plays a seed on a night of its own, in one of `tests.crash.surroundings`.

    ``backup`` copies the ledger as it stands, and ``neighbour`` is another ledger's night on the same account.
    """

    def __init__(
        self,
        seed: int,
        night: Night,
        surrounding: str = PLAIN,
        backup: Callable[[], AbstractContextManager[str]] | None = None,
        neighbour: Night | None = None,
    ) -> None:
        self.rng, self.night = Random(seed), night
        self.surrounding, self.backup = surrounding, backup
        self.world = Random(f"{seed} in {surrounding}")  # the seed decides the same in all surroundings
        self.verdict = Verdict(seed)
        self.provider: ProviderName = self.rng.choice(BUILT_IN)
        self.urgent = self.rng.random() < 0.45 and surrounding != "restored"  # a realtime answer is lost with the disk
        self.jobs: list[int] = []
        self.faulty: set[str] = set()
        self.allowed = {"succeeded", "failed"}
        self.asked_again: Counter[int] = Counter()
        self.beside = Story(seed, neighbour) if neighbour else None

    def play(self) -> Verdict:
        """All of it."""
        with ExitStack() as kept:
            self._begin()
            if self.surrounding == "restored" and self.backup:
                self.night.alone.close()
                copy = kept.enter_context(self.backup())
                self._reopen(self.night.dsn)
            self._interleave()
            if self.surrounding == "restored":
                self._restore(copy)
                kept.callback(self.night.alone.close)
            self._to_rest()
            self.verdict.wrong = [*self.night.trouble, *self._wrong_at_rest()]
        if self.beside:
            self.beside._to_rest()
            wrong = [*self.beside.night.trouble, *self.beside._wrong_at_rest()]
            self.verdict.wrong += [f"the neighbour: {sentence}" for sentence in wrong]
            self.night.story += [f"  the neighbour: {sentence}" for sentence in self.beside.night.story]
        self.verdict.story = self.night.story
        return self.verdict

    def _begin_beside(self, provider: ProviderName) -> tuple[str, Any]:
        """The same jobs by number, planned, and to be sent meanwhile. Whatever befalls the account befalls both."""
        self.provider, self.urgent = provider, False
        self.jobs = [self.night.insert(provider, f"Theirs {number}", urgent=False) for number in range(3)]
        self.allowed.add("rejected")
        pool = Pool(self.night, self.rng, SETTINGS)
        self._alone("plan", pool.plan())
        return "the neighbour submits", pool.submit(self.night.attempts()[0])

    def _restore(self, copy: str) -> None:
        """The disk died: what the lost ledger learned since, this one does not know."""
        self.asked_again = Counter(self.night.rows("SELECT job_id FROM nightbatch.retried"))
        self.allowed.add("cancelled")
        self._reopen(copy)
        self.night.control("DELETE", "faults", None)
        self._all_end()
        url = getattr(self.night.emulator, f"{self.provider}_url")
        come_home(Place(copy, url, self.provider, self.night.account))
        self.night.story.append("the ledger is restored")

    def _reopen(self, dsn: str) -> None:
        self.night.alone.close()
        self.night.dsn = dsn
        self.night.alone = psycopg.connect(dsn, autocommit=True, options=CALM)

    # -- the state that the actors find

    def _begin(self) -> None:
        rng, night = self.rng, self.night
        headlines = [rng.choice(_HEADLINES).format(number) for number in range(rng.randint(1, 3))]
        self.jobs = [night.insert(self.provider, headline, urgent=self.urgent) for headline in headlines]
        night.story.append(f"{'urgent ' if self.urgent else ''}jobs for {self.provider}: {headlines}")
        if self.urgent:
            self._begin_urgent()
        else:
            self._begin_batch(rng.choice(_STAGES))

    def _begin_urgent(self) -> None:
        if self.rng.random() < 0.5:
            self._alone("fallback", Pool(self.night, self.rng, SETTINGS).fallback(), die_at=self.rng.randint(10, 60))

    def _begin_batch(self, stage: str) -> None:
        """Up to a stage, as nights get there."""
        rng, pool = self.rng, Pool(self.night, self.rng, SETTINGS)
        self.night.story.append(f"stage: {stage}")
        if stage == "queued":
            return
        self._alone("plan", pool.plan())
        first = self.night.attempts()[0]
        if stage == "submit died":
            self._alone(f"submit {first}", pool.submit(first), die_at=rng.randint(3, 45))
        elif stage in ("submit failed", "held"):
            self._fault("batch_create", *rng.choice(_CREATE))
            self._alone(f"submit {first}", pool.submit(first, tries=3 if stage == "held" else 1))
            self.night.control("DELETE", "faults", None)
        elif stage in ("submitted", "ended", "loaded"):
            self._alone(f"submit {first}", pool.submit(first))
            if stage != "submitted":
                self._all_end()
        if stage == "loaded":
            self._alone(f"load {first}", pool.load(first))
            self._age()

    def _age(self) -> None:
        """As if all that has happened were two days ago, so that retention takes it."""
        with self.night.alone.transaction():
            self.night.alone.execute("SET LOCAL session_replication_role = replica")  # no rule of the schema is asked
            for table, columns in (("batch", ("closed_at",)), ("result", ("finished_at",))):
                for column in columns:
                    self.night.alone.execute(f"UPDATE nightbatch.{table} SET {column} = {column} - interval '2 days'")

    def _alone(self, name: str, work: Any, die_at: int | None = None) -> None:
        self.night.take(Actor(name, work, die_at=die_at))

    # -- the actors

    def _interleave(self) -> None:
        rng, night = self.rng, self.night
        lags = rng.random() < 0.15
        settings = replace(SETTINGS, settle_seconds=NEVER if lags or rng.random() < 0.3 else AT_ONCE)
        pool = Pool(night, rng, settings)
        drawn = [pool.any(night.attempts(), self.jobs, urgent=self.urgent) for _ in range(rng.choice((2, 2, 3)))]
        actors = [self._actor(f"{'ABC'[place]} {name}", work) for place, (name, work) in enumerate(drawn)]
        if self.beside:
            actors.append(
                Actor(*self.beside._begin_beside(self.provider), stops=frozenset({self.world.randint(1, 32)}))
            )
        self._allow([name for name, _ in drawn])
        self._draw_faults(lags)
        scheduler = Scheduler(rng, night.admin, night.settle_down)
        night.under_way, night.on_late = actors, scheduler.add
        scheduler.play(actors)
        night.on_late, night.under_way = None, []
        night.story += _shorter(scheduler.steps)
        self.verdict.steps = len(scheduler.steps)
        for actor in [*actors, *night.late]:
            night.story.append(f"{actor.name}: {actor.ended}")
            if actor.finding:
                night.trouble.append(actor.finding)

    def _actor(self, name: str, work: Any) -> Actor:
        rng = self.rng
        stops = frozenset(rng.randint(1, 32) for _ in range(rng.choice((0, 1, 1, 2, 2, 3))))
        return Actor(name, work, die_at=rng.randint(1, 60) if rng.random() < 0.08 else None, stops=stops)

    def _allow(self, names: list[str]) -> None:
        """Which ends of a job somebody wanted."""
        if any("rendered" in name or "the provider" in name for name in names):
            self.allowed.add("rejected")
        if any("person" in name for name in names):
            self.allowed.add("cancelled")

    def _draw_faults(self, lags: bool) -> None:
        rng = self.rng
        if lags:
            self._fault("batch_list", "list_lag", times=None, delay_seconds=NEVER)
        for _ in range(rng.choice((1, 1, 2) if self.urgent else (0, 0, 1, 1, 2))):
            operation = "realtime" if self.urgent else rng.choice(_OFTEN)
            hard = rng.random() < 0.15 and operation in ("batch_create", "file_upload", "realtime")
            fault, status = rng.choice(_REFUSALS if hard else _REALTIME if self.urgent else _CREATE)
            if hard:
                self.allowed.add("rejected")
            self._fault(operation, fault, status, times=rng.choice((1, 1, 2)), after_matches=rng.choice((0, 0, 0, 1)))
        self.night.holds_up_the_next_create = not self.urgent and rng.random() < 0.08
        if self.surrounding == "gateway":
            rule = self.world.choice(gateways())
            self._fault(**rule, times=self.world.choice((1, 2)), after_matches=self.world.choice((0, 0, 1)))

    def _fault(self, operation: str, fault: str, status: int = 0, **details: Any) -> None:
        rule = {"account": self.night.account, "operation": operation, "fault": fault, "retry_after": 0, **details}
        self.night.story.append(f"fault: {operation} {fault} {status or ''} {details or ''}".rstrip())
        self.night.control("POST", "faults", {**rule, "status": status or 503})

    # -- rest

    def _to_rest(self) -> None:
        """Nights without faults, an hour and more later, until every job has its last word."""
        night = self.night
        night.control("DELETE", "faults", None)
        night.holds_up_the_next_create = False
        settings = replace(SETTINGS, create_seconds=AT_ONCE, wait_hours=AT_ONCE)
        for number in range(_NIGHTS):
            if night.trouble or self._rests():
                return
            self._last_night(Pool(night, self.rng, settings, run_id=f"last {number}"))
        left = night.rows("SELECT job_id, state, batch_id FROM nightbatch.job_status")
        attempts = night.rows("SELECT id, provider, mode, state, error FROM nightbatch.batch WHERE closed_at IS NULL")
        night.trouble.append(f"not at rest after {_NIGHTS} nights: jobs {left}, open attempts {attempts}")

    def _rests(self) -> bool:
        return not self.night.running() and not self.night.rows(
            "SELECT 1 FROM nightbatch.job_status WHERE state IN ('queued', 'batched', 'held') UNION ALL"
            " SELECT 1 FROM nightbatch.batch WHERE closed_at IS NULL LIMIT 1"
        )

    def _last_night(self, pool: Pool) -> None:
        night = self.night
        self._all_end()
        self._alone("recover", pool.recover())
        if self.urgent:
            self._alone("fallback", pool.fallback())
        if night.attempts("held"):
            self._alone("a person decides", replace(pool, rng=_Resend()).person())
        self._alone("plan", pool.plan())
        for batch_id in night.rows(
            "SELECT id FROM nightbatch.batch WHERE mode = 'batch' AND state IN ('planned', 'uploaded')"
        ):
            self._alone(f"submit {batch_id}", pool.submit(batch_id))
        self._all_end()
        for batch_id in night.attempts("submitted"):
            self._alone(f"load {batch_id}", pool.load(batch_id))
        if self.surrounding == "restored":
            for batch_id in night.attempts("submitted"):
                self._alone(f"a person gives up {batch_id}", pool.give_up(batch_id))

    def _all_end(self) -> None:
        for provider_batch_id in self.night.running():
            self.night.end(provider_batch_id, "completed")

    # -- the judge

    def _wrong_at_rest(self) -> list[str]:
        return [*self._paid_twice(), *self._lost(), *self._booked_otherwise(), *self._in_no_legal_state()]

    def _paid_twice(self) -> Iterator[str]:
        times = Counter(job_and_attempt(name)[0] for name, _ in self.night.bill())
        wanted = self.asked_again + Counter(self.night.rows("SELECT job_id FROM nightbatch.retried"))
        for job, count in times.items():
            if count > 1 + wanted[job]:
                where = [name for name, _ in self.night.bill() if job_and_attempt(name)[0] == job]
                yield f"job {job} was paid {count} times: {', '.join(where)}"

    def _lost(self) -> Iterator[str]:
        """Answers that were paid for, arrived, and are kept nowhere; in quarantine they are kept, but used for nothing."""
        kept = set(
            self.night.rows(
                "SELECT r.job_id, coalesce(b.duplicate_of, b.sent_as, b.id) FROM nightbatch.result AS r"
                " JOIN nightbatch.batch AS b ON b.id = r.batch_id WHERE r.billed AND r.outcome <> 'missing'"
            )
        )
        aside = [
            bytes(raw).decode() for raw in self.night.rows("SELECT raw FROM nightbatch.reject WHERE raw IS NOT NULL")
        ]
        for name, _ in self._arrived():
            if job_and_attempt(name) not in kept:
                quarantined = any(name in raw for raw in aside)
                yield f"{name} was paid and {'went to quarantine' if quarantined else 'is lost'}"

    def _arrived(self) -> list[tuple[str, Decimal]]:
        """The bill without what nobody can keep.

        Realtime calls whose answer the network lost, or a process that died with it; and answers that a lost ledger had loaded.
        """
        night = self.night
        alive = {name for name, actor in night.answered.items() if not actor.ended.startswith("died")}
        arrived = [(name, usd) for name, usd in night.bill() if name not in night.paid or name in alive]
        if self.surrounding != "restored":
            return arrived
        gone = set(
            night.rows(
                "SELECT job_id FROM nightbatch.job_status WHERE state = 'cancelled'"
                " UNION SELECT job_id FROM nightbatch.result WHERE outcome = 'missing'"
            )
        )
        return [(name, usd) for name, usd in arrived if job_and_attempt(name)[0] not in gone]

    def _booked_otherwise(self) -> Iterator[str]:
        (booked,) = self.night.rows("SELECT coalesce(sum(batch_cost_usd), 0) FROM nightbatch_report.savings_daily")
        charged = sum((usd for _, usd in self._arrived()), Decimal(0))
        if booked != charged:
            yield f"the bill says {charged}, the report {booked}"

    def _in_no_legal_state(self) -> Iterator[str]:
        night = self.night
        states = dict(night.rows("SELECT job_id, state FROM nightbatch.job_status"))
        yield from (f"job {job} is lost" for job in self.jobs if job not in states)
        yield from (
            f"job {job} is {state}, which nobody wanted" for job, state in states.items() if state not in self.allowed
        )
        for job, batch_id in night.rows(
            "SELECT o.job_id, o.batch_id FROM nightbatch.open_job AS o JOIN nightbatch.batch AS b ON b.id = o.batch_id"
            " WHERE b.closed_at IS NOT NULL"
        ):
            yield f"job {job} belongs to the closed attempt {batch_id}"
        for batch_id, said, there in night.rows(
            "SELECT b.id, b.job_count, count(m.job_id)"
            " FROM nightbatch.batch AS b LEFT JOIN nightbatch.batch_job AS m ON m.batch_id = b.id"
            " WHERE b.provider_batch_id IS NOT NULL GROUP BY b.id HAVING b.job_count <> count(m.job_id)"
        ):
            yield f"batch {batch_id} was sent with {said} jobs and has {there}"


class _Resend(Random):
    """A person at rest drops nothing."""

    def choice(self, seq: Any) -> Any:
        return seq[0]


def _shorter(steps: list[str]) -> list[str]:
    """An actor's steps one after another, in one line each."""
    told: list[str] = []
    last = ""
    for step in steps:
        name, _, at = step.partition(" | ")
        if name == last:
            told[-1] += f" > {at}"
        else:
            told.append(f"  {name} goes on: {at}")
        last = name
    return told

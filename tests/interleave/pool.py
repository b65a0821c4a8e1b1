"""What the actors do. Each is drawn by chance, and so is what it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from nightbatch.batches import decisions, fallback, loading, recovery, retention, retrying, submission
from nightbatch.core.errors import SubmissionInDoubt
from nightbatch.core.ledger import RunParams
from nightbatch.core.settings import Settings
from nightbatch.jobs import cancelling
from tests.interleave.night import Night
from tests.interleave.releases import ANOTHER_PROMPT, CANNOT_RENDER, RELEASES, USUAL, Release
from tests.interleave.scheduler import Actor

AT_ONCE, NEVER = 1e-9, 1e9  # a wait that is over, and one that is not
SETTINGS = Settings(settle_seconds=AT_ONCE, create_seconds=NEVER, wait_hours=NEVER, max_batch_jobs=3)

Work = Callable[[Actor], object]


@dataclass(frozen=True, slots=True)
class Pool:
    """Makes actors for a night: ``settings`` are theirs, ``batch_id`` the attempt that it is about, if there is one."""

    night: Night
    rng: Random
    settings: Settings
    run_id: str = "night"

    def plan(self, release: Release = USUAL, run_id: str | None = None) -> Work:
        """The Dag's first task."""
        wanted = run_id or self.run_id

        def work(actor: Actor) -> object:
            with self.night.process(actor, release) as (store, _):
                return submission.plan_run(
                    store, release.types, self.settings, run_id=wanted, queued_before=None, params=RunParams()
                ) and None  # fmt: skip

        return work

    def submit(self, batch_id: int, release: Release = USUAL, tries: int = 2) -> Work:
        """A submit task and its retries, whose waits Airflow chooses."""

        def work(actor: Actor) -> object:
            with self.night.process(actor, release) as (store, provider_for):
                for left in reversed(range(tries)):
                    provider = provider_for(store.batch(batch_id).provider)
                    try:
                        return submission.submit_batch(store, provider, release.types, self.settings, batch_id)
                    except SubmissionInDoubt as doubt:
                        if not left or doubt.look_again_in is None:
                            raise
                        actor.reach(f"it is in doubt: {doubt}")
            return None

        return work

    def load(self, batch_id: int, release: Release = USUAL) -> Work:
        """A load task, which comes when the batch has ended."""

        def ready() -> bool:
            found = self.night.rows("SELECT provider_batch_id FROM nightbatch.batch WHERE id = %s", batch_id)
            return bool(found and found[0] and found[0] not in self.night.running())

        def work(actor: Actor) -> object:
            if not actor.wait_until(ready, "waits for the batch's end"):
                return "it did not end"
            with self.night.process(actor, release) as (store, provider_for):
                provider = provider_for(store.batch(batch_id).provider)
                loading.load_batch(store, provider, release.types, batch_id)
            return None

        return work

    def recover(self, release: Release = USUAL) -> Work:
        """One run of `nightbatch_recover`."""

        def work(actor: Actor) -> object:
            with self.night.process(actor, release) as (store, provider_for):
                told = recovery.recover(store, provider_for, release.types, self.settings)
            return " ".join(told) or None

        return work

    def fallback(self, release: Release = USUAL) -> Work:
        """The part of `nightbatch_recover` that answers what cannot wait."""

        def work(actor: Actor) -> object:
            with self.night.process(actor, release) as (store, provider_for):
                told = fallback.answer_urgent(store, provider_for, release.types, self.settings)
            return " ".join(told) or None

        return work

    def settle(self) -> Work:
        """The Dag's last task."""

        def work(actor: Actor) -> object:
            with self.night.process(actor, USUAL) as (store, _):
                return f"{recovery.settle_run(store, self.run_id)} jobs are free"

        return work

    def person(self) -> Work:
        """Looks into the provider's console when nothing is on its way there any more, and decides what is held."""
        choice: decisions.Choice = self.rng.choice(("resend", "resend", "drop"))
        night = self.night

        def ready() -> bool:
            on_its_way = any(actor.creating for actor in night.under_way) or any(
                actor.state != "ended" for actor in night.late
            )
            return not on_its_way and bool(night.attempts("held"))

        def work(actor: Actor) -> object:
            if not actor.wait_until(ready, "waits for something to decide"):
                return "nothing is held"
            batch_id = night.attempts("held")[0]
            there = night.console(batch_id)
            chosen: decisions.Choice = "adopt" if there else choice
            with night.process(actor, USUAL) as (store, _):
                return decisions.release(
                    store, batch_id, choice=chosen, by="me", reason="I looked", provider_batch_id=there
                )  # fmt: skip

        return work

    def give_up(self, batch_id: int) -> Work:
        """A person knows that its results are gone with the disk; after some days nobody is asked."""

        def work(actor: Actor) -> object:
            with self.night.process(actor, USUAL) as (store, _):
                return decisions.release(store, batch_id, choice="drop", by="me", reason="The disk died.")

        return work

    def retry(self, batch_id: int) -> Work:
        """A person asks again for what a batch did not answer."""

        def ready() -> bool:
            return batch_id in self.night.attempts("loaded")

        def work(actor: Actor) -> object:
            if not actor.wait_until(ready, "waits for the load"):
                return "it is not loaded"
            with self.night.process(actor, USUAL) as (store, _):
                return retrying.retry(store, batch_id, by="me", reason="once more")

        return work

    def cancel_jobs(self, jobs: list[int]) -> Work:
        """A person takes jobs out of the queue."""

        def work(actor: Actor) -> object:
            with self.night.process(actor, USUAL) as (store, _):
                return " ".join(cancelling.cancel_jobs(store, jobs, by="me", reason="no more").sentences())

        return work

    def cancel_batch(self, batch_id: int) -> Work:
        """A person has a batch ended early."""

        def work(actor: Actor) -> object:
            with self.night.process(actor, USUAL) as (store, _):
                return decisions.ask_to_cancel(store, batch_id, by="me", reason="no more")

        return work

    def erase(self) -> Work:
        """Retention, with a day for everything."""
        settings = replace(self.settings, retention_days=1)

        def work(actor: Actor) -> object:
            with self.night.process(actor, USUAL) as (store, _):
                return " ".join(retention.erase(store, USUAL.types, settings)) or None

        return work

    def provider(self) -> Work:
        """The provider ends its batches, in whatever way."""
        outcomes = [self.rng.choice(("completed",) * 6 + ("expired", "cancelled", "failed")) for _ in range(3)]

        def work(actor: Actor) -> object:
            for outcome in outcomes:
                if not actor.wait_until(lambda: bool(self.night.running()), "waits for a batch"):
                    break
                self.night.end(self.night.running()[0], outcome)
                actor.reach(f"{outcome} a batch")
            return None

        return work

    def any(self, batches: list[int], jobs: list[int], *, urgent: bool) -> tuple[str, Work]:
        """One of them by chance; what fits to the night comes oftener."""
        rng = self.rng
        kinds = ["recover", "plan", "cancel jobs", "erase", "settle"]
        kinds += ["fallback"] * (12 if urgent else 1)
        if batches and not urgent:
            kinds += (
                ["submit"] * 10 + ["load"] * 3 + ["recover"] * 2 + ["provider", "person", "person", "cancel", "retry"]
            )
        kind = rng.choice(kinds)
        batch_id = rng.choice(batches) if batches else 0
        release = rng.choice(RELEASES if kind != "fallback" else (USUAL, USUAL, USUAL, ANOTHER_PROMPT, CANNOT_RENDER))
        named = f" {release.name}".rstrip()
        match kind:
            case "recover":
                return f"recover{named}", self.recover(release)
            case "plan":
                return "plan", self.plan(run_id=rng.choice((self.run_id, "another night")))
            case "fallback":
                return f"fallback{named}", self.fallback(release)
            case "submit":
                return f"submit {batch_id}{named}", self.submit(batch_id, release)
            case "load":
                return f"load {batch_id}", self.load(batch_id)
            case "person":
                return "a person decides", self.person()
            case "retry":
                return f"a person retries {batch_id}", self.retry(batch_id)
            case "cancel":
                return f"a person cancels batch {batch_id}", self.cancel_batch(batch_id)
            case "cancel jobs":
                chosen = sorted(rng.sample(jobs, rng.randint(1, len(jobs))))
                return f"a person cancels jobs {chosen}", self.cancel_jobs(chosen)
            case "erase":
                return "retention", self.erase()
            case "settle":
                return "settle", self.settle()
            case _:
                return "the provider", self.provider()

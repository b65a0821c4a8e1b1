"""Whatever happens in whatever order: no job is paid twice, none is lost, and the books agree with the bill.

``NIGHTBATCH_TEST_EXAMPLES=200`` plays that many random sequences; left alone, a few that are the same each time.
``NIGHTBATCH_SURROUNDING`` is one of `tests.surroundings`, or ``hostile settings``.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nightbatch.batches import decisions
from nightbatch.core.profiles import BUILT_IN
from nightbatch.postgres.store import open_store
from nightbatch_local.emulator.process import EmulatorProcess
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests import surroundings
from tests.conftest import _database
from tests.crash.surroundings import gateways, make_hostile
from tests.use_cases.any_order import LAG, SETTLE, Death, Play, cancel, load, plan, recover, settle, submit

EXAMPLES = os.environ.get("NIGHTBATCH_TEST_EXAMPLES", "")
UNSENT = ("planned", "uploaded", "submitting", "held")
SENT = ("submitting", "held", "submitted")
Troubles = list[dict[str, Any]]
CHOICES: tuple[decisions.Choice | None, ...] = (None, "resend", "drop")

places = st.integers(0, 7)
"""The how manieth of what there is, the newest first; there may be fewer."""
AROUND_A_CALL = (
    *("after http upload POST", "after sql record_intent", "before http submit POST", "after http submit POST"),
    *("before sql record_submission", "after sql take_over", "after http find_submission GET"),
    *("before http fence DELETE", "after http fence DELETE", "result line read", "after sql close_jobs"),
    *("before commit", "after commit"),
)
deaths = st.none() | st.sampled_from(AROUND_A_CALL) | st.integers(0, 40)
job_kinds = st.sampled_from(
    [
        ("creative_scoring", "A headline"),
        ("creative_scoring", "A headline [[emulator:error=500]]"),
        ("creative_scoring", ""),
        ("embedding_generation", "A text to be found again"),
        ("of_no_known_type", "A headline"),
    ]
)


def faults(*operations: str, more: Troubles) -> st.SearchStrategy[Troubles]:
    """What goes wrong at a provider in its next calls; an operation named twice is hit twice as often."""
    answers = ("rate_limit", "reset", "lose_answer", "error_after")
    kinds: Troubles = [{"operation": operation, "fault": fault} for operation in operations for fault in answers]
    kinds += [
        {"operation": operation, "fault": "refuse", "status": status}
        for operation in operations
        for status in (503, 400, 401, 404, 413)
        if (operation, status) != ("file_delete", 404)  # a provider that denies a file which is there lies
    ]
    return st.lists(st.sampled_from(kinds + more), max_size=2)


GATEWAY = [fault for fault in gateways() if fault["fault"] == "gateway_after"]
LATE_CREATE = {"operation": "batch_create", "fault": "deliver_late"}
LATE_UPLOAD = {"operation": "file_upload", "fault": "deliver_late", "after_matches": 1}
GARBLED = [
    {"operation": "file_download", "fault": fault}
    for fault in ("truncate", "corrupt", "duplicate_line", "unknown_line")
]
sending = faults(
    *("batch_create", "batch_create", "batch_list", "file_upload", "file_delete"),
    more=[LATE_CREATE] * 6 + [LATE_UPLOAD] + GATEWAY,
)
fetching = faults("file_download", "batch_get", "file_delete", more=GARBLED)


class AnyOrder(RuleBasedStateMachine):
    """A night, its days and its accidents, for one team.

    What is drawn depends on nothing but what was drawn before: a rule that finds nothing to do does nothing, since with
    real time and real processes no two plays of one sequence need to come to the same state.
    """

    def __init__(self, server: EmbeddedPostgres, template: str, emulator: EmulatorProcess, http: httpx.Client) -> None:
        super().__init__()
        self.world = ExitStack()
        there = self.world.enter_context(_database(server, template))
        if surroundings.SURROUNDING == "hostile settings":
            with psycopg.connect(server.dsn(), autocommit=True) as admin:
                make_hostile(admin, there.rpartition("/")[2])
        dsn = surroundings.through(there)
        store = self.world.enter_context(open_store(dsn))
        self.play = Play(dsn, store, emulator, http, uuid.uuid4().hex[:10])
        self.something_new = True  # since the last plan

    # -- what people and the Dags do

    @initialize()
    def a_night_begins(self) -> None:
        for provider in BUILT_IN:
            for number in range(4):
                self.play.insert(provider, "creative_scoring", f"Creative {number}", priority=5, wait=0)
        self.play.live(plan(self.play.new_run()))

    @rule(
        provider=st.sampled_from(BUILT_IN), kind=job_kinds, count=st.integers(1, 3), priority=st.integers(1, 10),
        wait=st.sampled_from([0, 0.7]),
    )  # fmt: skip
    def insert_jobs(self, provider: str, kind: tuple[str, str], count: int, priority: int, wait: float) -> None:
        self.something_new = True
        if (provider, kind[0]) != ("anthropic", "embedding_generation"):  # the schema refuses it
            for _ in range(count):
                self.play.insert(provider, *kind, priority=priority, wait=wait)

    @precondition(lambda self: self.something_new)
    @rule(before=st.sampled_from([None, 0, 0.3, 86_400]), death=deaths)
    def plan(self, before: float | None, death: Death) -> None:
        """A run; or a backfill, of what was queued that many seconds ago."""
        self.something_new = False
        queued_before = None if before is None else self.play.store.now() - timedelta(seconds=before)
        self.play.live(plan(self.play.new_run(), queued_before), death)

    @rule(place=places, tries=st.lists(st.tuples(deaths, sending), min_size=1, max_size=4))
    def submit(self, place: int, tries: list[tuple[Death, Troubles]]) -> None:
        """A task and its retries, whose waits Airflow chooses."""
        if batch_id := self.play.attempt(place, *UNSENT):
            for death, troubles in tries:
                self.play.befall(batch_id, troubles)
                self.play.live(submit(batch_id), death)
                if self.play.store.batch(batch_id).state == "submitting":
                    time.sleep(SETTLE / 2)

    @rule(place=places, death=deaths, troubles=fetching)
    def load(self, place: int, death: Death, troubles: Troubles) -> None:
        if batch_id := self.play.attempt(place, "submitted"):
            self.play.befall(batch_id, troubles)
            self.play.live(load(batch_id), death)

    @rule(place=places)
    def clear(self, place: int) -> None:
        """A person has a finished part of a run done again, from the plan on."""
        if batch_id := self.play.attempt(place, "loaded", "refused", "abandoned"):
            before = self.play.store.batch(batch_id)
            planned = self.play.planned(before.run_id)
            for step in (plan(before.run_id), submit(batch_id), load(batch_id)):
                self.play.live(step)
            if self.play.planned(before.run_id) != planned or self.play.store.batch(batch_id) != before:
                self.play.trouble.append(f"a clear changed batch {batch_id} or its run")

    @precondition(lambda self: not self.something_new)
    @rule(place=places)
    def settle(self, place: int) -> None:
        self.something_new = True
        self.play.live(settle(self.play.run(place)))

    @rule(place=places, death=deaths, troubles=sending | fetching)
    def recover(self, place: int, death: Death, troubles: Troubles) -> None:
        if batch_id := self.play.attempt(place, *SENT):
            self.play.befall(batch_id, troubles)
            self.play.live(recover(), death)

    @rule(
        place=places, kinds=st.lists(st.sampled_from(["submit", "load", "recover", "plan"]), min_size=1, max_size=2),
        death=deaths, troubles=sending | fetching,
    )  # fmt: skip
    def live_together(self, place: int, kinds: list[str], death: Death, troubles: Troubles) -> None:
        if batch_id := self.play.attempt(place, *UNSENT, "submitted"):
            self.play.befall(batch_id, troubles)
            run_id = self.play.new_run()
            steps = {"submit": submit(batch_id), "load": load(batch_id), "recover": recover(), "plan": plan(run_id)}
            sent = batch_id in self.play.attempts("submitted")
            first = steps["load" if sent else "submit"]
            self.play.live_together([first, *(steps[kind] for kind in kinds)], death)

    @rule(place=places)
    def send_and_cancel(self, place: int) -> None:
        if batch_id := self.play.attempt(place, "planned", "uploaded", "submitted"):
            self.play.live(submit(batch_id))
            self.play.live(cancel(batch_id))

    # -- what the providers and time do

    @rule(choice=st.sampled_from(CHOICES))
    def an_hour_passes(self, choice: decisions.Choice | None) -> None:
        """`nightbatch_recover` runs, and a person may decide about what it holds."""
        self.something_new = True
        if self.play.attempts("submitting"):
            time.sleep(SETTLE)
        self.play.live(recover())
        if choice and (batch_id := self.play.attempt(0, "held")):
            self.play.decide(batch_id, choice)

    @rule(seconds=st.sampled_from([0.05, 1.5]), lagging=st.booleans())
    def the_providers_change(self, seconds: float, lagging: bool) -> None:
        self.play.turnaround(seconds)
        self.play.end_faults("list_lag")
        if lagging:
            self.play.fault(operation="batch_list", fault="list_lag", delay_seconds=LAG, times=None)

    # -- the judge

    @invariant()
    def nothing_is_paid_twice(self) -> None:
        # Raised at the end only: were it a sooner or later step each time, Hypothesis could not shrink what it drew.
        if not self.play.trouble:
            self.play.trouble += self.play.wrong_at_any_time()

    def teardown(self) -> None:
        with self.world:
            if not self.play.trouble:
                self.play.to_rest()
                self.play.trouble += self.play.wrong_at_rest()
            assert self.play.trouble == [], "\n".join([*self.play.trouble, "after:", *self.play.story])


@pytest.fixture(scope="module")
def quick_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), turnaround=0.05) as running:
        yield running


def test_anything_in_any_order_pays_nothing_twice_and_loses_nothing(
    postgres_server: EmbeddedPostgres, _migrated: str, quick_emulator: EmulatorProcess
) -> None:
    with httpx.Client(base_url=quick_emulator.url, trust_env=False, timeout=60) as http:
        run_state_machine_as_test(
            lambda: AnyOrder(postgres_server, _migrated, quick_emulator, http),  # type: ignore[arg-type]  # makes one
            settings=settings(
                max_examples=int(EXAMPLES or 6),
                stateful_step_count=30,
                deadline=None,
                derandomize=not EXAMPLES,
                # The story tells it all; a shorter one may take five minutes to find.
                phases=set(Phase) if EXAMPLES else [Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )

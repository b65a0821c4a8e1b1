"""What each step of the protocol refuses to do. Every claim here holds a mutation of `tests/mutation`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from nightbatch.batches import decisions, in_doubt, loading, recovery, retrying, submission
from nightbatch.core.errors import NightbatchError, ReconciliationError, Rejected, SubmissionInDoubt, Throttled
from nightbatch.core.ledger import Batch
from nightbatch.core.models import FoundBatch, ProviderName, Submission
from nightbatch.core.provider import BatchProvider
from nightbatch.job_types import job_types
from nightbatch.postgres.store import Store, open_store
from tests.use_cases.conftest import World
from tests.use_cases.steps import alerts, at_provider, end_unfinished, planned, recover, sent, wait_for_end
from tests.use_cases.test_in_doubt import elsewhere, left_in_doubt


class Meanwhile:
    """A provider of which one call is made, and then something else happens before its answer is used."""

    def __init__(self, provider: BatchProvider, call: str, happens: Callable[[], object]) -> None:
        self._provider, self._call, self._happens = provider, call, happens

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._provider, name)
        if name != self._call:
            return asked

        def call(*args: Any) -> Any:
            answer = asked(*args)
            self._happens()
            return answer

        return call


def row(world: World, batch: Batch | int) -> dict[str, Any]:
    """Everything that the ledger holds of an attempt."""
    (found,) = world.rows(
        "SELECT to_jsonb(b) FROM nightbatch.batch AS b WHERE id = %s", batch if isinstance(batch, int) else batch.id
    )
    assert isinstance(found, dict)
    return found


@contextmanager
def running(world: World) -> Any:
    """Batches do not end."""
    world.emulator.control("POST", "turnaround", {"seconds": 60})
    try:
        yield
    finally:
        world.emulator.control("POST", "turnaround", {"seconds": 0.2})


# -- whoever comes too late


STEPS: dict[str, Callable[[Store, Batch], object]] = {
    "take over": lambda store, batch: store.take_over(batch),
    "throttled": lambda store, batch: store.record_throttled(batch, "429"),
    "fence": lambda store, batch: store.record_fence(batch),
    "held": lambda store, batch: store.record_held(batch, "held"),
    "close": lambda store, batch: store.close_attempt(batch, "abandoned", "given up"),
}


@pytest.mark.fault(9)
@pytest.mark.parametrize("step", STEPS)
def test_whoever_lost_an_attempt_to_another_process_changes_nothing_of_it(world: World, step: str) -> None:
    before = left_in_doubt(world, "openai")
    taken = world.store.take_over(before)
    assert taken is not None
    assert taken.epoch > before.epoch
    as_taken = row(world, before)
    with suppress(NightbatchError):
        STEPS[step](world.store, before)
    assert row(world, before) == as_taken


def test_a_new_intent_needs_a_new_fence(world: World) -> None:
    taken = world.store.take_over(left_in_doubt(world, "openai"))
    assert taken is not None
    assert world.store.record_fence(taken) is not None
    world.store.record_throttled(taken, "429 after all")
    intent = world.store.record_intent(world.store.batch(taken.id))
    assert intent is not None
    assert (intent.state, intent.fenced_at) == ("submitting", None)


def test_a_create_answered_after_its_attempt_was_given_up_is_booked_as_a_duplicate(world: World) -> None:
    """The list lags for longer than the settle wait, and the sender was slow: what it learns at last is not lost."""
    batch_id = planned(world, "openai")

    def give_up() -> None:
        world.emulator.fault("openai", "batch_list", "list_lag", delay_seconds=60, times=None)
        deadline = time.monotonic() + 20
        while world.store.batch(batch_id).closed_at is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            recover(world)

    slow: Any = Meanwhile(world.provider("openai"), "submit", give_up)
    with pytest.raises(ReconciliationError, match="may be billed twice"):
        submission.submit_batch(world.store, slow, job_types(), world.settings, batch_id)
    assert world.store.batch(batch_id).state == "abandoned"
    assert alerts(world) == ["duplicate_batch"]
    assert world.rows("SELECT state FROM nightbatch.batch WHERE duplicate_of = %s", batch_id) == ["submitted"]


# -- what an attempt consists of


def test_the_members_of_what_was_frozen_stay_whatever_is_rendered_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a 429 the type has become stricter: the bad job is taken out of a new attempt, not of the one that was sent."""
    jobs = world.insert("openai", 3)
    (batch,) = world.plan()
    world.emulator.fault("openai", "batch_create", "rate_limit", times=1)
    with pytest.raises(Throttled):
        world.submit(batch)
    kind = job_types()["creative_scoring"]
    render = type(kind).render_request

    def stricter(self: Any, text: bytes) -> Any:
        if b"headline 1" in text:
            raise Rejected("not any more")
        return render(self, text)

    monkeypatch.setattr(type(kind), "render_request", stricter)
    successor = world.submit_until_certain(batch)
    assert successor not in (None, batch.id)
    members = "SELECT job_id FROM nightbatch.batch_job WHERE batch_id = %s ORDER BY job_id"
    assert world.rows(members, batch.id) == jobs
    assert world.rows(members, successor) == [jobs[0], jobs[2]]
    assert world.states()[jobs[1]] == "rejected"


@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_a_job_that_is_postponed_has_not_been_tried(world: World, name: ProviderName) -> None:
    world.insert(name, 4)
    (batch,) = world.plan()
    world.emulator.fault(name, "file_upload", "refuse", status=413, times=1)
    world.submit_until_certain(batch)
    tried = "SELECT state, attempts FROM nightbatch.job_status ORDER BY job_id"
    assert world.rows(tried) == [("batched", 1), ("batched", 1), ("queued", 0), ("queued", 0)]


def test_a_plan_claims_no_job_that_was_taken_since_it_looked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planning lock keeps plans apart. Should anything else take a job meanwhile, the plan is undone as a whole."""
    (job,) = world.insert("openai", 1)
    (first,) = world.plan("r1")
    end_unfinished(world, first.id)
    world.insert("gemini", 1)
    (other,) = world.plan("r2", providers=("gemini",))
    claim = world.store.claim

    def taken_meanwhile(*args: Any, **options: Any) -> Any:
        with psycopg.connect(world.dsn) as somebody:
            somebody.execute("INSERT INTO nightbatch.batch_job (batch_id, job_id) VALUES (%s, %s)", [other.id, job])
            somebody.execute("UPDATE nightbatch.open_job SET batch_id = %s WHERE job_id = %s", [other.id, job])
        return claim(*args, **options)

    monkeypatch.setattr(world.store, "claim", taken_meanwhile)
    with pytest.raises(AssertionError, match="claimed by another"):
        world.plan("r3")
    assert world.rows("SELECT batch_id FROM nightbatch.open_job WHERE job_id = %s", job) == [other.id]
    assert world.rows("SELECT id FROM nightbatch.batch WHERE run_id = 'r3'") == []


# -- what a look finds


def test_the_settle_wait_begins_with_the_fence(world: World) -> None:
    """Until the input is gone a create that is held up may still arrive: the time before counts for nothing."""
    batch = left_in_doubt(world, "openai", "reset")
    world.settings = replace(world.settings, settle_seconds=3600)
    world.store.connection.execute("UPDATE nightbatch.batch SET intent_at = intent_at - interval '1 day'")
    with pytest.raises(SubmissionInDoubt) as waits:
        world.submit(batch)
    assert 3500 < (waits.value.look_again_in or 0) <= 3600
    assert world.store.batch(batch.id).fenced_at is not None


def test_a_batch_of_ours_is_no_candidate_for_another_attempt(world: World) -> None:
    """At Anthropic it has the right size and time; but the ledger has it, so the create in doubt is not found, and held."""
    world.insert("anthropic")
    (known,) = world.plan("r0")
    with running(world):
        world.submit(known)
        batch = left_in_doubt(world, "anthropic", "reset")
        with pytest.raises(SubmissionInDoubt, match="does not list it"):
            world.submit_until_certain(batch)
    assert world.store.batch(batch.id).state == "held"


def test_a_look_tells_an_old_list_by_the_databases_clock(
    world: World, monkeypatch: pytest.MonkeyPatch, provider: ProviderName
) -> None:
    """Without the moment of asking, the Date of an answer out of a cache would tell nothing."""
    batch, client = left_in_doubt(world, provider, "reset"), world.provider(provider)
    asked: list[Submission] = []
    look = client.find_submission

    def noted(wanted: Submission) -> list[FoundBatch]:
        asked.append(wanted)
        return look(wanted)

    monkeypatch.setattr(client, "find_submission", noted)
    before = world.store.now()
    assert in_doubt.find(world.store, client, batch) == []
    assert asked[0].asked_at is not None
    assert before <= asked[0].asked_at <= world.store.now()


def test_looking_back_books_nothing_on_suspicion(world: World, tmp_path: Any) -> None:
    """After a release somebody else sends as many requests: until they end nobody knows whose they are."""
    batch = left_in_doubt(world, "anthropic", "reset")
    world.store.record_held(world.store.batch(batch.id), "nobody knows")
    decisions.release(world.store, batch.id, choice="resend", by="ann", reason="looked")
    with running(world):
        elsewhere(world, 3, tmp_path)
        recover(world)
        assert world.rows("SELECT id FROM nightbatch.batch WHERE duplicate_of IS NOT NULL") == []
        assert "duplicate_batch" not in alerts(world)


def test_looking_back_asks_no_account_but_the_one_that_sent(world: World, provider: ProviderName) -> None:
    batch = left_in_doubt(world, provider, "reset")
    world.store.record_held(world.store.batch(batch.id), "nobody knows")
    decisions.release(world.store, batch.id, choice="resend", by="ann", reason="looked")
    another = f"{world.account}x"
    recovery.recover(world.store, lambda name: world.provider(name, account=another), job_types(), world.settings)
    assert world.emulator.log(another) == []


@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_a_batch_adopted_by_mistake_goes_to_the_attempt_that_its_lines_name(world: World, name: ProviderName) -> None:
    mistaken = left_in_doubt(world, name, "reset")
    world.insert(name)
    (owner,) = world.plan("r2")
    world.emulator.fault(name, "batch_create", "lose_answer", times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(owner)
    (theirs,) = world.provider(name).find_submission(world.store.batch(owner.id).submission)
    assert world.store.record_submission(mistaken.id, theirs.provider_batch_id) is not None
    with pytest.raises(ReconciliationError, match="results of another"):
        world.load(mistaken.id)
    found = world.store.batch(owner.id)
    assert (found.state, found.provider_batch_id) == ("submitted", theirs.provider_batch_id)
    assert world.store.batch(mistaken.id).state == "held"
    assert world.load(owner.id).succeeded == 3
    world.judge()


# -- loads and retries


@pytest.mark.fault(30)
def test_where_the_provider_counts_nothing_what_is_missing_may_be_billed(world: World, provider: ProviderName) -> None:
    batch_id = sent(world, provider, 4)
    wait_for_end(world, batch_id)
    world.emulator.fault(provider, "file_download", "missing_line", times=None)
    adapter = world.provider(provider)
    get_state = adapter.get_state

    async def without_counts(provider_batch_id: str) -> Any:
        return replace(await get_state(provider_batch_id), counts=None)

    adapter.get_state = without_counts  # type: ignore[method-assign]
    loaded = loading.load_batch(world.store, adapter, job_types(), batch_id)
    assert (loaded.succeeded, loaded.requeued) == (3, 0)
    assert world.rows("SELECT billed FROM nightbatch.result WHERE outcome = 'missing'") == [True]
    assert alerts(world) == ["missing_results"]
    assert world.plan("r2") == []


def test_a_refusal_of_the_queue_is_learned_from_once(world: World) -> None:
    """Two processes see that a batch failed; the slower one, with an emptier queue, draws no second lesson."""
    with running(world):
        first, second = sent(world, "openai", 3), _sent_as(world, "r2")
        error = {"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit reached", "param": None}
        world.emulator.control("POST", f"batches/{at_provider(world, second)}/end", {"as": "failed", "error": error})

        def meanwhile() -> None:
            loading.load_batch(world.store, world.provider("openai"), job_types(), second)
            limits.extend(world.rows("SELECT tokens FROM nightbatch.token_limit"))
            world.emulator.control("POST", f"batches/{at_provider(world, first)}/end", {"as": "completed"})
            world.load(first)

        limits: list[int] = []
        slow: Any = MeanwhileState(world.provider("openai"), meanwhile)
        loading.load_batch(world.store, slow, job_types(), second)
    assert len(limits) == 1
    assert world.rows("SELECT tokens FROM nightbatch.token_limit") == limits


class MeanwhileState(Meanwhile):
    """The same for the one call that is awaited."""

    def __init__(self, provider: BatchProvider, happens: Callable[[], object]) -> None:
        super().__init__(provider, "", happens)

    async def get_state(self, provider_batch_id: str) -> Any:
        state = await self._provider.get_state(provider_batch_id)
        thread = threading.Thread(target=self._happens)  # an event loop of its own
        thread.start()
        thread.join()
        return state


def _sent_as(world: World, run_id: str) -> int:
    world.insert("openai", 3)
    (batch,) = world.plan(run_id)
    assert world.submit_until_certain(batch) == batch.id
    return batch.id


def test_a_retry_leaves_alone_what_a_later_attempt_answered(world: World) -> None:
    batch_id = planned(world, "openai")
    end_unfinished(world, batch_id)
    assert [loaded.succeeded for loaded in world.night("r2")] == [3]
    with pytest.raises(NightbatchError, match="no job to send again"):
        retrying.retry(world.store, batch_id, by="ada", reason="they look unanswered")
    assert world.plan("r3") == []
    world.judge()


def test_two_retries_at_once_are_one_decision(world: World) -> None:
    world.insert("openai", 2, headline="[[emulator:misfit]]")
    (loaded,) = world.night("r1")
    refused: list[str] = []

    def second() -> None:
        with open_store(world.dsn) as store:
            try:
                retrying.retry(store, loaded.batch_id, by="bob", reason="at the same time")
            except NightbatchError as error:
                refused.append(str(error))

    other = threading.Thread(target=second)
    with world.store.transaction():
        retrying.retry(world.store, loaded.batch_id, by="ada", reason="first")
        other.start()
        _until_somebody_waits_for_a_lock(world)
    other.join()
    assert len(refused) == 1
    assert "no job to send again" in refused[0]
    assert world.rows("SELECT decided_by FROM nightbatch.decision") == ["ada"]


def _until_somebody_waits_for_a_lock(world: World) -> None:
    deadline = time.monotonic() + 20
    while world.rows("SELECT pid FROM pg_locks WHERE NOT granted") == []:
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.05)

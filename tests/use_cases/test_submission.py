"""Sending: whatever breaks on the way, a job is at the provider once, or waits, and the bill agrees."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from nightbatch.batches import recovery, submission
from nightbatch.core.errors import AccountRefused, ConfigurationError, SubmissionInDoubt, Throttled
from nightbatch.core.ledger import RunParams
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.postgres.store import open_store
from tests.use_cases.conftest import World


def test_a_night_over_three_providers_is_paid_once_and_loaded_whole(world: World) -> None:
    for name in ("openai", "anthropic", "gemini"):
        world.insert(name, 5)
    loaded = world.night("r1")
    assert [(row.jobs, row.succeeded) for row in loaded] == [(5, 5)] * 3
    assert set(world.states().values()) == {"succeeded"}
    world.judge()


@pytest.mark.fault(11)
def test_a_run_planned_again_gets_the_same_batches(world: World) -> None:
    world.insert("openai", 250)
    first = world.plan()
    world.insert("openai", 3)
    assert world.plan() == first
    assert [batch.job_count for batch in first] == [100, 100, 50]


def test_a_plan_reads_no_results_of_earlier_nights(world: World) -> None:
    """Also while Postgres has no statistics, and takes the few rows that matter for a third of the table."""

    def whole_reads() -> int:
        world.store.connection.execute("SELECT pg_stat_force_next_flush()")
        return int(world.rows("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'result'")[0])

    world.insert("openai", 5)
    world.night("r1")
    world.insert("openai", 5)
    before = whole_reads()
    assert [batch.job_count for batch in world.plan("r2")] == [5]
    assert whole_reads() == before


@pytest.mark.fault(10)
def test_two_plans_at_once_share_no_job(world: World) -> None:
    world.insert("openai", 120)
    found: list[int] = []

    def plan(run_id: str) -> None:
        with open_store(world.dsn) as store:
            batches = submission.plan_run(
                store, job_types(), world.settings, run_id=run_id, queued_before=None, params=RunParams()
            )
            found.append(sum(batch.job_count for batch in batches))

    threads = [threading.Thread(target=plan, args=(f"r{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 0, 0, 120]


def test_an_insert_under_way_during_a_plan_is_taken_by_the_next(world: World) -> None:
    with open_store(world.dsn) as slow, slow.transaction():
        early = slow.insert_job("creative_scoring", "openai", '{"headline": "committed late"}')
        later = world.insert("openai", 1)
        assert early < later[0]
        assert [batch.job_count for batch in world.plan("r1")] == [1]
    assert [batch.job_count for batch in world.plan("r2")] == [1]
    assert set(world.states().values()) == {"batched"}


def test_no_insert_is_passed_over_however_the_commits_cross(world: World) -> None:
    done, inserted = threading.Event(), 0
    counted = threading.Lock()

    def produce(seed: int) -> None:
        nonlocal inserted
        chance = random.Random(seed)
        with open_store(world.dsn) as store:
            while not done.is_set():
                with store.transaction():
                    for _ in range(chance.randint(1, 3)):
                        store.insert_job("creative_scoring", "openai", '{"headline": "crossing"}')
                        with counted:
                            inserted += 1
                        time.sleep(chance.choice((0, 0.001, 0.05)))

    threads = [threading.Thread(target=produce, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    planned, moved = 0, set()
    try:
        for number in range(200):
            planned += sum(batch.job_count for batch in world.plan(f"r{number}"))
            moved.add(world.rows("SELECT seen_before FROM nightbatch.gathered")[0])
            if number >= 11 and len(moved) > 6:
                break
    finally:
        done.set()
        for thread in threads:
            thread.join()
    planned += sum(batch.job_count for batch in world.plan("last"))
    assert planned == inserted
    assert len(moved) > 6, "the shortcut hardly ever moves while others insert"


def test_later_plans_read_no_more_while_postgres_vacuums_the_jobs(world: World) -> None:
    world.insert("openai", 3)
    with psycopg.connect(world.dsn) as vacuum:
        vacuum.execute("LOCK TABLE nightbatch.job IN SHARE UPDATE EXCLUSIVE MODE")  # what autovacuum holds, for minutes
        world.plan("r1")
        assert world.rows("SELECT bool_and(inserted_by < nightbatch.seen_before()) FROM nightbatch.job") == [True]


def test_a_scheduled_run_takes_what_was_queued_before_its_interval_ended(world: World) -> None:
    world.insert("openai", 2, created_at=datetime(2026, 11, 1, tzinfo=UTC))
    world.insert("openai", 3, created_at=datetime(2026, 11, 2, 1, tzinfo=UTC))
    batches = submission.plan_run(
        world.store,
        job_types(),
        world.settings,
        run_id="scheduled",
        queued_before=datetime(2026, 11, 2, tzinfo=UTC),
        params=RunParams(),
    )
    assert [batch.job_count for batch in batches] == [2]
    assert [batch.job_count for batch in world.plan("manual")] == [3]


def test_the_highest_priority_goes_first_when_a_run_is_limited(world: World) -> None:
    low, high = world.insert("openai", 3, priority=2), world.insert("openai", 2, priority=9)
    world.plan(max_jobs=3)
    states = world.states()
    assert [states[job] for job in high] == ["batched"] * 2
    assert [states[job] for job in low] == ["batched", "queued", "queued"]


def test_a_job_waits_for_its_not_before(world: World) -> None:
    world.insert("openai", 1, not_before=datetime.now(UTC) + timedelta(hours=1))
    assert world.plan("r1") == []
    assert set(world.states().values()) == {"queued"}


def test_a_job_that_is_for_later_waits_until_then(world: World) -> None:
    due = world.insert("openai", 1, not_before=world.store.now() - timedelta(hours=1))
    later = world.insert("openai", 1, not_before=world.store.now() + timedelta(seconds=2), priority=10)
    (batch,) = world.plan("r1")
    assert (batch.job_count, world.states()) == (1, {due[0]: "batched", later[0]: "queued"})
    assert world.plan("r2") == []
    while world.store.now() < world.rows("SELECT not_before FROM nightbatch.job WHERE id = %s", later[0])[0]:
        time.sleep(0.2)
    assert [batch.job_count for batch in world.plan("r3")] == [1]


@pytest.mark.fault(41)
def test_what_can_never_be_sent_is_rejected_with_the_reason_and_stops_nobody(world: World) -> None:
    world.insert("openai", 2)
    for job_type, text in (("clairvoyance", "{}"), ("creative_scoring", "{}"), ("creative_scoring", '{"headline": 1}')):
        world.store.insert_job(job_type, "openai", text)
    world.store.insert_job("creative_scoring", "openai", '{"headline": "half \\ud800 a character"}')
    assert [row.succeeded for row in world.night("r1")] == [2]
    reasons = world.rows("SELECT error FROM nightbatch.job_status WHERE state = 'rejected' ORDER BY job_id")
    assert reasons[0] == "there is no job type clairvoyance"
    assert reasons[1] == "headline: Field required"
    assert reasons[2] == "headline: Input should be a valid string"
    assert reasons[3].startswith("input: Invalid JSON")
    world.judge()


def test_inputs_come_as_the_bytes_that_were_inserted_whatever_the_clients_encoding(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ['{ "headline": "café “so”\\n🧪" }', '{\n\t"headline" : "a\\u0000\\ud800", "n": 1e400,\r\n "n": 1 }']
    for text in texts:
        world.store.insert_job("creative_scoring", "openai", text)
    (batch,) = world.plan()
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with open_store(world.dsn) as store:
        assert [job.input for job in store.batch_inputs(batch.id)] == [text.encode() for text in texts]
        assert [job.job_type for job in store.batch_inputs(batch.id, ["creative_scoring"])] == ["creative_scoring"] * 2
        assert list(store.batch_inputs(batch.id, [])) == []


def test_a_rendering_that_breaks_off_leaves_the_connection_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settings = replace(world.settings, max_batch_jobs=500)  # more than are read at once
    world.insert("openai", 500)
    (batch,) = world.plan()
    adapter = world.provider("openai")
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(adapter, "render", lambda *_: (_ for _ in ()).throw(MemoryError))
        submission.submit_batch(world.store, adapter, job_types(), world.settings, batch.id)
    assert world.store.batch(batch.id).state == "planned"
    assert list(Path(world.settings.work_dir).glob(f"{batch.tag}-*")) == []
    assert world.submit(batch) == batch.id


def test_jobs_of_a_type_whose_file_is_broken_wait_for_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "haiku.py").write_text("import no_such_module")
    monkeypatch.setenv("NIGHTBATCH_JOB_TYPES", str(tmp_path))
    world.store.insert_job("haiku", "openai", "{}")
    assert world.plan("r1") == []
    assert set(world.states().values()) == {"queued"}
    monkeypatch.delenv("NIGHTBATCH_JOB_TYPES")
    world.plan("r2")
    assert set(world.states().values()) == {"rejected"}


@pytest.mark.fault(40)
def test_a_job_larger_than_the_provider_takes_is_rejected_with_size_and_limit(world: World) -> None:
    world.store.connection.execute(
        "INSERT INTO nightbatch.job (job_type, provider, input)"
        " SELECT 'creative_scoring', 'openai', json_build_object('headline', repeat('x', 300000000))"
    )
    world.insert("openai", 1)
    assert [batch.job_count for batch in world.plan()] == [1]
    (reason,) = world.rows("SELECT error FROM nightbatch.job_status WHERE state = 'rejected'")
    assert reason.startswith("the request would have about 30000")
    assert reason.endswith("bytes; openai takes 190000000")


@pytest.mark.fault(19)
def test_nothing_queued_sends_nothing(world: World) -> None:
    assert world.plan() == []
    assert not [entry for entry in world.emulator.log() if entry["account"] == world.account]


def test_a_dry_run_tells_and_takes_nothing(world: World) -> None:
    world.insert("openai", 4)
    told = submission.preview(
        world.store, job_types(), world.settings, queued_before=None, params=RunParams(max_jobs=3)
    )
    assert [(one.job_type, one.provider, one.model, one.jobs) for one in told] == [
        ("creative_scoring", "openai", "gpt-6-luna", 3)
    ]
    assert set(world.states().values()) == {"queued"}
    assert [batch.job_count for batch in world.plan()] == [4]


@pytest.mark.fault(21)
@pytest.mark.parametrize("fault", ["lose_answer", "error_after"])
def test_a_create_whose_answer_was_lost_is_found_and_adopted(world: World, provider: ProviderName, fault: str) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    world.emulator.fault(provider, "batch_create", fault, times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    assert world.submit_until_certain(batch) == batch.id
    assert world.creates(provider) == 1
    assert world.load(batch.id).succeeded == 3
    world.judge()


@pytest.mark.fault(21)
@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_a_create_that_never_arrived_is_sent_again_by_a_successor(world: World, name: ProviderName) -> None:
    world.insert(name)
    (batch,) = world.plan()
    world.emulator.fault(name, "batch_create", "reset", times=1)
    successor = world.submit_until_certain(batch)
    assert successor is not None
    assert successor != batch.id
    assert world.store.batch(batch.id).state == "abandoned"
    assert world.load(successor).succeeded == 3
    world.judge()


@pytest.mark.fault(21)
@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_a_create_delivered_after_the_fence_is_refused_by_the_provider(world: World, name: ProviderName) -> None:
    world.insert(name)
    (batch,) = world.plan()
    world.emulator.fault(name, "batch_create", "deliver_late", times=1, delay_seconds=3600)
    successor = world.submit_until_certain(batch)
    assert successor not in (None, batch.id)
    assert world.emulator.let_the_late_arrive(world.account) == 1
    assert world.load(successor or 0).succeeded == 3
    world.judge()


@pytest.mark.fault(21)
def test_anthropics_create_that_never_arrived_is_held_for_a_person(world: World) -> None:
    world.insert("anthropic")
    (batch,) = world.plan()
    world.emulator.fault("anthropic", "batch_create", "reset", times=1)
    with pytest.raises(SubmissionInDoubt, match="before you release them"):
        world.submit_until_certain(batch)
    assert set(world.states().values()) == {"held"}
    assert [alert.kind for alert in world.store.open_alerts()] == ["held"]
    assert recovery.needs_a_person(world.store, "r1")[0].startswith(f"Batch {batch.id} (3 jobs)")
    with pytest.raises(SubmissionInDoubt):
        world.submit_until_certain(batch)
    assert world.creates("anthropic") <= 1
    world.judge()


def test_a_team_may_have_held_batches_sent_again_by_themselves(world: World) -> None:
    world.insert("anthropic")
    (batch,) = world.plan()
    world.emulator.fault("anthropic", "batch_create", "reset", times=1)
    with pytest.raises(SubmissionInDoubt, match="before you release them"):
        world.submit_until_certain(batch)
    world.settings = replace(world.settings, release_anthropic_after_hours=0.1 / 3600)
    successor = world.submit_until_certain(batch)
    assert successor not in (None, batch.id)
    assert world.load(successor or 0).succeeded == 3
    world.judge()


def test_a_held_batch_that_turns_up_late_is_adopted(world: World) -> None:
    world.insert("anthropic")
    (batch,) = world.plan()
    world.emulator.fault("anthropic", "batch_create", "lose_answer", times=1)
    world.emulator.fault("anthropic", "batch_list", "list_lag", delay_seconds=1.5, times=None)
    with pytest.raises(SubmissionInDoubt, match="before you release"):
        world.submit_until_certain(batch)
    world.emulator.control("DELETE", "faults")
    assert world.submit(batch) == batch.id
    assert world.load(batch.id).succeeded == 3
    world.judge()


@pytest.mark.fault(20)
def test_429_waits_as_told_and_nothing_is_looked_for(world: World, provider: ProviderName) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    world.emulator.fault(provider, "batch_create", "rate_limit", times=1, retry_after=7)
    with pytest.raises(Throttled) as caught:
        world.submit(batch)
    assert caught.value.retry_after == 7
    assert world.store.batch(batch.id).state == "uploaded"
    assert world.submit(batch) == batch.id
    asked = [entry["operation"] for entry in world.emulator.log(world.account)]
    assert asked.count("batch_create") == 2 and asked.count("batch_list") == 1  # before the first create
    assert world.load(batch.id).succeeded == 3
    world.judge()


@pytest.mark.fault(23)
def test_a_refused_key_sends_nothing_and_its_jobs_wait(world: World, provider: ProviderName) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    world.emulator.control("POST", "keys/revoke", {"key": f"emu-{world.account}"})
    with pytest.raises(AccountRefused):
        world.submit(batch)
    assert recovery.settle_run(world.store, "r1") == 3
    assert set(world.states().values()) == {"queued"}
    assert world.submit(batch) is None
    world.judge()


def test_another_account_never_sends_what_was_begun_by_the_first(world: World, provider: ProviderName) -> None:
    world.insert(provider)
    (batch,) = world.plan()
    world.emulator.fault(provider, "batch_create", "lose_answer", times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(batch)
    with pytest.raises(ConfigurationError, match="another"):
        world.submit(batch, account="somebody-else")
    assert world.submit_until_certain(batch) == batch.id
    world.load(batch.id)
    world.judge()


@pytest.mark.fault(9)
def test_two_processes_that_submit_the_same_batch_send_it_once(world: World, provider: ProviderName) -> None:
    world.insert(provider, 20)
    (batch,) = world.plan()
    outcomes: list[object] = []

    def submit() -> None:
        with open_store(world.dsn) as store:
            try:
                outcomes.append(
                    submission.submit_batch(store, world.provider(provider), job_types(), world.settings, batch.id)
                )
            except Exception as error:  # noqa: BLE001  the losing process may fail in several ways
                outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    final = world.submit_until_certain(batch)
    assert final is not None
    world.load(final)
    world.judge()


@pytest.mark.fault(36)
def test_a_retired_model_rejects_its_own_jobs_only(world: World, provider: ProviderName) -> None:
    gone = world.insert(provider, 2, model="no-such-model")
    fine = world.insert(provider, 2)
    world.night("r1")
    states = world.states()
    assert {states[job] for job in fine} == {"succeeded"}
    assert {states[job] for job in gone} <= {"rejected", "failed"}
    world.judge()


@pytest.mark.fault(15)
def test_a_changed_prompt_gets_a_new_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.insert("openai")
    (batch,) = world.plan()
    with monkeypatch.context() as patched:
        patched.setattr(world.store, "record_intent", lambda _: None)  # the process stops after the upload
        with pytest.raises(SubmissionInDoubt):
            world.submit(batch)
    monkeypatch.setattr(job_types()["creative_scoring"], "prompts", {"1": "Another prompt."})
    successor = world.submit(batch)
    assert successor not in (None, batch.id)
    assert world.store.batch(batch.id).error == "Its requests changed before it was sent."
    assert world.load(successor or 0).succeeded == 3
    world.judge()


@pytest.mark.fault(47)
def test_a_full_disk_fails_before_anything_is_sent(world: World) -> None:
    world.insert("openai")
    (batch,) = world.plan()
    world.settings = replace(world.settings, work_dir="/dev/full/nightbatch")
    with pytest.raises(OSError, match="/dev/full"):
        world.submit(batch)
    assert world.creates("openai") == 0
    assert world.store.batch(batch.id).state == "planned"


@pytest.mark.fault(22)
@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_an_upload_that_is_too_large_for_the_provider_goes_in_halves(world: World, name: ProviderName) -> None:
    world.insert(name, 4)
    (batch,) = world.plan()
    world.emulator.fault(name, "file_upload", "refuse", status=413, times=1)
    successor = world.submit_until_certain(batch)
    assert successor not in (None, batch.id)
    assert world.load(successor or 0).succeeded == 2
    assert [loaded.succeeded for loaded in world.night("r2")] == [2]
    world.judge()


MODEL = "gemini-3.5-flash-lite"


def test_geminis_two_names_of_a_model_are_one_batch_at_one_price(world: World) -> None:
    jobs = [world.insert("gemini", 1, model=model)[0] for model in (MODEL, f"models/{MODEL}", None)]
    world.insert("openai", 1, model=f"models/{MODEL}")
    mine, theirs = world.plan()
    assert (mine.model, mine.job_count) == (MODEL, 3)
    assert theirs.model == f"models/{MODEL}", "to OpenAI it is a name like any other"
    world.load(world.submit_until_certain(mine) or 0)
    assert [world.states()[job] for job in jobs] == ["succeeded"] * 3
    assert world.rows("SELECT count(batch_cost_usd) FROM nightbatch.result") == [3]


@pytest.mark.parametrize("usd", ["0", "1"])
def test_a_budget_of_either_name_holds_the_model(world: World, usd: str) -> None:
    world.insert("gemini", 2, model=MODEL)
    world.rows(
        "INSERT INTO nightbatch.budget (model, usd_per_night) VALUES (%s, %s) RETURNING id", f"models/{MODEL}", usd
    )
    assert len(world.plan()) == int(usd)

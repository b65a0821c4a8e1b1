"""A ledger that was copied, restored or moved: nothing is sent from it until a person has said so, and nothing is paid twice."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from nightbatch.batches import decisions, fallback, home, recovery, walk
from nightbatch.core.errors import ConfigurationError, Displaced, SubmissionInDoubt, Throttled
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.job_types import job_types
from nightbatch.postgres.store import open_store
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests import surroundings
from tests.use_cases.conftest import World
from tests.use_cases.steps import alerts, at_provider, planned, recover, sent, until_all_succeed
from tests.use_cases.test_roles import login

Backup = Callable[[World], World]


@pytest.fixture
def backup(world: World, postgres_server: EmbeddedPostgres) -> Iterator[Backup]:
    """Copy a world's database as it stands, to be put back later: another database of the server."""
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as admin, ExitStack() as kept:

        def copy(original: World) -> World:
            name, source = f"backup_{uuid.uuid4().hex[:12]}", conninfo_to_dict(original.dsn)["dbname"]
            home.require(original.store)  # which is at home from its first night on
            original.store.connection.close()
            # A pooler keeps its connections, and nobody may be connected to what is copied.
            admin.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", (source,))
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
            original.store = kept.enter_context(open_store(original.dsn))
            kept.callback(admin.execute, f"DROP DATABASE {name} WITH (FORCE)")
            dsn = surroundings.through(postgres_server.dsn(name))
            store = kept.enter_context(open_store(dsn))
            return World(dsn, store, original.emulator, replace(original.settings), original.account)

        yield copy


@pytest.fixture
def never_ending(world: World) -> Iterator[None]:
    """Batches end only when they are ended."""
    world.emulator.control("POST", "turnaround", {"seconds": 600})
    yield
    world.emulator.control("POST", "turnaround", {"seconds": 0.2})


def unchanged(world: World) -> None:
    """Let the server tell of itself what it told before, as after a disk snapshot was put back."""
    world.store.connection.execute(
        "UPDATE nightbatch.installation SET (system_identifier, timeline, database_oid)"
        " = (SELECT m.system_identifier, m.timeline, m.database_oid FROM nightbatch.server_marks() AS m)"
    )


def requests(world: World) -> list[str]:
    """What reached the providers besides looks."""
    looks = ("batch_list", "batch_get", "file_download")
    return [entry["operation"] for entry in world.emulator.log(world.account) if entry["operation"] not in looks]


@pytest.mark.fault(62)
def test_a_displaced_database_sends_cancels_fences_and_deletes_nothing(
    world: World, backup: Backup, provider: ProviderName
) -> None:
    loading = sent(world, provider)
    world.store.want_cancel(loading)
    world.insert(provider, 2, fallback=True, deadline="2020-01-01")
    world.insert(provider, 2)
    (planned,) = world.plan("r9")
    copy = backup(world)
    world.wait_for_the_end(loading)
    before = requests(world)
    for deed in (lambda: copy.plan("r10"), lambda: copy.submit(planned), lambda: copy.load(loading)):
        with pytest.raises(Displaced, match="another database of its server"):
            deed()
    assert any("nightbatch identify" in sentence for sentence in recover(copy))
    assert any(
        "nightbatch identify" in told
        for told in fallback.answer_urgent(copy.store, copy.provider, job_types(), copy.settings)
    )
    assert requests(world) == before
    assert alerts(copy) == ["displaced"]
    copy.store.record_hash(copy.store.batch(planned.id), "0" * 64, bytes(8 * planned.job_count))
    copy.store.bind_account(planned.id, "someone")
    uploaded = copy.store.record_upload(copy.store.batch(planned.id), None)
    assert uploaded is not None
    with pytest.raises(psycopg.IntegrityError, match="nothing is sent from this database"):
        copy.store.record_intent(uploaded)


@pytest.mark.fault(62)
def test_a_copy_becomes_an_installation_of_its_own_and_leaves_everything_to_the_original(
    world: World, backup: Backup
) -> None:
    for name in BUILT_IN:
        world.insert(name, 3)
    for batch in world.plan():
        world.submit(batch)
        world.insert(batch.provider, 2)
    copy = backup(world)
    told = home.say(copy.store, "copy", by="ada", reason="for staging")
    assert "3 attempts and 15 jobs" in told
    assert set(copy.states().values()) == {"cancelled"}
    for name in BUILT_IN:
        copy.insert(name, 1, headline="Its own")
    copy.night("of the copy")
    assert recover(copy) == []
    until_all_succeed_with_a_plan(world)
    recover(world)
    assert (alerts(copy), alerts(world)) == ([], [])
    bill = world.bill()
    assert len({line["custom_id"] for line in bill}) == len(bill) == 18
    assert sum(state == "succeeded" for state in copy.states().values()) == 3


def until_all_succeed_with_a_plan(world: World) -> None:
    world.night("the next")
    until_all_succeed(world)


@pytest.mark.fault(62)
def test_what_was_sent_since_the_backup_is_adopted_and_not_paid_again(
    world: World, backup: Backup, provider: ProviderName
) -> None:
    """Queued, planned and uploaded at the time of the backup: all three were sent after it."""
    world.insert(provider, 3, headline="Planned")
    (planned,) = world.plan("r1")
    world.insert(provider, 3, headline="Queued")
    restored = backup(world)
    world.submit(planned)
    (queued,) = world.plan("r2")
    world.submit(queued)
    for batch in (planned, queued):
        world.wait_for_the_end(batch.id)
    home.say(restored.store, "restored", by="ada", reason="the disk died")
    told = recover(restored)
    assert sum("is adopted" in sentence for sentence in told) == 2
    until_all_succeed(restored)
    recover(restored)
    assert alerts(restored) == []
    restored.judge()
    restored.insert(provider, 1)
    restored.night("the next")
    restored.judge()


@pytest.mark.fault(62)
def test_a_restored_ledger_waits_for_the_end_of_what_it_does_not_know(
    world: World, backup: Backup, never_ending: None, provider: ProviderName
) -> None:
    world.insert(provider, 3)
    restored = backup(world)
    (batch,) = world.plan()
    world.submit(batch)
    home.say(restored.store, "restored", by="ada", reason="the disk died")
    world.emulator.fault("openai", "batch_list", "refuse", status=500, times=None, account=world.account)
    (told,) = recover(restored)
    assert "The list of openai cannot be read" in told
    world.emulator.control("DELETE", "faults")
    (told,) = recover(restored)
    assert "still runs" in told
    assert recover(restored) == [told]
    with pytest.raises(Displaced):
        restored.plan("r2")
    found = world.store.batch(batch.id).provider_batch_id
    world.emulator.control("POST", f"batches/{found}/end", {"as": "completed"})
    until_all_succeed(restored)
    restored.judge()


@pytest.mark.fault(62)
def test_answers_that_are_gone_end_what_they_may_have_answered(world: World, backup: Backup) -> None:
    """OpenAI's results are deleted once they are loaded: which jobs they answered, nobody can tell any more."""
    world.insert("openai", 3)
    world.insert("anthropic", 2)
    restored = backup(world)
    world.night("r1", providers=("openai",))
    home.say(restored.store, "restored", by="ada", reason="the disk died")
    told = recover(restored)
    assert any("3 queued jobs that it may have answered end as" in sentence for sentence in told)
    restored.night("r1")
    states = sorted(restored.states().values())
    assert states == ["cancelled"] * 3 + ["succeeded"] * 2
    bill = world.bill()
    assert len(bill) == 5


@pytest.mark.fault(62)
def test_a_line_that_cannot_be_read_may_be_any_queued_jobs(world: World, backup: Backup) -> None:
    world.insert("anthropic", 3)
    world.insert("openai", 1)
    restored = backup(world)
    (batch,) = world.plan(providers=("anthropic",))
    world.submit(batch)
    world.wait_for_the_end(batch.id)
    world.insert("anthropic", 1)
    world.emulator.fault("anthropic", "file_download", "corrupt", times=None, account=world.account)
    home.say(restored.store, "restored", by="ada", reason="the disk died")
    told = recover(restored)
    world.emulator.control("DELETE", "faults")
    until_loaded(restored)
    restored.night("the next")
    assert any("Not all of its results can be read" in sentence for sentence in told)
    assert set(restored.states().values()) == {"succeeded", "cancelled"}
    bill = [line["custom_id"].partition("_")[0] for line in world.bill()]
    assert len(set(bill)) == len(bill) == 4


@pytest.mark.fault(61, 62)
def test_what_a_lost_ledger_sent_after_a_refused_create_is_adopted(
    world: World, backup: Backup, provider: ProviderName
) -> None:
    """The backup knows of the intent, and that it came to nothing: what the ledger learned since, it does not."""
    world.insert(provider, 3)
    (batch,) = world.plan()
    world.emulator.fault(provider, "batch_create", "refuse", status=429, times=1)
    with pytest.raises(Throttled):
        world.submit(batch)
    assert world.store.batch(batch.id).intent_at is not None
    restored = backup(world)
    world.submit_until_certain(batch)
    world.wait_for_the_end(batch.id)
    home.say(restored.store, "restored", by="me", reason="The disk died.")
    recover(restored)
    until_loaded(restored)
    until_all_succeed_with_a_plan(restored)
    restored.judge()


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that was read is not read again for what is a minute old, as for what is older than clocks may differ."""
    monkeypatch.setattr(walk, "_SKEW", timedelta(seconds=-60))


@pytest.mark.fault(62)
def test_what_a_lost_ledger_sent_once_more_after_a_doubt_is_not_paid_again(
    world: World, backup: Backup, provider: ProviderName, long_ago: None
) -> None:
    """The backup has it in doubt; since then it was settled, and its jobs went with another attempt."""
    in_doubt = planned(world, provider)
    world.emulator.fault(provider, "batch_create", "refuse", status=503, times=1)
    with pytest.raises(SubmissionInDoubt):
        world.submit(in_doubt)
    restored = backup(world)
    until_abandoned(world, in_doubt)
    world.night("r2")
    home.say(restored.store, "restored", by="me", reason="The disk died.")
    until_abandoned(restored, in_doubt)
    until_at_home(restored)
    restored.night("r3")
    assert sorted(line["custom_id"].partition("_")[0] for line in world.bill()) == ["j1", "j2", "j3"]


@pytest.mark.fault(62)
@pytest.mark.parametrize("at_the_backup", ["queued", "under way"])
def test_what_a_lost_ledger_sent_once_more_after_a_load_is_not_paid_again(
    world: World, backup: Backup, never_ending: None, provider: ProviderName, long_ago: None, at_the_backup: str
) -> None:
    """It ended without an answer since the backup, and its jobs went with another attempt."""
    if at_the_backup == "under way":
        under_way = sent(world, provider)
        restored = backup(world)
    else:
        world.insert(provider, 3)
        restored = backup(world)
        (planned_since,) = world.plan()
        under_way = planned_since.id
        world.submit_until_certain(under_way)
    world.emulator.control("POST", f"batches/{at_provider(world, under_way)}/end", {"as": "cancelled", "finished": 0})
    world.load(under_way)
    (again,) = [batch.id for batch in world.plan("r2")]
    world.submit_until_certain(again)
    world.emulator.control("POST", f"batches/{at_provider(world, again)}/end", {"as": "completed"})
    world.load(again)
    world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    home.say(restored.store, "restored", by="me", reason="The disk died.")
    until_at_home(restored)
    restored.night("r3")
    assert sorted(line["custom_id"].partition("_")[0] for line in world.bill()) == ["j1", "j2", "j3"]


def until_abandoned(world: World, batch_id: int) -> None:
    """It is found that it was never created, by a person where nothing else can."""
    deadline = time.monotonic() + 120
    while world.store.batch(batch_id).state != "abandoned":
        told = recover(world)
        if world.store.batch(batch_id).state == "held":
            decisions.release(world.store, batch_id, choice="resend", by="me", reason="It is not in the console.")
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def until_at_home(world: World) -> None:
    deadline = time.monotonic() + 120
    while world.rows("SELECT nightbatch.displaced()") != [None] or world.store.open_attempts():
        told = recover(world)
        for alert in world.store.open_alerts():
            if alert.kind == "attempt_stuck":  # OpenAI's results are gone, as a person knows
                decisions.release(world.store, int(alert.subject), choice="drop", by="me", reason="The disk died.")
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def until_loaded(world: World) -> None:
    deadline = time.monotonic() + 30
    while world.rows("SELECT count(*) FROM nightbatch.batch WHERE state = 'submitted'") != [0]:
        recover(world)
        assert time.monotonic() < deadline


@pytest.mark.fault(62)
def test_a_batch_of_an_attempt_that_was_closed_unsent_is_noticed_before_the_first_create(
    world: World, backup: Backup, provider: ProviderName
) -> None:
    """A snapshot was put back, and its run settles what it never sent, before anything is looked at."""
    world.insert(provider, 3)
    (batch,) = world.plan("r1")
    restored = backup(world)
    world.submit(batch)
    world.wait_for_the_end(batch.id)
    unchanged(restored)
    assert recovery.settle_run(restored.store, "r1") == 3
    assert restored.store.batch(batch.id).state == "abandoned"
    creates = world.creates(provider)
    (again,) = restored.plan("r2")
    with pytest.raises(Displaced, match="the ledger does not know it"):
        restored.submit(again)
    assert world.creates(provider) == creates


@pytest.mark.fault(62)
def test_a_disk_snapshot_put_back_is_noticed_before_the_first_create(
    world: World, backup: Backup, provider: ProviderName
) -> None:
    world.insert(provider, 3)
    restored = backup(world)
    (batch,) = world.plan()
    world.submit(batch)
    world.wait_for_the_end(batch.id)
    unchanged(restored)
    creates = world.creates(provider)
    (again,) = restored.plan()
    with pytest.raises(Displaced, match="the ledger does not know it"):
        restored.submit(again)
    assert world.creates(provider) == creates
    assert alerts(restored) == ["displaced"]
    home.say(restored.store, "restored", by="ada", reason="the snapshot of noon")
    recover(restored)
    until_all_succeed(restored)
    restored.judge()


def test_what_was_only_moved_goes_on_with_what_is_under_way(world: World, backup: Backup) -> None:
    for name in BUILT_IN:
        world.insert(name, 3)
    for batch in world.plan():
        world.submit(batch)
    world.insert("openai", 2)
    moved = backup(world)
    home.say(moved.store, "moved", by="ada", reason="a larger server")
    recover(moved)
    moved.night("the next")
    until_all_succeed(moved)
    assert alerts(moved) == []
    moved.judge()


def test_a_move_that_was_none_is_told_and_sends_nothing(world: World, backup: Backup, provider: ProviderName) -> None:
    world.insert(provider, 2)
    moved = backup(world)
    (batch,) = world.plan()
    world.submit(batch)
    world.wait_for_the_end(batch.id)
    home.say(moved.store, "moved", by="ada", reason="a larger server")
    (told,) = recover(moved)
    assert "It was no mere move" in told
    with pytest.raises(Displaced):
        moved.plan()


def test_the_worker_role_suffices_to_take_back_what_was_sent(world: World, backup: Backup) -> None:
    world.insert("openai", 2)
    restored = backup(world)
    (batch,) = world.plan()
    world.submit(batch)
    world.wait_for_the_end(batch.id)
    with login(restored.dsn, "nightbatch_worker") as dsn, open_store(dsn) as store:
        theirs = replace(restored, store=store)
        home.say(store, "restored", by="ada", reason="the disk died")
        recover(theirs)
        until_all_succeed(theirs)
    restored.judge()


def test_of_a_database_at_home_there_is_nothing_to_say(world: World) -> None:
    (job,) = world.insert("openai", 1)
    with pytest.raises(ConfigurationError, match="the clone of a disk"):
        home.say(world.store, "copy", by="ada", reason="by mistake")
    assert world.states() == {job: "queued"}
    with pytest.raises(ConfigurationError, match="nothing to say"):
        home.say(world.store, "moved", by="ada", reason="no")


def test_the_first_create_of_a_run_costs_one_look_at_each_accounts_list(world: World, provider: ProviderName) -> None:
    world.settings = replace(world.settings, max_batch_jobs=1)
    world.insert(provider, 3)
    world.night("r1")
    assert sum(entry["operation"] == "batch_list" for entry in world.emulator.log(world.account)) == 1

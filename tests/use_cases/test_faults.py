"""Faults of processes and of the database; docs/reliability.md lists all faults, and who holds them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import psycopg
import pytest
from google import genai

from nightbatch.batches import loading, submission
from nightbatch.core.errors import NightbatchError, SubmissionInDoubt
from nightbatch.core.ledger import RunParams
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.postgres.store import Store, open_store
from tests.use_cases import killed
from tests.use_cases.conftest import World
from tests.use_cases.severed import Wire, wire_to
from tests.use_cases.steps import planned, sent, wait_for_end


def die(world: World, work: killed.Work, batch_id: int, **dies: str) -> None:
    """Let a process of its own be killed at this work."""
    name = world.store.batch(batch_id).provider
    url = getattr(world.emulator, f"{name}_url")
    ended = killed.run(work, batch_id, dsn=world.dsn, provider=name, key=f"emu-{world.account}", url=url, **dies)
    assert ended == -signal.SIGKILL


# -- a process dies


@pytest.mark.fault(1)
def test_a_process_killed_after_the_create_leaves_a_batch_that_is_found_again(
    world: World, provider: ProviderName
) -> None:
    batch_id = planned(world, provider)
    die(world, "submit", batch_id, after="submit")
    left = world.store.batch(batch_id)
    assert (left.state, left.provider_batch_id, world.creates(provider)) == ("submitting", None, 1)
    found = world.provider(provider).find_submission(left.submission)
    assert [batch.certain for batch in found] == [provider != "anthropic"]
    assert world.submit_until_certain(batch_id) == batch_id
    assert world.creates(provider) == 1
    assert world.load(batch_id).succeeded == 3
    world.judge()


@pytest.mark.fault(2)
@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_a_process_killed_in_its_upload_leaves_a_free_file_that_goes_by_its_name(
    world: World, name: ProviderName
) -> None:
    batch_id = planned(world, name)
    die(world, "submit", batch_id, after="upload")
    left = world.store.batch(batch_id)
    assert (left.state, left.input_file, world.creates(name)) == ("planned", None, 0)
    assert [file["name"] for file in files_of(world, name, left.tag)] == [left.tag]
    assert world.load(world.submit_until_certain(batch_id) or 0).succeeded == 3
    assert [file["days"] for file in files_of(world, name, left.tag)] == [14.0 if name == "openai" else 2.0]
    world.judge()


def files_of(world: World, name: ProviderName, tag: str) -> list[dict[str, Any]]:
    """The input files of this tag at the provider, with the days after which it deletes them by itself."""
    key = f"emu-{world.account}"
    if name == "gemini":
        client = genai.Client(api_key=key, http_options={"base_url": world.emulator.gemini_url})
        names = [str(file.name).removeprefix("files/") for file in client.files.list()]
        return [{"name": tag, "days": 2.0} for found in names if found.startswith(tag)]
    files = openai.OpenAI(api_key=key, base_url=world.emulator.openai_url).files.list()
    return [
        {"name": file.filename.removesuffix(".jsonl"), "days": ((file.expires_at or 0) - file.created_at) / 86_400}
        for file in files
        if file.filename == f"{tag}.jsonl"
    ]


@pytest.mark.fault(3)
def test_a_process_killed_in_the_middle_of_a_load_has_written_nothing(world: World) -> None:
    batch_id = sent(world, "openai")
    wait_for_end(world, batch_id)
    die(world, "load", batch_id, before="close_loaded")
    assert world.rows("SELECT job_id FROM nightbatch.result") == []
    assert set(world.states().values()) == {"batched"}
    assert world.load(batch_id).succeeded == 3
    world.judge()


# -- the database goes away


@pytest.mark.fault(4)
def test_a_connection_lost_in_a_copy_is_rolled_back_and_the_load_runs_again(world: World) -> None:
    batch_id = sent(world, "openai", 30)
    wait_for_end(world, batch_id)
    provider = world.provider("openai")
    whole = provider.iter_results
    with open_store(world.dsn) as store:

        def cut(*args: Any) -> Iterator[Any]:
            for place, line in enumerate(whole(*args)):
                if place == 10:
                    copying = "datname = current_database() AND state = 'active' AND query LIKE '%%COPY %%'"
                    copying += " AND pid <> pg_backend_pid()"
                    ended = world.rows(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {copying}")
                    assert ended == [True]
                yield line

        provider.iter_results = cut  # type: ignore[method-assign, assignment]
        with pytest.raises(psycopg.OperationalError):
            loading.load_batch(store, provider, job_types(), batch_id)
    assert world.rows("SELECT job_id FROM nightbatch.result") == []
    assert world.load(batch_id).succeeded == 30
    world.judge()


def night(store: Store, world: World, wire: Wire | None = None, commit_of: str = "") -> None:
    """One run on this store; before the work that ``commit_of`` names, the wire is told to break at the next commit."""

    def expect(work: str) -> None:
        if wire and work == commit_of:
            wire.cut_at = b"COMMIT"

    provider, types = world.provider("openai"), job_types()
    expect("plan")
    (batch,) = submission.plan_run(store, types, world.settings, run_id="r1", queued_before=None, params=RunParams())
    found: int | None = None
    while found is None:
        try:
            found = submission.submit_batch(store, provider, types, world.settings, batch.id)
        except SubmissionInDoubt as doubt:
            time.sleep(doubt.look_again_in or 0)
    wait_for_end(world, found)
    expect("load")
    loading.load_batch(store, provider, types, found)


@pytest.mark.fault(5)
@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("at", ["plan", "record_hash", "record_upload", "record_intent", "record_submission", "load"])
def test_a_commit_of_unknown_outcome_is_settled_by_reading_the_attempt_again(
    world: World, at: str, arrives: bool
) -> None:
    world.insert("openai", 3)
    with wire_to(world.dsn) as wire:
        wire.arrives = arrives
        wire.cut_at = b"" if at in ("plan", "load") else f"-- {at}:".encode()
        with pytest.raises(psycopg.OperationalError), open_store(wire.dsn) as store:
            night(store, world, wire, at)
        assert wire.cuts == 1
    night(world.store, world)
    assert world.creates("openai") == 1
    assert set(world.states().values()) == {"succeeded"}
    world.judge()


# -- two of the same


@pytest.mark.fault(9)
@pytest.mark.parametrize("at", ["upload", "record_intent", "submit"])
def test_a_zombie_that_wakes_beside_its_retry_sends_nothing_more(world: World, provider: ProviderName, at: str) -> None:
    """It sleeps after its upload, before its intent, or with the answer to its create in hand."""
    batch_id = planned(world, provider)
    asleep, awake = threading.Event(), threading.Event()
    ends: list[int | str | None] = []

    def zombie() -> None:
        client = world.provider(provider)
        with open_store(world.dsn) as store:
            thing: Any = store if at == "record_intent" else client
            whole = getattr(thing, at)

            def sleep(*args: Any) -> Any:
                found = None if at == "record_intent" else whole(*args)
                asleep.set()
                assert awake.wait(60)
                return whole(*args) if at == "record_intent" else found

            setattr(thing, at, sleep)
            try:
                ends.append(submission.submit_batch(store, client, job_types(), world.settings, batch_id))
            except NightbatchError as error:
                ends.append(str(error))

    thread = threading.Thread(target=zombie)
    thread.start()
    assert asleep.wait(60)
    assert world.submit_until_certain(batch_id) == batch_id
    awake.set()
    thread.join(60)
    assert ends == [batch_id if at == "submit" else f"Batch {batch_id} was moved on by another process."]
    assert world.creates(provider) == 1
    assert world.load(batch_id).succeeded == 3
    world.judge()

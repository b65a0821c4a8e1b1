"""Videos and frames: found in the folder, uploaded once, paid once, deleted after."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from nightbatch.batches import loading, submission
from nightbatch.core import profiles
from nightbatch.core.errors import ConfigurationError, ReconciliationError, Throttled
from nightbatch.core.ledger import Batch
from nightbatch.core.models import Limits, Media, Prompt, ProviderName
from nightbatch.core.profiles import profile
from nightbatch.job_types import job_types
from nightbatch.jobs import media
from nightbatch.postgres import media as rows
from nightbatch.postgres.store import open_store
from tests.samples import broken_mp4, mp4, png
from tests.unguarded import unguarded
from tests.use_cases import killed
from tests.use_cases.conftest import World


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    """The media folder of this test."""
    made = tmp_path / "media"
    made.mkdir()
    world.settings = replace(world.settings, media_dir=str(made))
    return made


def write(folder: Path, name: str, body: bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return name


def insert(world: World, provider: str, **job: Any) -> int:
    return world.store.insert_job("video_analysis", provider, json.dumps(job))


def frames(folder: Path, count: int, side: int = 4, *, name: str = "f") -> list[str]:
    return [write(folder, f"{name}/{number}.png", png(side, side, seed=number)) for number in range(count)]


def error_of(world: World, job: int) -> str:
    (found,) = world.rows("SELECT error FROM nightbatch.job_status WHERE job_id = %s", job)
    return str(found)


def uploads(world: World) -> int:
    """Media that reached Gemini; an upload of a batch's input is named after its tag."""
    return len(world.rows("SELECT id FROM nightbatch.media"))


def at_gemini(world: World) -> list[str]:
    """The media that Gemini still has of this account."""
    url = f"{world.emulator.gemini_url}/v1beta/files?pageSize=100"
    found = httpx.get(url, headers={"x-goog-api-key": f"emu-{world.account}"}, trust_env=False).json()
    names = [file["name"] for file in found.get("files", [])]
    return sorted(name for name in names if name.startswith("files/nbm-"))


def delete_at_gemini(world: World) -> None:
    """As a person would, in the console."""
    for name in at_gemini(world):
        url = f"{world.emulator.gemini_url}/v1beta/{name}"
        httpx.delete(url, headers={"x-goog-api-key": f"emu-{world.account}"}, trust_env=False).raise_for_status()


def upload_calls(world: World) -> int:
    return sum(entry["operation"] == "file_upload" for entry in world.emulator.log(world.account))


# -- what goes through


def test_a_video_is_uploaded_once_for_all_jobs_about_it_and_deleted_after_the_load(world: World, folder: Path) -> None:
    body = mp4(20)
    names = [write(folder, name, body) for name in ("a.mp4", "b/copy.mp4", "no_ending")]
    jobs = [insert(world, "gemini", file=name, question=f"{place}?") for place, name in enumerate(names * 2)]
    (batch,) = world.plan()
    world.submit_until_certain(batch)
    assert len(at_gemini(world)) == uploads(world) == 1
    loaded = world.load(batch.id)
    assert (loaded.jobs, loaded.succeeded) == (6, 6)
    assert at_gemini(world) == []
    assert world.rows("SELECT deleted_at IS NOT NULL FROM nightbatch.media") == [True]
    assert {line["input_tokens"] >= 20 * 258 for line in world.bill()} == {True}, "the video was watched"
    output = world.rows("SELECT output FROM nightbatch.result WHERE job_id = %s", jobs[0])[0]
    assert {"summary", "scenes", "hook", "on_screen_text", "brand", "verdict"} <= set(output)
    world.judge()


def test_frames_go_to_every_provider_inside_the_request(world: World, folder: Path, provider: ProviderName) -> None:
    insert(world, provider, frames=frames(folder, 5), fps=0.5, language="German")
    ((jobs, succeeded),) = [(row.jobs, row.succeeded) for row in world.night("r1")]
    assert (jobs, succeeded) == (1, 1), world.rows("SELECT error FROM nightbatch.result")
    assert uploads(world) == 0
    assert world.bill()[0]["input_tokens"] >= 5 * 258
    world.judge()


def test_gemini_opens_what_a_job_refers_to(world: World, folder: Path) -> None:
    """A file of the account's own, and a video of YouTube; nightbatch fetches neither."""
    insert(world, "gemini", uri="https://youtu.be/dQw4w9WgXcQ?t=3", fps=2)
    unknown = insert(world, "gemini", uri="files/never-there")
    world.night("r1")
    assert sorted(world.states().values()) == ["queued", "succeeded"]
    for run in ("r2", "r3"):
        world.night(run)
    assert world.states()[unknown] == "failed"
    assert "PERMISSION_DENIED" in error_of(world, unknown)
    assert world.bill()[0]["input_tokens"] >= 60 * 2 * 258
    world.judge()


def test_images_too_large_for_a_request_are_uploaded(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nightbatch.jobs import media_types

    gemini = profile("gemini")
    monkeypatch.setattr(media_types, "profile", lambda _: replace(gemini, media=replace(gemini.media, inside=200)))
    insert(world, "gemini", frames=frames(folder, 3))
    assert [row.succeeded for row in world.night("r1")] == [1]
    assert uploads(world) == 3
    assert at_gemini(world) == []


# -- what is refused


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_video_is_rejected_where_nobody_can_watch_it(world: World, folder: Path, name: str) -> None:
    jobs = [
        insert(world, name, file=write(folder, "a.mp4", mp4())),
        insert(world, name, uri="https://youtu.be/dQw4w9WgXcQ"),
        insert(world, name, uri="files/abc"),
    ]
    image = insert(world, name, file=write(folder, "still.png", png()))
    world.night("r1")
    title = {"openai": "OpenAI", "anthropic": "Anthropic"}[name]
    assert [error_of(world, job) for job in jobs] == [f"{title} cannot watch videos: give frames"] * 3
    assert world.states()[image] == "succeeded"
    world.judge()


def test_nothing_outside_of_the_media_folder_is_read(world: World, folder: Path, provider: ProviderName) -> None:
    secret = folder.parent / "secret.png"
    secret.write_bytes(png(seed=99))
    (folder / "link.png").symlink_to(secret)
    (folder / "way").symlink_to(folder.parent)
    (folder / "round").symlink_to(folder / "round")
    write(folder, "notes.txt", b"plain text, not a picture")
    inside = frames(folder, 1)[0]
    names = [
        str(folder / inside), f"f/../{inside}", str(secret), "../secret.png", "way/secret.png", "link.png", "..", ".",
        "x/../../secret.png", "/etc/passwd", "/proc/self/environ", "round", "missing.png", "a\0b.png", "n" * 1024,
        "notes.txt", "~/secret.png", "file:///etc/passwd",
    ]  # fmt: skip
    jobs = [insert(world, provider, file=name) for name in names]
    jobs += [insert(world, provider, frames=[inside, name]) for name in names]
    assert [row.jobs for row in world.night("r1")] == []
    assert {world.states()[job] for job in jobs} == {"rejected"}
    for job in jobs:
        assert "media" in error_of(world, job)
        assert "secret" not in error_of(world, job)
    assert world.bill() == []


def test_a_video_that_gemini_cannot_process_costs_its_own_job_only(world: World, folder: Path) -> None:
    good = insert(world, "gemini", file=write(folder, "good.mp4", mp4()))
    bad = insert(world, "gemini", file=write(folder, "bad.mp4", broken_mp4()))
    world.night("r1")
    assert (world.states()[good], world.states()[bad]) == ("succeeded", "rejected")
    assert error_of(world, bad) == "gemini refused the file: Gemini could not process the uploaded file."
    world.judge()


def test_without_the_setting_files_are_refused_and_without_the_folder_everything_waits(
    world: World, folder: Path
) -> None:
    media_dir = world.settings.media_dir
    name = write(folder, "a.mp4", mp4())
    refused = insert(world, "gemini", file=name)
    world.settings = replace(world.settings, media_dir="")
    world.night("r1")
    assert "NIGHTBATCH_MEDIA_DIR" in error_of(world, refused)
    waits = insert(world, "gemini", file=name)
    world.settings = replace(world.settings, media_dir=f"{media_dir}-not-mounted")
    (batch,) = world.plan("r2")
    with pytest.raises(ConfigurationError, match="is no folder on this worker"):
        world.submit(batch)
    world.settings = replace(world.settings, media_dir=media_dir)
    world.submit_until_certain(batch)
    world.load(batch.id)
    assert world.states()[waits] == "succeeded"
    world.judge()


def small(monkeypatch: pytest.MonkeyPatch, provider: ProviderName, *, file: int, request: int) -> None:
    """A provider that takes little, so that a test need not write 200 MB."""
    limits = Limits(max_requests=1000, max_bytes=file, max_request_bytes=request)
    facts, broken = profiles._found()
    found = {**facts, provider: replace(facts[provider], limits=limits)}
    monkeypatch.setattr(profiles, "_found", lambda: (found, broken))


def test_a_job_too_large_for_any_file_is_rejected_with_size_and_limit(
    world: World, folder: Path, provider: ProviderName, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, provider, file=250_000, request=200_000)
    large = insert(world, provider, frames=frames(folder, 3, 200))
    fits = insert(world, provider, frames=frames(folder, 1, 20, name="small"))
    world.night("r1")
    assert world.states() == {large: "rejected", fits: "succeeded"}
    reason = error_of(world, large)
    assert reason.startswith("the request has 48") and reason.endswith(f"bytes; {provider} takes 200000"), reason


def test_a_text_that_grows_beyond_the_limit_is_rejected_and_not_postponed_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, "openai", file=250_000, request=200_000)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    job = {"template": "$a" * 100, "values": {"a": "x" * 3000}, "schema": schema}
    grown = world.store.insert_job("bulk_predictions", "openai", json.dumps(job))
    world.night("r1")
    assert world.states()[grown] == "rejected"
    assert "takes 200000" in error_of(world, grown)


def test_a_night_of_many_frame_jobs_is_cut_into_files_that_hold_them_all(
    world: World, folder: Path, provider: ProviderName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the frames weigh: their names alone would put all of them into one file, and most would wait a night."""
    small(monkeypatch, provider, file=1_000_000, request=400_000)
    world.insert(provider, 5)
    jobs = [insert(world, provider, frames=frames(folder, 2, 200, name=str(n))) for n in range(9)]  # 320 kB each
    batches = world.plan()
    assert 5 <= len(batches) <= 9
    for batch in batches:
        world.submit_until_certain(batch)
        world.load(batch.id)
    assert {world.states()[job] for job in jobs} == {"succeeded"}
    assert world.plan("r2") == []
    world.judge()


def test_a_night_of_many_videos_is_cut_so_that_gemini_can_keep_their_uploads(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemini keeps ten times as many bytes of uploads as it takes in a file; a video counts once, however many ask about it."""
    small(monkeypatch, "gemini", file=600_000, request=590_000)
    same = write(folder, "same.mp4", mp4(seed=99, size=400_000))
    for _ in range(10):
        insert(world, "gemini", file=same, question="Why?")
    assert [batch.job_count for batch in world.plan("r1")] == [10]
    for number in range(6):
        insert(world, "gemini", file=write(folder, f"{number}.mp4", mp4(seed=number, size=1_000_000)))
    assert len(world.plan("r2")) >= 3


def test_frames_do_not_count_as_text_in_what_a_plan_expects(world: World, folder: Path) -> None:
    """A picture of a megabyte is not a quarter of a million tokens."""
    insert(world, "openai", frames=frames(folder, 2, 600))
    (batch,) = world.plan()
    (tokens,) = world.rows("SELECT sum(input_tokens) FROM nightbatch.batch_estimate WHERE batch_id = %s", batch.id)
    assert 100 < tokens < 5000


# -- killed, expired, deleted, shared


@pytest.mark.parametrize(
    ("dies", "uploaded"),
    [
        ({"before": "upload_media"}, 1),
        ({"after": "upload_media"}, 2),  # an orphan, which is free
        ({"before": "record_hash"}, 1),
        ({"after": "record_hash"}, 1),
        ({"after": "upload"}, 1),
        ({"after": "record_upload"}, 1),
        ({"before": "record_intent"}, 1),
    ],
)
def test_a_kill_around_the_upload_pays_once_and_uses_what_was_uploaded(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, dies: dict[str, str], uploaded: int
) -> None:
    monkeypatch.setenv("NIGHTBATCH_MEDIA_DIR", str(folder))
    insert(world, "gemini", file=write(folder, "a.mp4", mp4()))
    (batch,) = world.plan()
    place = {"dsn": world.dsn, "provider": "gemini", "key": f"emu-{world.account}", "url": world.emulator.gemini_url}
    assert killed.run("submit", batch.id, **place, **dies) == -9
    assert world.submit_until_certain(batch) == batch.id, "the same uri, so the same requests"
    assert len(at_gemini(world)) == uploaded
    assert uploads(world) == 1
    assert world.load(batch.id).succeeded == 1
    assert world.creates("gemini") == 1
    world.judge()


def test_a_kill_before_the_deletion_leaves_a_file_that_expires(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTBATCH_MEDIA_DIR", str(folder))
    name = write(folder, "a.mp4", mp4())
    insert(world, "gemini", file=name)
    (batch,) = world.plan()
    world.submit_until_certain(batch)
    place = {"dsn": world.dsn, "provider": "gemini", "key": f"emu-{world.account}", "url": world.emulator.gemini_url}
    world.emulator.control("POST", f"batches/{world.store.batch(batch.id).provider_batch_id}/end", {"as": "completed"})
    assert killed.run("load", batch.id, **place, before="delete_media") == -9
    assert world.load(batch.id).succeeded == 1
    insert(world, "gemini", file=name)
    assert [row.succeeded for row in world.night("r2")] == [1], "what was to be deleted is not used again"
    assert uploads(world) == 2
    world.judge()


def waiting(world: World, folder: Path) -> Batch:
    """An attempt that is frozen and uploaded, and was told to wait."""
    insert(world, "gemini", file=write(folder, "a.mp4", mp4()))
    (batch,) = world.plan()
    world.emulator.fault("gemini", "batch_create", "refuse", status=429, account=world.account)
    with pytest.raises(Throttled):
        world.submit(batch)
    assert world.store.batch(batch.id).state == "uploaded"
    return batch


@pytest.mark.parametrize("how", ["about to expire", "expired", "deleted"])
def test_media_that_are_gone_while_an_attempt_waits_are_uploaded_again_for_its_successor(
    world: World, folder: Path, how: str
) -> None:
    batch = waiting(world, folder)
    if how == "deleted":
        delete_at_gemini(world)
    else:
        hours = 25 if how == "about to expire" else -1
        world.store.connection.execute(
            "UPDATE nightbatch.media SET expires_at = now() + make_interval(hours => %s)", (hours,)
        )
    sent = world.submit_until_certain(batch)
    assert sent is not None and sent != batch.id
    assert world.store.batch(sent).replaces == batch.id, "one successor, and no loop"
    assert world.load(sent).succeeded == 1
    assert uploads(world) == 2
    world.judge()


def test_media_deleted_while_the_batch_runs_cost_nothing_and_go_again(world: World, folder: Path) -> None:
    world.emulator.control("POST", "turnaround", {"seconds": 60})
    insert(world, "gemini", file=write(folder, "a.mp4", mp4()))
    (batch,) = world.plan()
    world.submit_until_certain(batch)
    delete_at_gemini(world)
    world.emulator.control("POST", f"batches/{world.store.batch(batch.id).provider_batch_id}/end", {"as": "completed"})
    world.emulator.control("POST", "turnaround", {"seconds": 0.2})
    assert world.load(batch.id).requeued == 1
    assert [row.succeeded for row in world.night("r2")] == [1]
    assert uploads(world) == 2
    world.judge()


def test_an_upload_stays_while_another_open_attempt_refers_to_it(world: World, folder: Path) -> None:
    world.settings = replace(world.settings, max_batch_jobs=1)
    name = write(folder, "a.mp4", mp4())
    for _ in range(2):
        insert(world, "gemini", file=name)
    first, second = world.plan()
    for batch in (first, second):
        world.submit_until_certain(batch)
    assert uploads(world) == 1
    assert world.load(first.id).succeeded == 1
    assert len(at_gemini(world)) == 1
    assert world.load(second.id).succeeded == 1
    assert at_gemini(world) == []
    world.judge()


def test_of_two_attempts_at_once_one_uploads(world: World, folder: Path) -> None:
    world.settings = replace(world.settings, max_batch_jobs=1)
    name = write(folder, "a.mp4", mp4())
    for _ in range(4):
        insert(world, "gemini", file=name)
    together(lambda batch_id: submit_alone(world, batch_id), [batch.id for batch in world.plan()])
    assert len(at_gemini(world)) == uploads(world) == 1
    assert len(world.rows("SELECT batch_id FROM nightbatch.media_use")) == 4


def submit_alone(world: World, batch_id: int) -> None:
    with open_store(world.dsn) as store:
        submission.submit_batch(store, world.provider("gemini"), job_types(), world.settings, batch_id)


def together(work: Callable[[int], None], ids: list[int]) -> None:
    with ThreadPoolExecutor(len(ids)) as pool:
        list(pool.map(work, ids))  # raises what one of them raised


def test_loads_and_submits_at_once_never_take_a_file_from_an_attempt(world: World, folder: Path) -> None:
    """A load deletes what it finds unused while others begin to use the same content."""
    world.settings = replace(world.settings, max_batch_jobs=1)
    name = write(folder, "a.mp4", mp4())
    for _ in range(6):
        insert(world, "gemini", file=name)
    batches = [batch.id for batch in world.plan()]
    world.submit_until_certain(batches[0])

    def work(batch_id: int) -> None:
        with open_store(world.dsn) as store:
            provider = world.provider("gemini")
            sent = submission.submit_batch(store, provider, job_types(), world.settings, batch_id)
            assert sent is not None
            while store.batch(sent).state != "loaded":
                with suppress(ReconciliationError):  # it still runs
                    loading.load_batch(store, provider, job_types(), sent)

    together(work, batches)
    assert Counter(world.states().values()) == {"succeeded": 6}
    assert at_gemini(world) == []
    world.judge()


def test_a_use_that_is_under_way_keeps_a_file_from_being_taken_for_unused(world: World, folder: Path) -> None:
    """The load has looked and found nobody; what it then waits for is the very attempt that begins to use the file."""
    world.settings = replace(world.settings, max_batch_jobs=1)
    name = write(folder, "a.mp4", mp4())
    for _ in range(2):
        insert(world, "gemini", file=name)
    first, second = world.plan()
    world.submit_until_certain(first)
    with unguarded(world.store.connection):
        world.store.connection.execute(
            "UPDATE nightbatch.batch SET closed_at = now(), state = 'loaded' WHERE id = %s", (first.id,)
        )
    account = world.provider("gemini").account
    (sha256,) = world.rows("SELECT sha256 FROM nightbatch.media")
    retired: list[list[str]] = []

    def retire() -> None:
        with open_store(world.dsn) as store:
            retired.append(rows.retire(store, "gemini", account))

    with open_store(world.dsn) as watch, world.store.transaction():
        assert rows.use(world.store, rows.Content("gemini", account, sha256), second.id)
        thread = threading.Thread(target=retire)
        thread.start()
        waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not watch.connection.execute(waits).fetchall():  # not inside the transaction, which sees one moment only
            assert thread.is_alive(), "it did not wait"
    thread.join()
    assert retired == [[]]


def test_a_frame_that_changes_before_the_create_gets_a_new_attempt(world: World, folder: Path) -> None:
    names = frames(folder, 1)
    insert(world, "openai", frames=names)
    (batch,) = world.plan()
    world.emulator.fault("openai", "batch_create", "refuse", status=429, account=world.account)
    with pytest.raises(Throttled):
        world.submit(batch)
    write(folder, names[0], png(seed=5))
    sent = world.submit_until_certain(batch)
    assert sent not in (None, batch.id)
    world.load(sent or 0)
    world.judge()


def test_one_request_by_itself_is_looked_up_as_a_file_of_them_is(world: World, folder: Path) -> None:
    """For the realtime API, which has no input file."""
    text = json.dumps({"file": write(folder, "a.mp4", mp4())})
    world.store.insert_job("video_analysis", "gemini", text)
    (batch,) = world.plan()
    request = job_types()["video_analysis"].render_request(text.encode())
    found = media.looked_up(world.store, world.provider("gemini"), batch, request, world.settings)
    assert isinstance(found, Prompt)
    assert found.media == (Media(uri=found.media[0].uri, mime_type="video/mp4"),)
    assert uploads(world) == 1
    assert world.submit_until_certain(batch) == batch.id
    assert uploads(world) == 1


def test_a_reprocessing_brings_its_past_jobs_media(world: World, folder: Path) -> None:
    past = insert(world, "gemini", file=write(folder, "a.mp4", mp4()))
    world.night("r1")
    again = world.store.insert_job("historical_reprocessing", "gemini", json.dumps({"job_id": past}))
    assert [row.succeeded for row in world.night("r2")] == [1]
    assert world.states()[again] == "succeeded"
    assert uploads(world) == 2
    world.judge()

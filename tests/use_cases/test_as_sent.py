"""A request is shown as it was sent, or it is said that it is not: eight bytes of each are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from nightbatch.batches import as_sent, fallback, retention
from nightbatch.batches.as_sent import Rendering
from nightbatch.core.errors import NotFound, Throttled
from nightbatch.core.models import ProviderName, Submission
from nightbatch.core.provider import BatchProvider
from nightbatch.job_types import job_types
from tests.samples import mp4, png
from tests.unguarded import unguarded
from tests.use_cases.conftest import World


@pytest.fixture
def went_out(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """The lines that were handed to the create, by custom_id."""
    lines: dict[str, bytes] = {}
    for name in ("openai", "anthropic", "gemini"):
        adapter: Any = type(world.provider(name))
        monkeypatch.setattr(adapter, "submit", _noting(lines, adapter.submit))
    yield lines


def _noting(lines: dict[str, bytes], submit: Any) -> Any:
    def noted(self: BatchProvider, submission: Submission, path: Path) -> str:
        for line in path.read_bytes().splitlines():
            request = json.loads(line)
            lines[request.get("custom_id") or request["key"]] = line
        return str(submit(self, submission, path))

    return noted


def rendered(world: World, job: int, batch: int | None = None) -> Rendering:
    return as_sent.render_again(world.store, job_types(), world.settings, job, batch)


def verdict(world: World, job: int) -> bool | None:
    return rendered(world, job).as_sent


def test_every_request_of_a_night_is_shown_as_it_was_sent(
    world: World, provider: ProviderName, went_out: dict[str, bytes]
) -> None:
    jobs = world.insert(provider, 4)
    bad = world.store.insert_job("creative_scoring", provider, '{"no": "headline"}')
    jobs += world.insert(provider, 2, headline="naïve – 咖啡")
    world.night("r1")
    shown = [rendered(world, job) for job in jobs]
    assert [found.as_sent for found in shown] == [True] * 6
    assert [found.line for found in shown] == list(went_out.values())
    with pytest.raises(NotFound, match=f"Job {bad} is in no batch"):
        rendered(world, bad)
    ((size,),) = [world.rows("SELECT octet_length(hashes) FROM nightbatch.request_hash")]
    assert size == 8 * len(jobs), "and of nothing else"


def test_another_prompt_of_the_same_version_is_seen_and_another_version_is_not_in_the_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = world.insert("openai", 1)
    world.night("r1")
    kind = job_types()["creative_scoring"]
    first = dict(kind.prompts)
    monkeypatch.setattr(kind, "prompts", first | {"2": "A new prompt."})
    assert verdict(world, job) is True, "it was asked with the version of then"
    monkeypatch.setattr(kind, "prompts", {"1": "Another prompt under the old number."})
    found = rendered(world, job)
    assert found.as_sent is False and b"Another prompt" in (found.line or b"")
    assert "Not as it was sent" in found.reason


@pytest.mark.parametrize("changed", ["input", "model", "nonce"])
def test_whatever_else_would_have_been_sent_is_seen(world: World, changed: str) -> None:
    job, other = world.insert("openai", 2)
    world.night("r1")
    assert (verdict(world, job), verdict(world, other)) == (True, True)
    statement = {
        "input": 'UPDATE nightbatch.job SET input = \'{"headline": "A headline 1"}\' WHERE id = %s',
        "model": "UPDATE nightbatch.batch SET model = 'gpt-6-sol' WHERE %s > 0",
        "nonce": "UPDATE nightbatch.batch SET nonce = '0123456789abcdef' WHERE %s > 0",
    }[changed]
    with unguarded(world.store.connection):
        world.store.connection.execute(statement, [job])
    assert verdict(world, job) is False


def test_a_realtime_call_is_shown_as_it_was_sent(world: World, provider: ProviderName) -> None:
    (job,) = world.insert(provider, 1, deadline=datetime.now(UTC) + timedelta(hours=2), fallback=True)
    fallback.answer_urgent(world.store, world.provider, job_types(), world.settings)
    assert world.rows("SELECT mode FROM nightbatch.batch") == ["realtime"]
    assert (world.states()[job], verdict(world, job)) == ("succeeded", True)


def test_a_reprocessing_is_asked_with_its_own_version(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (past,) = world.insert("openai", 1)
    kind = job_types()["creative_scoring"]
    monkeypatch.setattr(kind, "prompts", {**kind.prompts, "2": "A new prompt."})
    again = world.store.insert_job(
        "historical_reprocessing", "anthropic", json.dumps({"job_id": past, "prompt_version": "1"})
    )
    world.night("r1")
    assert (verdict(world, past), verdict(world, again)) == (True, True)


def test_images_are_part_of_what_was_sent_and_uploads_are_gone(world: World, tmp_path: Path) -> None:
    world.settings = replace(world.settings, media_dir=str(tmp_path))
    (tmp_path / "a.png").write_bytes(png(4, 4))
    (tmp_path / "b.mp4").write_bytes(mp4(5))
    image = world.store.insert_job("video_analysis", "openai", json.dumps({"frames": ["a.png"]}))
    video = world.store.insert_job("video_analysis", "gemini", json.dumps({"file": "b.mp4"}))
    world.night("r1")
    assert world.states() == {image: "succeeded", video: "succeeded"}
    assert verdict(world, image) is True
    (tmp_path / "a.png").write_bytes(png(4, 4, seed=7))
    assert verdict(world, image) is False
    (tmp_path / "a.png").unlink()
    assert "cannot be rendered any more" in rendered(world, image).reason
    assert "its media were uploaded" in rendered(world, video).reason


def test_an_erased_input_cannot_be_shown_and_its_hash_stays(world: World) -> None:
    (job,) = world.insert("openai", 1)
    world.night("r1")
    for column in ("batch SET closed_at = closed_at", "result SET finished_at = finished_at"):
        world.store.connection.execute(f"UPDATE nightbatch.{column} - interval '9 days'")
    before = world.rows("SELECT hashes FROM nightbatch.request_hash")
    retention.erase(world.store, job_types(), replace(world.settings, retention_days=1))
    found = rendered(world, job)
    assert (found.line, found.as_sent) == (None, None) and "erased" in found.reason
    assert world.rows("SELECT hashes FROM nightbatch.request_hash") == before


def test_of_an_attempt_of_an_earlier_release_nobody_can_tell(world: World) -> None:
    (job,) = world.insert("openai", 1)
    (batch,) = world.plan("r1")
    assert rendered(world, job).as_sent is None, "it was not sent yet"
    world.submit(batch)
    world.store.connection.execute("DELETE FROM nightbatch.request_hash")
    found = rendered(world, job)
    assert found.line is not None and found.as_sent is None and "No hash" in found.reason


def test_an_attempt_that_an_earlier_release_fixed_and_did_not_send_gets_its_hashes(world: World) -> None:
    jobs = world.insert("openai", 2)
    (batch,) = world.plan("r1")
    world.emulator.fault("openai", "batch_create", "refuse", status=429)
    with pytest.raises(Throttled):
        world.submit(batch)
    world.store.connection.execute("DELETE FROM nightbatch.request_hash")
    world.load(world.submit_until_certain(batch) or 0)
    assert [verdict(world, job) for job in jobs] == [True, True]


def test_a_successor_and_a_second_attempt_have_hashes_of_their_own(world: World) -> None:
    good, bad = world.insert("openai", 1), world.insert("openai", 1, headline="[[emulator:error=500]]")
    world.night("r1")
    world.night("r2")
    first, second = world.rows("SELECT batch_id FROM nightbatch.request_hash ORDER BY batch_id")
    assert rendered(world, bad[0], first).as_sent is True
    assert rendered(world, bad[0], second).as_sent is True
    assert rendered(world, bad[0], first).line != rendered(world, bad[0], second).line
    with pytest.raises(NotFound, match=f"no batch {second}"):
        rendered(world, good[0], second)


@pytest.mark.parametrize("role", ["nightbatch_producer", "nightbatch_reporter"])
def test_only_the_worker_can_read_hashes_and_nobody_but_an_owner_changes_them(world: World, role: str) -> None:
    world.insert("openai", 1)
    world.night("r1")
    connection = world.store.connection
    connection.execute(f"SET ROLE {role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM nightbatch.request_hash")
    connection.execute("RESET ROLE")
    connection.execute("SET ROLE nightbatch_worker")
    assert len(connection.execute("SELECT * FROM nightbatch.request_hash").fetchall()) == 1
    for statement in ("UPDATE nightbatch.request_hash SET hashes = 'x'", "DELETE FROM nightbatch.request_hash"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
    connection.execute("RESET ROLE")

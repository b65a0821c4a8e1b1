"""A provider is one adapter and one profile, registered by a package: nothing of nightbatch itself is touched for it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from nightbatch import reporting
from nightbatch.batches import recovery
from nightbatch.cli import app
from nightbatch.core.errors import ConfigurationError, SubmissionInDoubt
from nightbatch.core.profiles import BUILT_IN, broken_profiles, profile, profiles
from nightbatch.job_types import job_types
from nightbatch.providers import build
from tests.packages import installed, package
from tests.use_cases.conftest import World

ROOT = Path(__file__).parents[2]
PROFILE = "tests.use_cases.fourth_provider.profile:PROFILE"
OVERRIDE = (
    "INSERT INTO nightbatch.price_override (provider, model, valid_from, batch_input_usd, note)"
    " VALUES ('acme', 'text-embedding-3-small', '2026-10-14', 0.01, 'its price list')"
)
INCOMPLETE = (
    "from nightbatch.core.profiles import ProviderProfile\nPROFILE = ProviderProfile(name='hasty', title='Hasty')\n"
)


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[Path]:
    """The folder in which its package is installed."""
    folder = package(tmp_path / "site", "acme", acme=PROFILE)
    with installed(folder):
        yield folder


@pytest.fixture
def place(acme: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A database that knows it. It answers where the emulator plays OpenAI."""
    monkeypatch.setattr(world.emulator, "acme_url", world.emulator.openai_url, raising=False)
    told = command(world, "doctor")
    assert (told.exit_code, "The provider acme is installed" in told.stdout) == (1, True)
    assert command(world, "migrate").exit_code == 0
    return world


def command(world: World, *words: str) -> Any:
    return CliRunner(env={"NIGHTBATCH_DSN": world.dsn, "NO_COLOR": "1", "COLUMNS": "200"}).invoke(app, words)


def recover(world: World) -> list[str]:
    return recovery.recover(world.store, world.provider, job_types(), world.settings)


def line(provider: str, job_type: str = "creative_scoring", **given: Any) -> str:
    return json.dumps({"job_type": job_type, "provider": provider, "input": given or {"headline": "Coffee"}})


def test_it_has_a_whole_night_from_the_insert_to_the_report(place: World, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.jsonl"
    vectors, ready = (
        line("acme", "embedding_generation", text="A text"),
        line("acme", "raw", body={"input": "Say yes."}),
    )
    jobs.write_text("\n".join([line("acme"), vectors, ready, line("acne")]))
    told = command(place, "enqueue", str(jobs))
    assert "There is no provider 'acne'; there are openai, anthropic, gemini, acme." in told.output
    place.insert("acme", 4)
    place.insert("openai", 1)
    place.store.connection.execute(OVERRIDE)  # as for OpenAI's embeddings, whose batch price genai-prices lacks
    before = command(place, "estimate", "--providers", "acme", "--json")
    assert json.loads(before.stdout)["jobs"] == 7
    planned = place.plan("r1", providers=("acme",))
    # its own limit: two requests a batch
    assert sorted((batch.provider, batch.endpoint, batch.job_count) for batch in planned) == [
        ("acme", "embeddings", 1), ("acme", "responses", 2), ("acme", "responses", 2), ("acme", "responses", 2),
    ]  # fmt: skip
    sent, full = place.send_all(planned)
    ids = {batch.provider_batch_id or "" for batch in place.store.batches(sent)}
    since = datetime.now(UTC) - timedelta(hours=1)
    assert asyncio.run(place.provider("acme").list_states(ids, since=since, pages=5)).keys() == ids
    assert [row.failed for row in place.load_all(sent, full)] == [0] * 4
    place.judge()
    assert place.rows("SELECT DISTINCT provider FROM nightbatch.batch WHERE state = 'loaded'") == ["acme"]
    assert place.rows("SELECT count(*) FROM nightbatch.result WHERE batch_cost_usd > 0") == [7]
    report = reporting.to_json(reporting.run_report(place.store, "r1"))
    assert (report["succeeded"], report["unpriced"]) == (7, 0)
    assert "acme" in reporting.render_markdown(reporting.run_report(place.store, "r1"))
    assert recover(place) == []
    assert command(place, "doctor").stdout == "Nothing needs a person.\n"


def test_recovery_finds_what_was_lost_and_loads_it(place: World) -> None:
    place.insert("acme", 2)
    (batch,) = place.plan()
    place.emulator.fault("openai", "batch_create", "lose_answer", times=1)
    with pytest.raises(SubmissionInDoubt):
        place.submit(batch)
    time.sleep(0.8)
    (sentence,) = recover(place)
    assert sentence.startswith(f"Batch {batch.id} was found at acme as ")
    assert sentence.endswith("is loaded: 2 of 2 succeeded.")
    assert place.creates("openai") == 1
    place.judge()


def test_a_new_process_knows_it_as_soon_as_it_is_installed(acme: Path) -> None:
    """Airflow's Dag has a part for it, and the API takes its name."""
    script = (
        "from airflow.dag_processing.dagbag import DagBag\n"
        "from nightbatch.web.bodies import NewJob, Texts\n"
        "night = DagBag('dags').dags['nightbatch']\n"
        "print(*sorted(task.task_id for task in night.tasks if 'acme' in task.task_id))\n"
        "print(NewJob(job_type='raw', provider='acme', input={}).provider, Texts(texts=['a'], provider='acme').provider)"
    )
    paths = os.pathsep.join([str(acme), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths, "AIRFLOW_HOME": str(acme / "airflow")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-2:] == ["acme.load acme.submit acme.wait batches_of_acme", "acme acme"]


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[None]:
    folder = package(tmp_path / "broken", "ruin", ruin="no_such_module:PROFILE", wrong="json:loads", openai=PROFILE)
    package(folder, "hasty", hasty="hasty_provider:PROFILE", acme_two=PROFILE)
    package(folder, "halved", halved="halved_provider:PROFILE")
    (folder / "hasty_provider.py").write_text(INCOMPLETE)
    halved = 'replace(PROFILE, name="halved", adapter="no_such_adapter:Batches")'
    (folder / "halved_provider.py").write_text(
        f"from dataclasses import replace\nfrom {PROFILE.replace(':', ' import ')}\nPROFILE = {halved}\n"
    )
    with installed(folder):
        yield


def test_a_broken_entry_point_is_told_in_words_and_stops_nobody(world: World, broken: None) -> None:
    assert tuple(profiles()) == (*BUILT_IN, "halved")
    why = {place.removeprefix("The entry point "): why for place, why in broken_profiles().items()}
    assert "missing 26 required keyword-only arguments: 'adapter'" in why.pop("hasty = hasty_provider:PROFILE of hasty")
    assert why == {
        f"acme_two = {PROFILE} of hasty": "ConfigurationError: its profile names it 'acme'",
        f"openai = {PROFILE} of ruin": "ConfigurationError: there is a provider of that name already",
        "ruin = no_such_module:PROFILE of ruin": "ModuleNotFoundError: No module named 'no_such_module'",
        "wrong = json:loads of ruin": "ConfigurationError: it is a function, and no ProviderProfile",
    }
    told = command(world, "doctor")
    assert told.exit_code == 1
    assert "no_such_module:PROFILE of ruin is no provider: ModuleNotFoundError: No module named" in told.stdout
    assert "no_such_adapter:Batches cannot be imported: ModuleNotFoundError" in told.stdout
    with pytest.raises(ConfigurationError, match="The provider halved cannot be used, since no_such_adapter:Batches"):
        build("halved", api_key="k")
    with pytest.raises(ConfigurationError, match=r"There is no provider 'ruin'; there are openai.*no_such_module"):
        profile("ruin")
    world.insert("openai", 2)
    assert [row.succeeded for row in world.night("r1")] == [2]
    assert recover(world) == []
    world.judge()


def test_an_adapter_under_another_name_is_refused(tmp_path: Path) -> None:
    folder = package(tmp_path, "copied", copied="copied_provider:PROFILE")
    text = f"from dataclasses import replace\nfrom {PROFILE.replace(':', ' import ')}\n"
    (folder / "copied_provider.py").write_text(f'{text}PROFILE = replace(PROFILE, name="copied")\n')
    with (
        installed(folder),
        pytest.raises(ConfigurationError, match="adapter of the provider copied names itself 'acme'"),
    ):
        build("copied", api_key="k")


def test_what_is_with_a_provider_whose_package_broke_waits_and_is_not_lost(
    place: World, acme: Path, tmp_path: Path
) -> None:
    """One job is queued, and one batch is under way, when its package breaks."""
    place.insert("acme", 2)
    (batch,) = place.plan("r1")
    place.submit(batch)
    place.wait_for_the_end(batch.id)
    (queued,) = place.insert("acme", 1)
    (entry,) = acme.glob("*.dist-info/entry_points.txt")
    whole = entry.read_text()
    entry.write_text(whole.replace("profile:PROFILE", "profile:MISSPELT"))
    with installed(tmp_path):
        assert place.plan("r2") == []
        assert place.states()[queued] == "queued"
        (sentence,) = recover(place)
        assert sentence.startswith(f"Batch {batch.id}: There is no provider 'acme'")
        assert "has no attribute 'MISSPELT'" in sentence
        assert "MISSPELT" in command(place, "doctor").stdout
    entry.write_text(whole)
    with installed(tmp_path):
        assert recover(place) == [f"Batch {batch.id} had ended and is loaded: 2 of 2 succeeded."]
        assert [row.succeeded for row in place.night("r3")] == [1]
    place.judge()


def test_once_its_package_is_gone_its_queued_jobs_are_rejected_with_the_reason(place: World, acme: Path) -> None:
    (job,) = place.insert("acme", 1)
    (entry,) = acme.glob("*.dist-info/entry_points.txt")
    entry.unlink()
    with installed(acme):
        assert place.plan("r1") == []
        reason = "SELECT error FROM nightbatch.job_status WHERE job_id = %s"
        assert place.rows(reason, job) == ["there is no provider acme"]


def test_the_database_refuses_a_name_that_nobody_registered(place: World) -> None:
    place.insert("acme", 1)
    with pytest.raises(psycopg.errors.CheckViolation, match="provider_is_registered"):
        place.insert("acne", 1)

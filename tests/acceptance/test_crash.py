"""The crash proof, as much of it as fits into `make test`; `make crash-test` plays all of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest

from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from tests.crash import proof
from tests.crash.proof import Theatre, theatre
from tests.crash.stage import Schedule
from tests.crash.surroundings import MEANINGS, PLAIN
from tests.surroundings import pgbouncer

Checkpoints = dict[ProviderName, list[str]]


@pytest.fixture(scope="module")
def stages() -> Iterator[Theatre]:
    with theatre() as running:
        yield running


@pytest.fixture(scope="module")
def whole_lives(stages: Theatre) -> Checkpoints:
    """The checkpoints of lives in which nothing goes wrong."""
    verdicts = stages.play_all(Schedule(provider) for provider in BUILT_IN)
    assert [verdict["wrong"] for verdict in verdicts] == [[]] * len(BUILT_IN)
    return {provider: verdict["checkpoints"] for provider, verdict in zip(BUILT_IN, verdicts, strict=True)}


def broken(stages: Theatre, schedules: list[Schedule]) -> list[str]:
    """What went wrong, with the schedule; empty when every promise was kept."""
    assert schedules
    return [f"{verdict['schedule']}: {verdict['wrong']}" for verdict in stages.play_all(schedules) if verdict["wrong"]]


@pytest.mark.parametrize("provider", BUILT_IN)
def test_no_request_goes_past_the_checkpoints(stages: Theatre, provider: ProviderName) -> None:
    """The provider saw no more than passed one, waits included; an upload to Gemini's own address carries no account."""
    ours, seen_by_the_provider = stages.play(Schedule(provider))["requests"]
    assert 0 < ours - (provider == "gemini") == seen_by_the_provider


def test_no_statement_and_no_commit_goes_past_the_checkpoints() -> None:
    """The server's own log tells what it was asked by a life: the same statements and commits as the checkpoints."""
    with theatre(stages=1) as quiet:
        with psycopg.connect(quiet.server.dsn(), autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET log_statement = 'all'")
            admin.execute("ALTER SYSTEM SET log_line_prefix = '%a> '")
            admin.execute("SELECT pg_reload_conf()")
        quiet.play(Schedule("openai"))  # by now the stage has warmed up, and the server has read its settings
        before = quiet.server.log_file.stat().st_size
        verdict = quiet.play(Schedule("openai"))
        told = quiet.server.log_file.read_bytes()[before:].decode()
    names = re.findall(r"^life> LOG:  (?:execute [^:]*|statement): (?:-- )?(\w+)", told, re.MULTILINE)
    asked = Counter(names)
    # A statement with a transaction of its own passes checkpoints, and so its commit does.
    alone = sum(names[place + 2] == "COMMIT" for place, name in enumerate(names) if name == "BEGIN")
    assert asked.pop("BEGIN") == (commits := asked.pop("COMMIT"))
    assert 0 <= commits - verdict["checkpoints"].count("after commit") <= alone
    assert asked == Counter(
        name.removeprefix("before sql ") for name in verdict["checkpoints"] if name.startswith("before sql ")
    )


@pytest.mark.parametrize("provider", BUILT_IN)
def test_a_death_at_any_step_pays_nothing_twice_and_loses_nothing(
    stages: Theatre, whole_lives: Checkpoints, provider: ProviderName
) -> None:
    checkpoints = whole_lives[provider]
    chosen = [
        schedule
        for schedule in proof.singles(provider, checkpoints)
        if checkpoints[schedule.die_at[0]].startswith(("after http", "before http"))
        or checkpoints[schedule.die_at[0]] in proof.AROUND_THE_CREATE
        or schedule.die_at[0] % 18 == 0
    ]
    assert broken(stages, chosen) == []


@pytest.mark.parametrize("provider", BUILT_IN)
def test_a_death_around_the_create_while_the_list_lags(
    stages: Theatre, whole_lives: Checkpoints, provider: ProviderName
) -> None:
    checkpoints = whole_lives[provider]
    assert broken(stages, proof.deaths_with_a_lagging_list(provider, checkpoints)) == []


@pytest.mark.parametrize("provider", BUILT_IN)
def test_whatever_the_provider_does_wrong(stages: Theatre, provider: ProviderName) -> None:
    """Every second of what `make crash-test` plays, at each provider others."""
    assert broken(stages, proof.faults(provider)[BUILT_IN.index(provider) % 2 :: 2]) == []


@pytest.mark.parametrize("provider", BUILT_IN)
def test_a_second_death_while_the_first_is_settled(
    stages: Theatre, whole_lives: Checkpoints, provider: ProviderName
) -> None:
    first = whole_lives[provider].index("after http submit POST")
    after = stages.play(Schedule(provider, (first,)))["checkpoints"]
    seconds = [Schedule(provider, (first, place)) for place in range(0, len(after), 30)]
    assert broken(stages, seconds) == []


@pytest.mark.parametrize("surrounding", [name for name in MEANINGS if name != PLAIN])
def test_a_death_in_a_world_that_is_not_ours(stages: Theatre, whole_lives: Checkpoints, surrounding: str) -> None:
    """A sample: a few of the schedules that `make crash-test` plays in this surrounding, at all three providers."""
    if surrounding == "pgbouncer":
        pgbouncer()
    chosen = [
        schedule
        for number, provider in enumerate(BUILT_IN)
        for schedule in proof.elsewhere(surrounding, provider, whole_lives[provider])[number * 40 :: 120]
    ]
    assert broken(stages, chosen) == []


@pytest.mark.parametrize("provider", BUILT_IN)
def test_three_processes_at_the_same_work(stages: Theatre, provider: ProviderName) -> None:
    assert broken(stages, [Schedule(provider, together=3)] * 2) == []


def _fault(operation: str, fault: str, **details: object) -> dict[str, object]:
    return {"operation": operation, "fault": fault, **details}


def _after_submit(checkpoints: list[str]) -> tuple[int]:
    return (checkpoints.index("after http submit POST"),)


def _before_load(checkpoints: list[str]) -> tuple[int]:
    return (checkpoints.index("before sql date_submission"),)


SHOWN_BY: dict[str, Callable[[list[str]], list[Schedule]]] = {
    "without_the_intent": lambda points: [Schedule("openai", _after_submit(points))],
    "without_the_fence": lambda _: [
        Schedule("openai", fault=_fault("batch_create", "deliver_late", delay_seconds=proof.LATE))
    ],
    "without_the_settle_wait": lambda points: [
        Schedule(
            "openai",
            _after_submit(points),
            # a busy machine may need seconds to begin the next life
            fault=_fault("batch_list", "list_lag", delay_seconds=6.0, times=None),
            settle_seconds=8.0,
        )
    ],
    "with_the_sdks_retries": lambda _: [Schedule("openai", fault=_fault("batch_create", "error_after"))],
    "without_the_epoch": lambda points: [
        Schedule(
            "openai",
            (points.index("before http upload POST"),),
            # long enough for all three to have read the same state
            fault=_fault("file_upload", "delay", delay_seconds=2.0, times=None),
            together=3,
        )
    ],
    "without_the_loads_key": lambda points: [
        Schedule(
            "openai",
            _before_load(points),
            fault=_fault("file_download", "delay", delay_seconds=2.0, times=None),
            together=3,
        )
    ],
}


@pytest.mark.parametrize("mutation", SHOWN_BY)
def test_without_one_of_its_parts_the_proof_turns_red(stages: Theatre, whole_lives: Checkpoints, mutation: str) -> None:
    """The same schedules are green with the whole protocol."""
    assert broken(stages, SHOWN_BY[mutation](whole_lives["openai"])) == []
    points = stages.play(Schedule("openai", mutation=mutation))["checkpoints"]
    schedules = [replace(schedule, mutation=mutation) for schedule in SHOWN_BY[mutation](points)]
    # Some are races: a few plays, of which one has to hit.
    plays = (broken(stages, schedules) for _ in range(8))
    assert any(plays), f"nothing turned red {mutation.replace('_', ' ')}"

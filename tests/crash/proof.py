"""`make crash-test`: every single death, every provider fault, and pairs of deaths; the provider's bill is the judge."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from nightbatch.postgres.migrate import migrate
from nightbatch_local.emulator.process import EmulatorProcess
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests import tags
from tests.crash import surroundings
from tests.crash.stage import AT_ONCE, Schedule
from tests.scratch import scratch
from tests.surroundings import has_pgbouncer, pooled

Verdict = dict[str, Any]

LATE = 3600.0  # it arrives when the stage says so, after the settle wait: only the fence stops it then
LAG = 0.8  # shorter than the settle wait of a lagging list, as NIGHTBATCH_SETTLE_SECONDS has to be chosen
FAULTS: tuple[dict[str, Any], ...] = (
    *({"operation": operation, "fault": fault}
      for operation in ("file_upload", "batch_create", "batch_get", "batch_list", "file_download", "file_delete")
      for fault in ("refuse", "rate_limit", "reset", "lose_answer", "error_after")),
    {"operation": "batch_create", "fault": "deliver_late", "delay_seconds": LATE},
    {"operation": "file_upload", "fault": "deliver_late", "delay_seconds": LATE},
    {"operation": "batch_list", "fault": "list_lag", "delay_seconds": LAG, "times": None},
    {"operation": "file_download", "fault": "truncate"},
    {"operation": "file_download", "fault": "corrupt"},
    {"operation": "file_download", "fault": "duplicate_line", "times": None},
    {"operation": "file_download", "fault": "unknown_line", "times": None},
    {"operation": "batch_get", "fault": "unknown_status"},
)  # fmt: skip


class Theatre:
    """Stages that play schedules side by side."""

    def __init__(self, server: EmbeddedPostgres, stages: list[subprocess.Popen[str]]) -> None:
        self.server = server
        self._size = len(stages)
        self._free: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        for stage in stages:
            self._free.put(stage)

    def play(self, schedule: Schedule) -> Verdict:
        """One schedule, on the next stage that is free."""
        stage = self._free.get()
        try:
            assert stage.stdin is not None
            assert stage.stdout is not None
            stage.stdin.write(json.dumps(asdict(schedule)) + "\n")
            stage.stdin.flush()
            answer = stage.stdout.readline()
            assert answer, "a stage ended; its error is above"
            verdict: Verdict = json.loads(answer)
            return verdict
        finally:
            self._free.put(stage)

    def play_all(self, schedules: Iterable[Schedule]) -> list[Verdict]:
        """All of them, in their order."""
        with ThreadPoolExecutor(self._size) as pool:
            return list(pool.map(self.play, schedules))


@contextmanager
def theatre(*, stages: int = 3) -> Iterator[Theatre]:
    """Postgres, the emulator and the stages, gone at the end; and PgBouncer where it is here, for the lives through it."""
    with (
        scratch() as folder,
        EmbeddedPostgres(folder / "data", fsync=False, die_with_parent=True) as server,
        EmulatorProcess(folder / "emulator", turnaround=0.02) as emulator,
        ExitStack() as running,
    ):
        template = server.create_database("template_crash")
        migrate(template)
        tags.known(template)
        port = running.enter_context(pooled(server)) if has_pgbouncer() else None
        through = server.dsn().replace(f":{server.port}/", f":{port}/") if port else ""
        command = [sys.executable, "-m", "tests.crash.stage", server.dsn(), "template_crash", emulator.url, through]
        started = [_start(command, running) for _ in range(stages)]
        yield Theatre(server, started)


def _start(command: list[str], running: ExitStack) -> subprocess.Popen[str]:
    stage = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    running.callback(stage.wait)
    running.callback(stage.stdin.close if stage.stdin else stage.kill)
    return stage


def singles(provider: ProviderName, checkpoints: list[str]) -> list[Schedule]:
    """A death at each checkpoint; in one process's life they lie before and after every statement and call."""
    return [Schedule(provider, (place,)) for place in range(len(checkpoints))]


def elsewhere(surrounding: str, provider: ProviderName, checkpoints: list[str]) -> list[Schedule]:
    """Whole lives, a death at each checkpoint, and the provider's faults, in a surrounding that is not ours."""
    alone = [Schedule(provider), *singles(provider, checkpoints)]
    if surrounding == "gateway":
        alone = [
            replace(one, fault=surroundings.gateways()[place % len(surroundings.gateways())])
            for place, one in enumerate(alone)
        ]
    elif surrounding != "restored":  # there it is not the provider that forgets
        alone += faults(provider) + deaths_with_a_lagging_list(provider, checkpoints)
    return [replace(one, surrounding=surrounding) for one in alone]


def faults(provider: ProviderName) -> list[Schedule]:
    """Everything that a provider can do wrong, once each."""
    return [Schedule(provider, fault=fault, settle_seconds=_settles_in(fault)) for fault in FAULTS]


def _settles_in(fault: dict[str, Any]) -> float:
    return 1.5 * LAG if fault["fault"] == "list_lag" else AT_ONCE


def deaths_with_a_lagging_list(provider: ProviderName, checkpoints: list[str]) -> list[Schedule]:
    """A death around the create, while the list does not show the newest batches."""
    lag = {"operation": "batch_list", "fault": "list_lag", "delay_seconds": LAG, "times": None}
    around = [place for place, name in enumerate(checkpoints) if name in AROUND_THE_CREATE]
    return [Schedule(provider, (place,), fault=lag, settle_seconds=_settles_in(lag)) for place in around]


AROUND_THE_CREATE = {
    "after sql record_intent", "before http submit POST", "after http submit POST", "before sql record_submission",
}  # fmt: skip


def pairs(provider: ProviderName, singles_played: list[Verdict], *, every: int = 1) -> list[Schedule]:
    """A second death at each checkpoint of the life after a first one; first deaths with the same remains count once."""
    first_of = {verdict["state"]: verdict for verdict in reversed(singles_played)}
    return [
        Schedule(provider, (verdict["schedule"]["die_at"][0], place))
        for number, verdict in enumerate(first_of.values())
        for place in range(number % every, len(verdict["checkpoints"]), every)
    ]


def step_of(verdict: Verdict, checkpoints: list[str]) -> str:
    """Which part of the night the first death hit."""
    schedule = verdict["schedule"]
    if schedule["fault"]:
        return "provider fault" + (" and a death" if schedule["die_at"] else "")
    if not schedule["die_at"]:
        return "no death"
    name = checkpoints[schedule["die_at"][0]]
    place = schedule["die_at"][0]
    if place < checkpoints.index("after commit"):
        step = "plan"
    elif "http upload" in name or place < checkpoints.index("before sql record_intent"):
        step = "upload"
    elif place < checkpoints.index("before sql lock_batch"):
        step = "create"
    else:
        step = "load and after"
    return step if len(schedule["die_at"]) == 1 else f"{step}, then again"


def main(every: int) -> int:
    """Play everything, print the table, and exit with 1 if a promise was broken.

    All single deaths are played; of the pairs, and in other surroundings than the plain one, one in ``every``.
    """
    began = time.monotonic()
    verdicts: list[Verdict] = []
    table: Counter[tuple[str, str, str, str]] = Counter()
    if not has_pgbouncer():
        print("PgBouncer is not installed (make pgbouncer), so no life goes through it.")
    with theatre(stages=6) as stages:  # most of a schedule's time is waiting
        for provider in BUILT_IN:
            checkpoints = stages.play(Schedule(provider))["checkpoints"]
            for surrounding in surroundings.MEANINGS:
                began_there = time.monotonic()
                played = stages.play_all(_schedules(surrounding, provider, checkpoints, every))
                if surrounding == surroundings.PLAIN:
                    played += stages.play_all(pairs(provider, played[: len(checkpoints)], every=every))
                for verdict in played:
                    table[surrounding, provider, step_of(verdict, checkpoints), verdict["outcome"]] += 1
                verdicts += played
                wrong = sum(bool(verdict["wrong"]) for verdict in played)
                took = time.monotonic() - began_there
                print(f"{provider}, {surrounding}: {len(played):,} schedules, {took:.0f} s, {wrong} wrong", flush=True)
    print(f"\n{'surrounding':20} {'provider':10} {'step':26} {'outcome':26} {'schedules':>9}")
    for (surrounding, name, step, outcome), count in sorted(table.items()):
        print(f"{surrounding:20} {name:10} {step:26} {outcome:26} {count:9,}")
    return _tell(verdicts, time.monotonic() - began)


def _schedules(surrounding: str, provider: ProviderName, checkpoints: list[str], every: int) -> list[Schedule]:
    if surrounding == "pgbouncer" and not has_pgbouncer():
        return []
    if surrounding != surroundings.PLAIN:
        return elsewhere(surrounding, provider, checkpoints)[BUILT_IN.index(provider) % every :: every]
    played = singles(provider, checkpoints) + faults(provider) + deaths_with_a_lagging_list(provider, checkpoints)
    return played + [Schedule(provider, together=3)] * 5


def _tell(verdicts: list[Verdict], seconds: float) -> int:
    """Print what was wrong, and the sums by surrounding; 1 if anything was."""
    wrong = [verdict for verdict in verdicts if verdict["wrong"]]
    for verdict in wrong[:20]:
        print(f"WRONG {verdict['schedule']}: {'; '.join(verdict['wrong'])}")
    print(f"\n{'surrounding':20} {'schedules':>9} {'paid twice':>10} {'lost':>6} {'otherwise wrong':>15}")
    for surrounding, meaning in surroundings.MEANINGS.items():
        there = [verdict for verdict in verdicts if verdict["schedule"]["surrounding"] == surrounding]
        sentences = ["; ".join(verdict["wrong"]) for verdict in there if verdict["wrong"]]
        twice, lost = (sum(word in sentence for sentence in sentences) for word in ("times", "lost"))
        other = len(sentences) - sum("times" in sentence or "lost" in sentence for sentence in sentences)
        print(f"{surrounding:20} {len(there):9,} {twice:10} {lost:6} {other:15}   {meaning}")
    print(f"\n{len(verdicts):,} schedules in {seconds:.0f} s; wrong: {len(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=3, help="of the pairs, and elsewhere, one in so many")
    sys.exit(main(parser.parse_args().every))

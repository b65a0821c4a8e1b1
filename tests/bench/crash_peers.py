"""The same crash for nightbatch and for Airflow's batch operators, against the emulator: how often each job is billed.

``make crash-peers`` runs it. Ten jobs are sent by a real process that is killed (SIGKILL, as when memory is short); then the
same work is run again, as Airflow's retry does it: same task instance, same Dag run, next try. The provider still works on
the first batch then. The emulator's billing log is counted. The crashes:

- **before the id was recorded**: the provider has accepted the create and lists the batch, its answer is still under way.
  The emulator holds the answer back, the same way for all.
- **waiting, deferred**: the operator has handed the id to its trigger, and the triggerer is killed. Of nightbatch, submit
  is run again too.
- **waiting, on a worker**: the same with ``deferrable=False``, which is the operators' default. nightbatch never waits so.

What the operators have against it is switched on: see `crash_lives`. Not shown here, since it is no crash: a list that does
not show a new batch at once. nightbatch then waits, and at Anthropic may end up asking a person (docs/reliability.md).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, get_args

from rich.console import Console
from rich.table import Table

from nightbatch.core.models import ProviderName
from nightbatch.postgres.migrate import migrate
from nightbatch_local.emulator.process import EmulatorProcess
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests.bench.crash_bill import Judge, until

if TYPE_CHECKING:
    from tests.bench.crash_lives import Place

Crash = Literal["before the id was recorded", "waiting, deferred", "waiting, on a worker"]
_PEERS = tuple(f"apache-airflow-providers-{name}" for name in ("openai", "anthropic", "common-ai"))
CRASHES: tuple[Crash, ...] = get_args(Crash)
_ROOT = Path(__file__).parents[2]
_SOON = 0.1  # seconds until a batch ends, once it may
_REPORT = _ROOT / "var" / "bench" / "crash_peers.json"


@dataclass(frozen=True, slots=True)
class Contender:
    """A tool with a provider. ``life`` names a function of `crash_lives`; ``person`` says what is to do when not all is well.

    ``retried`` False: nothing is run again after the crash.
    """

    tool: str
    life: str
    provider: ProviderName
    crashes: Sequence[Crash] = CRASHES
    person: str = ""
    retried: bool = True


_OURS, _UNRECORDED = CRASHES[:2], CRASHES[:1]
_IN_THE_LOG = "compare the logs of the tries, each names a batch; cancel the first in time"
CONTENDERS = (
    Contender("nightbatch", "nightbatch", "openai", _OURS),
    Contender("nightbatch", "nightbatch", "anthropic", _OURS),
    Contender("nightbatch", "nightbatch", "gemini", _OURS),
    Contender(
        "OpenAITriggerBatchOperator",
        "openai_trigger_batch_operator",
        "openai",
        person="nothing tells; find two batches with the run's metadata in the console",
    ),
    Contender(
        "AnthropicBatchOperator",
        "anthropic_batch_operator",
        "anthropic",
        person="nothing tells; find a batch too many in the console",
    ),
    Contender(
        "AnthropicBatchOperator, retries=0",
        "anthropic_batch_operator",
        "anthropic",
        _UNRECORDED,
        person="find the batch in the console and fetch its answers by hand; a clear pays again",
        retried=False,
    ),
    Contender("LLMBatchOperator", "llm_batch_operator", "openai"),
    Contender(
        "LLMBatchOperator",
        "llm_batch_operator",
        "anthropic",
        person="see the warning in the task's log; find a batch too many in the console",
    ),
    Contender('LLMBatchOperator, on_orphaned_intent="fail"', "llm_batch_operator_that_fails", "openai", _UNRECORDED),
    Contender(
        'LLMBatchOperator, on_orphaned_intent="fail"',
        "llm_batch_operator_that_fails",
        "anthropic",
        _UNRECORDED,
        person="find the batch in the console and fetch its answers by hand; or delete the state file, and pay again",
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What a crash came to. ``lines`` were billed, ``paid_twice`` jobs more than once; ``error`` ended the second life."""

    crash: Crash
    tool: str
    provider: ProviderName
    jobs: int
    batches: int
    lines: int
    paid_twice: int
    answers: int
    usd: str
    person: str
    error: str


def main() -> None:
    """Play all crashes and print the table."""
    options = _options()
    if options.stage:
        _stage(json.loads(options.stage))
        return
    rows = measure()
    show(rows)
    _REPORT.parent.mkdir(parents=True, exist_ok=True)
    _REPORT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(crashes: Sequence[Crash] = CRASHES) -> list[Row]:
    """Play the crashes for everybody, on a Postgres and an emulator of their own. Raises `RuntimeError` with the log."""
    with (
        tempfile.TemporaryDirectory(prefix="nb-peers-") as name,
        EmulatorProcess(Path(name) / "emulator", turnaround=3600) as emulator,
        EmbeddedPostgres(Path(name) / "data", fsync=False, die_with_parent=True) as server,
    ):
        folder = Path(name)
        dsn = server.create_database("nightbatch")
        migrate(dsn)
        order = {"crashes": crashes, "folder": name, "dsn": dsn, "emulator": emulator.url}
        command = [sys.executable, "-m", "tests.bench.crash_peers", "--stage", json.dumps(order)]
        environment = {**os.environ, "AIRFLOW_HOME": f"{name}/airflow", "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        with (folder / "log").open("wb") as log:
            done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=log, stderr=log, check=False)
        if done.returncode:
            raise RuntimeError((folder / "log").read_text(errors="replace"))
        emulator.kill()  # it still holds answers for the dead, and would complain about them
        return [Row(**row) for row in json.loads((folder / "rows.json").read_text())]


def _stage(order: dict[str, Any]) -> None:
    """In a process without threads that has imported everything, lives are forks, and cost nothing to begin."""
    from tests.bench.crash_lives import Place

    judge = Judge(order["emulator"])
    rows = []
    for crash in order["crashes"]:
        for number, contender in enumerate(CONTENDERS):
            if crash in contender.crashes:
                account = f"crash{CRASHES.index(crash)}c{number}"
                folder = Path(order["folder"]) / account
                folder.mkdir()
                place = Place(contender.provider, order["emulator"], account, order["dsn"], folder)
                rows.append(_play(crash, contender, replace(place, deferrable=crash != CRASHES[2]), judge))
    (Path(order["folder"]) / "rows.json").write_text(json.dumps([asdict(row) for row in rows]))


def _play(crash: Crash, contender: Contender, place: Place, judge: Judge) -> Row:
    judge.turnaround(3600)
    if crash == CRASHES[0]:
        judge.hold_back_the_answer(place)
    with _Child(contender, place) as first:
        until(lambda: (judge.batches if crash == CRASHES[0] else judge.looks)(place) > 0, "the moment of the crash")
        if first.ended():
            raise RuntimeError(f"{contender.tool}: the first life ended before it could be killed")
    if contender.retried:
        _live_again(contender, replace(place, try_number=2), judge)
    judge.turnaround(_SOON)
    return _row(crash, contender, place, judge)


def _live_again(contender: Contender, place: Place, judge: Judge) -> None:
    """The batches do not end before the second life has come to wait for one, or to its end."""
    looks = judge.looks(place)
    with _Child(contender, place) as second:
        until(lambda: second.ended() or judge.looks(place) > looks, "the second life's wait")
        judge.turnaround(_SOON)
        until(second.ended, "the second life's end")


def _row(crash: Crash, contender: Contender, place: Place, judge: Judge) -> Row:
    from tests.bench.crash_lives import JOBS

    outcome: dict[str, Any] = {"answers": 0, "error": "killed"}
    if contender.retried:
        outcome = json.loads((place.folder / "outcome.json").read_text())
    batches = judge.batches(place)
    bill = judge.final_bill(place, batches * JOBS)
    # nightbatch's ids carry the attempt: j<job>_a<attempt>
    times = Counter(line["custom_id"].partition("_a")[0] for line in bill)
    row = Row(
        crash,
        contender.tool,
        contender.provider,
        jobs=JOBS,
        batches=batches,
        lines=len(bill),
        paid_twice=sum(billed > 1 for billed in times.values()),
        answers=outcome["answers"],
        usd=f"{sum((Decimal(line['cost_usd']) for line in bill), Decimal()):f}",
        person="nothing",
        error=outcome["error"],
    )
    if row.paid_twice == 0 and row.answers == row.jobs:
        return row
    both_told = crash == CRASHES[2] and row.paid_twice
    return replace(row, person=_IN_THE_LOG if both_told else contender.person or row.error)


class _Child:
    """A life in a process of its own, which leaves its outcome in the place's folder. Killed at the end of the ``with``."""

    def __init__(self, contender: Contender, place: Place) -> None:
        self._pid = os.fork()
        if not self._pid:
            _live(contender, place)
        self._gone = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.ended():
            os.kill(self._pid, signal.SIGKILL)
            until(self.ended, "its end")

    def ended(self) -> bool:
        """Whether the process is gone."""
        self._gone = self._gone or os.waitpid(self._pid, os.WNOHANG)[0] != 0
        return self._gone


def _live(contender: Contender, place: Place) -> NoReturn:
    from tests.bench import crash_lives

    outcome: dict[str, Any] = {"answers": 0, "error": ""}
    try:
        outcome["answers"] = getattr(crash_lives, contender.life)(place)
    except BaseException as error:  # noqa: BLE001  # a task may end with anything, and the fork ends here
        traceback.print_exc()
        outcome["error"] = f"{type(error).__name__}: {error}"
    (place.folder / "outcome.json").write_text(json.dumps(outcome))
    sys.stdout.flush()
    os._exit(0)


def show(rows: Sequence[Row]) -> None:
    """The table, a part for each crash."""
    versions = ", ".join(f"{name.removeprefix('apache-')} {version(name)}" for name in _PEERS)
    table = Table(title="Killed, then run again: what the provider billed", caption=versions)
    for name in ("crash", "tool", "provider"):
        table.add_column(name)
    for name in ("jobs", "batches", "billed lines", "paid twice", "answers", "USD"):
        table.add_column(name, justify="right")
    table.add_column("what a person has to do")
    for crash in CRASHES:
        for row in (row for row in rows if row.crash == crash):
            figures = (row.jobs, row.batches, row.lines, row.paid_twice, row.answers)
            table.add_row(row.crash, row.tool, row.provider, *map(str, figures), row.usd, row.person)
        table.add_section()
    Console(width=190).print(table)


if __name__ == "__main__":
    main()

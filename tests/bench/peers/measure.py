"""Rounds and crashes, each on an emulator of its own, and for nightbatch on a Postgres of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from nightbatch.core.models import Prompt
from nightbatch.job_types import job_types
from nightbatch.postgres.migrate import migrate
from nightbatch_local.emulator.process import EmulatorProcess
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests.bench.crash_bill import Judge, until
from tests.bench.peers.contenders import CONTENDERS, NIGHTBATCH, Contender
from tests.bench.peers.environments import Unavailable, python_for, version_in
from tests.bench.peers.table import Row, row_of
from tests.bench.peers.work import Work
from tests.bench.stages import jobs as samples

_ROOT = Path(__file__).parents[3]
_NEVER = 86_400.0  # seconds: batches end when the contender has sent all
_PATIENCE = 300.0  # seconds for a round
_LONGEST = 1_000.0  # seconds until a batch is created
_KIND = job_types()["creative_scoring"]


class Failed(Exception):
    """A contender's process ended badly; the end of what it said."""


@dataclass(frozen=True, slots=True)
class Crash:
    """What a crash came to: lines billed, jobs billed more than once, answers after the second life; its error, if any."""

    billed: int
    paid_twice: int
    answers: int
    error: str = ""


def measure(
    jobs: int, *, rounds: int = 3, contenders: Sequence[Contender] = CONTENDERS, crash: bool = True
) -> list[Row]:
    """All contenders with so many jobs: a row each, in their order, also for the one that cannot be had.

    One that needs more than five minutes for a round is not asked again; its row says how many there were.
    """
    pythons, missing = _installed(contenders)
    figures: dict[str, list[dict[str, float]]] = {one.name: [] for one in contenders}
    crashes: dict[str, Crash] = {}
    for turn in range(rounds):
        for one in contenders:
            if one.name in missing or _is_slow(figures[one.name]):
                continue
            try:
                figures[one.name].append(_round(one, pythons[one.name], jobs))
            except Failed as failure:
                missing[one.name] = str(failure)
                continue
            _say(f"{jobs:,} jobs, round {turn + 1}, {one.name}: {json.dumps(figures[one.name][-1])}")
    for one in contenders if crash else ():
        if one.name in missing:
            continue
        try:
            crashes[one.name] = _crash(one, pythons[one.name], jobs)
        except (Failed, TimeoutError) as failure:
            missing[one.name] = f"no crash was played: {failure}"
            continue
        _say(f"{jobs:,} jobs, killed and started again, {one.name}: {crashes[one.name]}")
    return [
        row_of(
            one,
            jobs,
            version_in(pythons[one.name], one.package) if one.name in pythons else "",
            figures[one.name],
            crashes.get(one.name),
            missing.get(one.name, ""),
        )
        for one in contenders
    ]


def _is_slow(rounds: Sequence[dict[str, float]]) -> bool:
    return any(turn["send_seconds"] + turn["fetch_seconds"] > _PATIENCE for turn in rounds)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _installed(contenders: Sequence[Contender]) -> tuple[dict[str, Path], dict[str, str]]:
    pythons, missing = {}, {}
    for one in contenders:
        try:
            pythons[one.name] = python_for(one)
        except Unavailable as reason:
            missing[one.name] = str(reason)
            _say(f"{one.name}: {reason}")
    return pythons, missing


def _round(contender: Contender, python: Path, jobs: int) -> dict[str, float]:
    with _place(contender, jobs) as (emulator, work), _life(contender, python, work) as child:
        figures = _figures(child, work)
        billed, answers = len(emulator.billing()), figures.pop("answers")
    if not billed == answers == jobs:
        raise Failed(f"{billed} of {jobs} jobs billed, {answers} answers")
    return figures


def _crash(contender: Contender, python: Path, jobs: int) -> Crash:
    """Killed when the provider lists its first batch, which nobody has told it yet; then started again."""
    with _place(contender, jobs) as (emulator, work):
        judge = Judge(work.url)
        judge.hold_back_the_answer(work)
        with _life(contender, python, work) as first:
            until(lambda: first.poll() is not None or judge.batches(work) > 0, "its create", patience=_LONGEST)
            if first.poll() is not None:
                raise Failed(f"it ended before it could be killed: {_end_of_log(work)}")
            first.kill()
        answers, error = 0, ""
        with _life(contender, python, replace(work, again=True)) as second:
            try:
                answers = int(_figures(second, work)["answers"])
            except Failed as failure:
                error = str(failure)
        work.end_all()
        bill = emulator.billing()
        emulator.kill()  # it still holds an answer for the dead, and would complain about it
        # nightbatch's ids carry the attempt: j<job>_a<attempt>
        times = Counter(line["custom_id"].partition("_a")[0] for line in bill)
    return Crash(times.total(), sum(count > 1 for count in times.values()), answers, error)


@contextmanager
def _place(contender: Contender, jobs: int) -> Iterator[tuple[EmulatorProcess, Work]]:
    with tempfile.TemporaryDirectory(prefix="nb-peers-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmulatorProcess(folder / "emulator", turnaround=_NEVER) as emulator:
            work = Work(emulator.url, "bench", name, jobs)
            if contender != NIGHTBATCH:
                _write_prompts(work)
                yield emulator, work
                return
            with EmbeddedPostgres(folder / "data", die_with_parent=True) as server:
                yield emulator, replace(work, dsn=_queue(server, jobs))


def _queue(server: EmbeddedPostgres, jobs: int) -> str:
    """A database with the jobs in the staging table."""
    dsn = server.create_database("nightbatch")
    migrate(dsn)
    with (
        psycopg.connect(dsn) as database,
        database.cursor() as cursor,
        cursor.copy("COPY nightbatch.job (job_type, provider, input) FROM STDIN") as copy,
    ):
        for number in range(jobs):
            copy.write_row((_KIND.name, "openai", samples.creative(number).decode()))
    return dsn


def _write_prompts(work: Work) -> None:
    """The peers get the prompts as nightbatch would render them."""
    with work.path("prompts.jsonl").open("w") as file:
        for number in range(work.jobs):
            prompt = _prompt(number)
            file.write(json.dumps([f"job-{number}", prompt.user]) + "\n")
    prompt = _prompt(0)
    common = {
        "model": _KIND.models["openai"],
        "system": prompt.system or "",
        "schema": prompt.schema,
        "schema_name": prompt.schema_name,
        "max_tokens": prompt.max_tokens,
    }
    work.path("common.json").write_text(json.dumps(common))


def _prompt(number: int) -> Prompt:
    prompt = _KIND.render_request(samples.creative(number))
    assert isinstance(prompt, Prompt)
    return prompt


@contextmanager
def _life(contender: Contender, python: Path, work: Work) -> Iterator[subprocess.Popen[str]]:
    """A life in a process of its own, which is gone at the end of the ``with``."""
    command = [str(python), "-m", "tests.bench.peers.child", contender.life, json.dumps(asdict(work))]
    how: dict[str, Any] = {"cwd": _ROOT, "env": _environment(work), "stdout": subprocess.PIPE, "text": True}
    with work.path("log").open("a") as log, subprocess.Popen(command, stderr=log, **how) as child:
        try:
            yield child
        finally:
            child.kill()


def _environment(work: Work) -> dict[str, str]:
    return {
        **os.environ,
        "AIRFLOW_HOME": str(work.path("airflow")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network for prices while it is imported
        "NO_PROXY": "127.0.0.1,localhost",
        "OPENAI_API_KEY": work.key,
        "OPENAI_BASE_URL": work.openai_url,
    }


def _figures(child: subprocess.Popen[str], work: Work) -> dict[str, Any]:
    """What it prints at its end. Raises `Failed`."""
    printed, _ = child.communicate()
    if child.returncode:
        raise Failed(_end_of_log(work))
    figures: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return figures


def _end_of_log(work: Work) -> str:
    lines = work.path("log").read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")

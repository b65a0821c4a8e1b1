"""A whole night of many jobs through real Airflow and the emulator: how long, what of it is Airflow's own, who needs what memory.

``python -m tests.bench.airflow_night --jobs 1000000`` takes seven minutes on two cores, more than a third of it in the
emulator, which writes a million answers and a million lines of bill with the same two cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from nightbatch_local.stack import Stack, processes
from tests.bench import document
from tests.bench.stages import jobs
from tests.bench.tables import markdown

_COLUMNS = "COPY nightbatch.job (job_type, provider, priority, input) FROM STDIN"
_PROVIDERS = ("openai", "openai", "anthropic", "gemini")
Span = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--hours", type=float, default=3)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="nb-night-"))
    try:
        with Stack(root / "stack", turnaround=1) as stack:
            figures = night(stack, options.jobs, options.hours * 3600)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(json.dumps(figures, indent=2))
    document.put("airflow", f"{document.measured_on()}\n\n{render(figures)}")


def night(stack: Stack, count: int, timeout: float) -> dict[str, Any]:
    """One night of so many jobs, from the trigger to the end of the run; the bill is compared with the ledger."""
    insert(stack.dsn, count)
    with Memory(stack) as memory:
        began = time.time()
        run_id = stack.trigger("nightbatch")
        run = stack.wait_for_run("nightbatch", run_id, timeout)
        seconds = time.time() - began
    with psycopg.connect(stack.dsn) as database:
        row = database.execute(
            "SELECT jobs, succeeded, batches, batch_cost_usd FROM nightbatch_report.run_summary WHERE run_id = %s",
            [run_id],
        ).fetchone()
    assert row is not None
    billed = sum(1 for _ in stack.billing_log.open("rb"))
    assert run["state"] == "success" and row[0] == row[1] == billed == count, (run["state"], row, billed)
    return {
        "jobs": count,
        "batches": row[2],
        "billed": billed,
        "seconds": round(seconds, 1),
        **_shares(stack, run_id, began, seconds),
        "memory_mb": memory.peaks,
    }


def render(figures: dict[str, Any]) -> str:
    """The figures in words and two tables."""
    ours, theirs, between = (
        f"{figures[name]:,.0f} s"
        for name in ("our_tasks_seconds", "waiting_for_the_provider_seconds", "airflow_seconds")
    )
    words = (
        f"{figures['jobs']:,} jobs in {figures['batches']} batches, for all three providers: {figures['seconds']:,.0f} s from"
        f" the trigger to the end of the run, every job billed once. In {ours} of it at least one of our tasks worked;"
        f" {theirs} more the emulator alone did, which shares the machine; {between} were Airflow's own, between"
        f" {figures['tasks']} tasks."
    )
    by_task = markdown(
        ["task", "s, all of them"], [[name, f"{s:,.1f}"] for name, s in figures["by_task_seconds"].items()]
    )
    memory = markdown(
        ["component", "MB at the most (PSS)"], [[name, f"{mb:,}"] for name, mb in figures["memory_mb"].items()]
    )
    return f"{words}\n\n{by_task}\n\n{memory}"


def insert(dsn: str, count: int) -> None:
    """Jobs for all three providers, OpenAI's twice as many, priorities mixed."""
    with psycopg.connect(dsn, autocommit=True) as database, database.cursor() as cursor, cursor.copy(_COLUMNS) as copy:
        for number in range(count):
            provider = _PROVIDERS[number % len(_PROVIDERS)]
            copy.write_row(("creative_scoring", provider, 1 + number % 10, jobs.creative(number).decode()))


def _shares(stack: Stack, run_id: str, began: float, seconds: float) -> dict[str, Any]:
    """Who the seconds belong to: our tasks, the emulator while nothing of ours ran, and the rest, which is Airflow's."""
    instances = stack.api("GET", f"/dags/nightbatch/dagRuns/{run_id}/taskInstances?limit=1000")["task_instances"]
    working: dict[str, list[Span]] = defaultdict(list)
    for instance in instances:
        name = instance["task_id"].rpartition(".")[2]
        if instance["start_date"] and instance["end_date"] and name != "wait":
            working[name].append((_seconds(instance["start_date"]), _seconds(instance["end_date"])))
    with psycopg.connect(stack.dsn) as database:
        away: list[Span] = [
            (start.timestamp(), end.timestamp())
            for start, end in database.execute("SELECT submitted_at, ended_at FROM nightbatch.batch WHERE run_id = %s", [run_id])
        ]  # fmt: skip
    ours = covered(span for spans in working.values() for span in spans)
    both = covered([*(span for spans in working.values() for span in spans), *away])
    return {
        "tasks": len(instances),
        "our_tasks_seconds": round(ours, 1),
        "waiting_for_the_provider_seconds": round(both - ours, 1),
        "airflow_seconds": round(seconds - both, 1),
        "by_task_seconds": {name: round(sum(e - s for s, e in spans), 1) for name, spans in working.items()},
    }


def covered(spans: Iterable[Span]) -> float:
    """Seconds that lie in at least one of the spans."""
    total, reached = 0.0, 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class Memory:
    """The most that each component held, in MB, its children included; pages that processes share are counted once (PSS)."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peaks: dict[str, int] = {}

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(2):
            groups = dict(processes.running(self._stack.root))
            with suppress(psutil.Error, KeyError):
                server = psutil.Process(self._stack.status()["postgres"])
                groups["postgres"] = [server, *server.children()]
            for name, group in groups.items():
                self.peaks[name] = max(self.peaks.get(name, 0), round(sum(map(_held, group)) / 2**20))


def _held(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0


if __name__ == "__main__":
    main()

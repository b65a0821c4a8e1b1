"""`make demo`: insert jobs, run the night, show the savings, and check them against the providers' bill."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console

from nightbatch import reporting
from nightbatch.core.errors import NightbatchError
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.jobs import council, intake
from nightbatch.planning import reprocessing
from nightbatch.postgres.store import open_store
from nightbatch.reporting import Report
from nightbatch_local.demo.highlights import highlights
from nightbatch_local.demo.jobs import creatives, demo_jobs
from nightbatch_local.demo.progress import watch
from nightbatch_local.stack.environment import PROJECT
from nightbatch_local.stack.stack import Stack

_SETTINGS = """\
# Small batches and short waits, so that a night takes a minute instead of hours.
NIGHTBATCH_MAX_BATCH_JOBS=150
NIGHTBATCH_POLL_SECONDS=1
NIGHTBATCH_POLL_MAX_SECONDS=2
NIGHTBATCH_SETTLE_SECONDS=3
"""
_DEADLINE_SECONDS = 600
_COUNCIL: list[tuple[ProviderName, str | None]] = [
    ("openai", None),
    ("anthropic", None),
    ("gemini", None),
    ("openai", "gpt-6-sol"),
]
_COUNCILS = 5
_AGAIN: dict[str, Any] = {"to_model": "gpt-6-sol", "job_types": ["hook_generation"], "from_model": "gpt-6-luna"}
_OTHERS: list[ProviderName] = ["anthropic", "gemini"]
_PIPE_COLUMNS = 120  # where there is no screen to say how wide it is


def main() -> int:
    """Run the demo; return 0 when the night went through and the bill agrees to the last digit, 1 otherwise, 130 after Ctrl-C."""
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_COLUMNS)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & would have it ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _demo(console, PROJECT / "var" / "demo")
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is left running.")
        return 130
    except NightbatchError as error:
        console.print(f"[red]The demo failed:[/red] {error}", highlight=False)
        return 1


def _demo(console: Console, root: Path) -> int:
    began = time.monotonic()
    console.print(
        "[bold]nightbatch[/bold]: one night, end to end, on this machine. Nothing leaves it, nothing is paid.\n"
    )
    stack = _fresh_stack(root, console)
    with stack:
        queued = _queue_jobs(stack, root)
        console.print(f"Queued {queued:,} jobs by [cyan]nightbatch enqueue[/cyan] (var/demo/jobs.jsonl).")
        queued += _convene(stack)
        console.print(f"Called a council of {len(_COUNCIL)} models on {_COUNCILS} creatives.")
        run_id = stack.trigger("nightbatch")
        console.print(f"Started the Dag [cyan]nightbatch[/cyan] in Airflow at {stack.api_url}\n")
        deadline = time.monotonic() + _DEADLINE_SECONDS
        states = [watch(stack, run_id, console, deadline=deadline)]
        _ask_others(stack)
        again = f"again_of_{stack.trigger('nightbatch_reprocess', _AGAIN | _today())}"
        console.print("\nSome of its answers once more, from other models: the Dag [cyan]nightbatch_reprocess[/cyan]\n")
        states.append(watch(stack, again, console, deadline=deadline))
        with open_store(stack.dsn) as store:
            report = reporting.run_report(store, run_id, again)
            told = highlights(store)
            queued += told.reprocessed
    reporting.keep(root, "report", report)
    console.print()
    console.print(reporting.render_terminal(report))
    console.print(told.sentences, highlight=False)
    problems = _compare(report, _bill(root / "billing.jsonl"), queued)
    problems += [f"A run ended as {state}." for state in states if state != "success"]
    if not (told.reprocessed and told.councils == _COUNCILS):
        problems.append("The council or the reprocessing is not whole.")
    if not told.is_more_than_text:
        problems.append("No function was called, no prefix cached, or nothing thought.")
    _say_goodbye(console, problems, time.monotonic() - began)
    return 1 if problems else 0


def _fresh_stack(root: Path, console: Console) -> Stack:
    Stack(root).stop()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    settings = root / "settings.env"
    settings.write_text(f"{_SETTINGS}NIGHTBATCH_MEDIA_DIR={root / 'media'}\n", encoding="utf-8")
    return Stack(root, turnaround=6, env_file=settings, progress=lambda what: console.print(f"  {what}", style="dim"))


def _queue_jobs(stack: Stack, root: Path) -> int:
    path = root / "jobs.jsonl"
    jobs = [json.dumps(job, ensure_ascii=False) for job in demo_jobs(root / "media")]
    path.write_text("\n".join(jobs) + "\n", encoding="utf-8")
    with open_store(stack.dsn) as store:
        done = intake.enqueue_file(store, job_types(), path)
        # A producer who writes SQL may name a job type that does not exist: the file's check would have told him.
        for line in done.bad:
            job = json.loads(jobs[line.number - 1])
            store.insert_job(job["job_type"], job["provider"], json.dumps(job["input"]))
    return done.new + len(done.bad)


def _convene(stack: Stack) -> int:
    """Put a few creatives before all members of the council, and return how many jobs that makes."""
    with open_store(stack.dsn) as store:
        for creative in creatives()[:_COUNCILS]:
            council.convene(store, job_types(), creative, _COUNCIL, priority=7)
    return _COUNCILS * len(_COUNCIL)


def _ask_others(stack: Stack) -> None:
    """Queue the same answers again for the other providers; the Dag's run takes them along with its own."""
    now = datetime.now(UTC)
    with open_store(stack.dsn) as store:
        for provider in _OTHERS:
            wish = reprocessing.ReprocessRequest(
                since=now - timedelta(days=1), until=now, job_types=("hook_generation",), from_model=_AGAIN["from_model"],
                to_provider=provider,
            )  # fmt: skip
            reprocessing.send_again(store, job_types(), wish)


def _today() -> dict[str, str]:
    """Return the days from yesterday to tomorrow: midnight may pass, and the stack's time zone may be another."""
    now = datetime.now(UTC)
    return {"from_day": f"{now - timedelta(days=1):%Y-%m-%d}", "to_day": f"{now + timedelta(days=1):%Y-%m-%d}"}


def _bill(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _compare(report: Report, bill: list[dict[str, Any]], queued: int) -> list[str]:
    """Return where the report and the emulator's billing log differ, in sentences; none if all is well."""
    problems = []
    charged = sum((Decimal(line["cost_usd"]) for line in bill if line["cost_usd"] is not None), Decimal(0))
    if charged != report.totals.batch_cost_usd:
        problems.append(f"The bill says ${charged}, the report ${report.totals.batch_cost_usd}.")
    if twice := [job for job, times in Counter(_job(line) for line in bill).items() if times > 1]:
        problems.append(f"{len(twice)} jobs were billed twice, job {twice[0]} among them.")
    if report.jobs != queued:
        problems.append(f"{queued} jobs were queued, {report.jobs} are in the report.")
    if (unpriced := sum(line["cost_usd"] is None for line in bill)) > report.totals.unpriced:
        problems.append(f"The bill has {unpriced} unpriced lines, the report {report.totals.unpriced}.")
    return problems


def _job(line: dict[str, Any]) -> str:
    return str(line["custom_id"]).partition("_")[0]


def _say_goodbye(console: Console, problems: list[str], seconds: float) -> None:
    for problem in problems:
        console.print(f"[red]Wrong:[/red] {problem}")
    if not problems:
        console.print(
            "The providers' bill ([cyan]var/demo/billing.jsonl[/cyan]) agrees to the last digit; no job was paid twice."
        )
    console.print(
        f"Done in {seconds:.0f} s; nothing is left running. The report: [cyan]var/demo/report.html[/cyan], .md, .csv and .json.\n"
        "Next: [cyan]make up[/cyan] keeps the stack running with Airflow's UI; docs/getting-started.md inserts your own rows."
    )


if __name__ == "__main__":
    sys.exit(main())

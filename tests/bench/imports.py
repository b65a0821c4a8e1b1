"""What it costs to import nightbatch, to parse its Dag files and to ask for help, beside Airflow's own packages.

CPU seconds of whole processes, in turn, and for a parse those of a fork that had Airflow imported before: as the Dag
processor does it, and as a process does that runs one task and has ``airflow.sdk`` alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

from tests.bench.tables import markdown

DAGS = Path(__file__).parents[2] / "dags"
SCRIPTS = Path(sys.executable).parent

HOOKS = {
    "openai": "airflow.providers.openai.hooks.openai",
    "anthropic": "airflow.providers.anthropic.hooks.anthropic",
    "common.ai": "airflow.providers.common.ai.hooks.pydantic_ai",
}
OPERATORS = {
    "openai": (
        "airflow.providers.openai.operators.openai",
        'OpenAITriggerBatchOperator(task_id="send", file_id=prepare(), endpoint="/v1/responses")',
    ),
    "anthropic": (
        "airflow.providers.anthropic.operators.batch",
        'AnthropicBatchOperator(task_id="send", requests=prepare())',
    ),
    "common.ai": (
        "airflow.providers.common.ai.operators.llm_batch",
        'LLMBatchOperator(task_id="send", requests=prepare(), llm_conn_id="llm", result_path="file:///tmp/results")',
    ),
}
CONTEXTS = {"the Dag processor": "airflow.dag_processing.manager", "a task's process": "airflow.sdk"}


@dataclass(frozen=True, slots=True)
class Row:
    """CPU seconds, the median of the rounds; ``spread`` is the least and the most of ours ÷ theirs in a round."""

    what: str
    ours: float
    peer: str
    theirs: float
    ratio: float
    spread: tuple[float, float]
    ours_mb: float
    theirs_mb: float
    met: bool


Figures = dict[str, tuple[float, float]]
"""By command, or by Dag file and context: CPU seconds and MB."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parse", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.parse:
        print(json.dumps(_parse_all(*options.parse)))
    else:
        print(render(measure(options.rounds)))


def measure(rounds: int = 3) -> list[Row]:
    """All comparisons; about 40 s of CPU a round."""
    with tempfile.TemporaryDirectory(prefix="nb-imports-") as name:
        folder = Path(name)
        seen = [_round(folder, _dag_files(folder)) for _ in range(rounds)]
    rows = [_row("`import nightbatch`", "nightbatch", f"{peer}'s hook", module, seen) for peer, module in HOOKS.items()]
    rows.append(_row("`nightbatch --help`", "nightbatch --help", "`airflow --help`", "airflow --help", seen))
    for context in CONTEXTS:
        for ours in sorted(DAGS.glob("*.py")):
            for peer in OPERATORS:
                what = f"parse of {ours.name} in {context}"
                rows.append(_row(what, f"{ours.name} {context}", f"{peer}'s operator", f"{peer}.py {context}", seen))
    return rows


def render(rows: list[Row]) -> str:
    """The rows as a Markdown table, those of the same thing of ours in one."""
    return markdown(
        ["", "CPU s", "MB", "beside: CPU s (ours ÷ theirs, least and most)", "under all"],
        [
            [
                what,
                f"{same[0].ours:.3f}",
                f"{same[0].ours_mb:.0f}",
                "; ".join(f"{row.peer} {row.theirs:.3f} ({row.spread[0]:.2f}–{row.spread[1]:.2f})" for row in same),
                "yes" if all(row.met for row in same) else "no",
            ]
            for what, same in ((what, list(group)) for what, group in groupby(rows, key=lambda row: row.what))
        ],
    )


def _row(what: str, ours: str, peer: str, theirs: str, seen: list[Figures]) -> Row:
    ratios = [figures[ours][0] / figures[theirs][0] for figures in seen]
    return Row(
        what=what,
        ours=statistics.median(figures[ours][0] for figures in seen),
        peer=peer,
        theirs=statistics.median(figures[theirs][0] for figures in seen),
        ratio=statistics.median(ratios),
        spread=(min(ratios), max(ratios)),
        ours_mb=max(figures[ours][1] for figures in seen),
        theirs_mb=max(figures[theirs][1] for figures in seen),
        met=statistics.median(ratios) < 1,
    )


def _dag_files(folder: Path) -> list[Path]:
    """Ours, and for each peer a Dag of one ``@task`` and its operator."""
    for peer, (module, call) in OPERATORS.items():
        name = call.partition("(")[0]
        (folder / f"{peer}.py").write_text(
            f"from airflow.sdk import dag, task\nfrom {module} import {name}\n\n\n"
            f"@task\ndef prepare():\n    ...\n\n\n@dag()\ndef peer():\n    {call}\n\n\npeer()\n"
        )
    return [*sorted(DAGS.glob("*.py")), *(folder / f"{peer}.py" for peer in OPERATORS)]


def _round(folder: Path, dag_files: list[Path]) -> Figures:
    environment = {**os.environ, "AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    figures = {
        module: _cost([sys.executable, "-c", f"import {module}"], environment)
        for module in ("nightbatch", *HOOKS.values())
    }
    for command in ("nightbatch --help", "airflow --help"):
        program, *arguments = command.split()
        figures[command] = _cost([str(SCRIPTS / program), *arguments], environment)
    for context, module in CONTEXTS.items():
        command_line = [sys.executable, "-m", __spec__.name, "--parse", module, *map(str, dag_files)]
        done = subprocess.run(command_line, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        for file, (seconds, memory) in json.loads(done.stdout.splitlines()[-1]).items():
            figures[f"{file} {context}"] = (seconds, memory)
    return figures


def _cost(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """CPU seconds and peak MB of a process."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def _parse_all(module: str, *files: str) -> Figures:
    """Each file in a fork of its own, with ``module`` imported before."""
    import_module("airflow.sdk").dag  # noqa: B018 — the names of airflow.sdk are imported when first asked for
    import_module(module)
    with get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        return dict(zip((Path(file).name for file in files), pool.map(_parse, files, chunksize=1), strict=True))


def _parse(file: str) -> tuple[float, float]:
    began = time.process_time()
    runpy.run_path(file)
    return time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

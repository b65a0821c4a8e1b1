"""The same jobs through nightbatch and through Airflow's `LLMBatchOperator`, against the emulator: time and peak memory.

``make bench`` runs it. Each contender is a process of its own, three rounds, in turn. The provider's turnaround is not
counted: each contender prepares and sends, the batch ends, then it fetches, checks and stores the answers.
nightbatch reads its jobs from Postgres and writes results, costs and roll-ups there; the operator gets its requests as a
Python list and writes JSONL files, without costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from nightbatch.emulator.process import EmulatorProcess
from nightbatch.postgres.embedded import EmbeddedPostgres
from nightbatch.postgres.migrate import migrate

_MODEL = "gpt-6-luna"
_REPORT = Path(__file__).parents[2] / "var" / "bench" / "peers.json"


def main() -> None:
    options = _options()
    if options.child:
        _CHILDREN[options.child](options.jobs)
        return
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in _CHILDREN}
    with tempfile.TemporaryDirectory(prefix="nb-bench-") as folder:
        for turn in range(options.rounds):
            for name in _CHILDREN:
                figures[name].append(_round(name, Path(folder) / f"{name}-{turn}", options.jobs))
                print(f"round {turn + 1} {name}: {json.dumps(figures[name][-1])}", flush=True)
    _report(figures, options.jobs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child")
    return parser.parse_args()


def _round(name: str, folder: Path, jobs: int) -> dict[str, float]:
    folder.mkdir()
    with EmulatorProcess(folder / "emulator", turnaround=0.1) as emulator, EmbeddedPostgres(folder / "data") as server:
        migrate(server.create_database("nightbatch"))
        openai = {"password": "emu-bench", "host": emulator.openai_url}
        environment = {
            **os.environ,
            "NIGHTBATCH_DSN": server.dsn("nightbatch"),
            "NIGHTBATCH_WORK_DIR": str(folder / "work"),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_LLM": json.dumps({"conn_type": "pydanticai", **openai}),
            "BENCH_EMULATOR": emulator.url,
            "BENCH_FOLDER": str(folder),
        }
        command = [sys.executable, "-m", __spec__.name, "--child", name, "--jobs", str(jobs)]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        billed = len(emulator.billing())
        assert billed == jobs, f"{name}: {billed} jobs billed instead of {jobs}"
        return figures


def _nightbatch(jobs: int) -> None:
    from nightbatch import loading, submission
    from nightbatch.job_types import job_types
    from nightbatch.ledger import RunParams
    from nightbatch.postgres.store import open_store
    from nightbatch.providers import build
    from nightbatch.settings import Settings

    settings, types = Settings.from_env(), job_types()
    provider = build("openai", api_key="emu-bench", base_url=f"{os.environ['BENCH_EMULATOR']}/openai/v1")
    with open_store(os.environ["NIGHTBATCH_DSN"]) as store:
        with store.copy("copy_jobs", file="intake") as write:
            for text in _inputs(jobs):
                write(("creative_scoring", "openai", _MODEL, 5, text, None, "{}", None, None))
        clock = _Clock()
        with clock.phase("send"):
            (batch,) = submission.plan_run(
                store, types, settings, run_id="bench", queued_before=None, params=RunParams()
            )
            submission.submit_batch(store, provider, types, settings, batch.id)
        found = store.batch(batch.id).provider_batch_id or ""
        while asyncio.run(provider.get_state(found)).phase == "running":
            time.sleep(0.2)
        with clock.phase("fetch"):
            loaded = loading.load_batch(store, provider, types, batch.id)
        assert loaded.succeeded == jobs, loaded
    clock.tell()


def _llm_batch_operator(jobs: int) -> None:
    from airflow.providers.common.ai.batch.dispatch import import_adapter_class
    from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator
    from airflow.sdk.exceptions import TaskDeferred

    from nightbatch.job_types import job_types
    from nightbatch.models import Prompt

    kind = job_types()["creative_scoring"]
    prompts = [prompt for text in _inputs(jobs) if isinstance(prompt := kind.render_request(text.encode()), Prompt)]
    requests: list[str] = [prompt.user for prompt in prompts]
    instance = SimpleNamespace(
        dag_id="bench", task_id="bench", run_id="bench", map_index=-1, try_number=1, xcom_push=lambda **_: None
    )
    context: Any = {"task_instance": instance, "ti": instance}
    import_adapter_class("openai")  # imports the SDK, as `build` did for nightbatch
    clock = _Clock()
    with clock.phase("send"):
        operator = LLMBatchOperator(
            task_id="bench",
            requests=requests,
            result_path=f"file://{os.environ['BENCH_FOLDER']}/results",
            llm_conn_id="llm",
            model_id=f"openai:{_MODEL}",
            system_prompt=prompts[0].system or "",
            output_type=kind.Output,
            deferrable=True,
        )
        try:
            operator.execute(context)
        except TaskDeferred as deferred:
            arguments = dict(deferred.kwargs or {})
    batch_id = operator.batch_id or ""
    _wait_for(batch_id)
    with clock.phase("fetch"):
        manifest = operator.execute_complete(context, event={"status": "success", "batch_id": batch_id}, **arguments)
    assert manifest["counts"]["succeeded"] == jobs, manifest
    clock.tell()


def _wait_for(batch_id: str) -> None:
    url = f"{os.environ['BENCH_EMULATOR']}/openai/v1/batches/{batch_id}"
    while True:
        answer = httpx.get(url, headers={"Authorization": "Bearer emu-bench"}, trust_env=False, timeout=60).json()
        if answer["status"] == "completed":
            return
        time.sleep(0.2)


class _Clock:
    """Wall seconds of the phases, and the most memory that this process held."""

    def __init__(self) -> None:
        self.figures = {"bare_mb": _peak_mb()}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.figures[f"{name}_seconds"] = round(time.perf_counter() - began, 3)

    def tell(self) -> None:
        self.figures["peak_mb"] = _peak_mb()
        print(json.dumps(self.figures))


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _inputs(jobs: int) -> Iterator[str]:
    for number in range(jobs):
        yield json.dumps({"headline": f"Creative {number}", "body": "Set it at night, wake to the smell of it. " * 20})


def _report(figures: dict[str, list[dict[str, float]]], jobs: int) -> None:
    medians = {
        name: {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
        for name, turns in figures.items()
    }
    print(f"\n{jobs:,} OpenAI jobs, median of {len(next(iter(figures.values())))} rounds")
    print(f"{'':20} {'send s':>8} {'fetch s':>8} {'both s':>8} {'peak MB':>8} {'above imports':>14}")
    for name, row in medians.items():
        both = row["send_seconds"] + row["fetch_seconds"]
        above = row["peak_mb"] - row["bare_mb"]
        print(
            f"{name:20} {row['send_seconds']:8.2f} {row['fetch_seconds']:8.2f} {both:8.2f} {row['peak_mb']:8.0f} {above:14.0f}"
        )
    ours, theirs = medians["nightbatch"], medians["LLMBatchOperator"]
    ratio = (theirs["send_seconds"] + theirs["fetch_seconds"]) / (ours["send_seconds"] + ours["fetch_seconds"])
    print(f"nightbatch is {ratio:.1f} times as fast, with {theirs['peak_mb'] / ours['peak_mb']:.1f} times less memory")
    _REPORT.parent.mkdir(parents=True, exist_ok=True)
    _REPORT.write_text(json.dumps({"jobs": jobs, "rounds": figures, "medians": medians}, indent=2) + "\n")


_CHILDREN: dict[str, Callable[[int], None]] = {"nightbatch": _nightbatch, "LLMBatchOperator": _llm_batch_operator}

if __name__ == "__main__":
    main()

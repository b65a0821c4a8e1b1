"""One process waits for 2,000 batches: its CPU, its memory, its requests, and the time from a batch's end to its event.

Real `BatchTrigger`s in one event loop, as a triggerer runs them, with a real ledger and the emulator; Airflow's scheduler is
left out, since 2,000 mapped tasks would take it ten minutes. All waits begin at once, as after a restart of the triggerer.
Twice: as it is, where a list answers for many, and with a look at each batch alone. The pauses are a fifth of the default's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psycopg

from nightbatch.postgres.migrate import migrate
from nightbatch_local.emulator.process import EmulatorProcess
from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests.bench.stages.child import peak_mb
from tests.bench.tables import markdown
from tests.unguarded import unguarded

MODES = {"merged": "one list answers for many", "singly": "a look at each batch"}
_ACCOUNT = "waits"
_LINE = {
    "custom_id": "j1_a1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Name a harbour."}]},
}


@dataclass(frozen=True, slots=True)
class Row:
    """One way of waiting. ``start`` is until the first pause was over, ``waiting`` the time after it in which nothing ended.

    Requests and CPU seconds of the waiting process; delays in seconds from a batch's end to its event; MB at the most, and
    above the same process before its first wait.
    """

    mode: str
    batches: int
    poll_seconds: float
    poll_max_seconds: float
    start_requests: int
    start_cpu: float
    waiting_requests_a_minute: float
    waiting_cpu_a_minute: float
    requests: int
    cpu: float
    delay_median: float
    delay_p95: float
    delay_longest: float
    peak_mb: float
    above_bare_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--poll", type=float, default=12.0)
    parser.add_argument("--poll-max", type=float, default=60.0)
    parser.add_argument("--child", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        asyncio.run(_wait_for_all(options.child, options.batches))
    else:
        print(render(measure(options.batches, options.poll, options.poll_max)))


def measure(batches: int = 2000, poll: float = 12.0, poll_max: float = 60.0) -> list[Row]:
    """Both ways of waiting; each takes about four times ``poll_max``."""
    return [_measure(mode, batches, poll, poll_max) for mode in MODES]


def render(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    head = [
        f"{rows[0].batches:,} waits, pauses of {rows[0].poll_seconds:g}–{rows[0].poll_max_seconds:g} s",
        *("requests at the start", "CPU s", "requests a minute", "CPU s a minute", "requests in all", "CPU s in all"),
        *("delay: median s", "95 % s", "longest s", "peak MB", "MB above bare"),
    ]
    return markdown(
        head,
        [
            [
                MODES[row.mode],
                f"{row.start_requests:,}",
                f"{row.start_cpu:.1f}",
                f"{row.waiting_requests_a_minute:,.0f}",
                f"{row.waiting_cpu_a_minute:.2f}",
                f"{row.requests:,}",
                f"{row.cpu:.1f}",
                f"{row.delay_median:.1f}",
                f"{row.delay_p95:.1f}",
                f"{row.delay_longest:.1f}",
                f"{row.peak_mb:.0f}",
                f"{row.above_bare_mb:.0f}",
            ]
            for row in rows
        ],
    )


def _measure(mode: str, batches: int, poll: float, poll_max: float) -> Row:
    with (
        tempfile.TemporaryDirectory(prefix="nb-waits-") as name,
        EmulatorProcess(Path(name) / "emulator", turnaround=86_400) as emulator,
        EmbeddedPostgres(Path(name) / "data", die_with_parent=True) as server,
    ):
        migrate(server.create_database("nightbatch"))
        ids = asyncio.run(_send(emulator, batches))
        _write_ledger(server.dsn("nightbatch"), ids)
        sent = len(emulator.log(_ACCOUNT))
        environment = {
            **os.environ,
            "NIGHTBATCH_DSN": server.dsn("nightbatch"),
            "NIGHTBATCH_POLL_SECONDS": str(poll),
            "NIGHTBATCH_POLL_MAX_SECONDS": str(poll_max),
            "NIGHTBATCH_ALLOWED_HOSTS": "127.0.0.1",
            "AIRFLOW_HOME": str(Path(name) / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(
                {"conn_type": "openai", "password": f"emu-{_ACCOUNT}", "host": emulator.openai_url}
            ),
        }
        command = [sys.executable, "-m", __spec__.name, "--child", mode, "--batches", str(batches)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            began = float(child.stdout.readline())
            quiet_from, quiet_to = began + poll, began + poll + poll_max
            ends: dict[str, float] = {}
            ending = threading.Thread(target=_end_all, args=(emulator, ids, quiet_to, poll_max, ends))
            ending.start()
            seen: dict[str, Any] = json.loads(child.stdout.read())
            ending.join()
        at = [entry["at"] for entry in emulator.log(_ACCOUNT)[sent:]]
    delays = sorted(moment - ends[ids[int(number) - 1]] for number, moment in seen["events"].items())
    assert len(delays) == batches, f"{len(delays)} of {batches} waits were told of an end"
    quiet = [cpu for moment, cpu in seen["cpu"] if quiet_from <= moment <= quiet_to]
    minutes = poll_max / 60
    return Row(
        mode=mode,
        batches=batches,
        poll_seconds=poll,
        poll_max_seconds=poll_max,
        start_requests=sum(moment < quiet_from for moment in at),
        start_cpu=quiet[0],
        waiting_requests_a_minute=sum(quiet_from <= moment < quiet_to for moment in at) / minutes,
        waiting_cpu_a_minute=(quiet[-1] - quiet[0]) / minutes,
        requests=len(at),
        cpu=seen["cpu"][-1][1],
        delay_median=statistics.median(delays),
        delay_p95=delays[int(0.95 * len(delays))],
        delay_longest=delays[-1],
        peak_mb=seen["peak_mb"],
        above_bare_mb=seen["peak_mb"] - seen["bare_mb"],
    )


async def _send(emulator: EmulatorProcess, batches: int) -> list[str]:
    """So many batches of one request; all have the same input file."""
    turns = asyncio.Semaphore(8)
    headers = {"Authorization": f"Bearer emu-{_ACCOUNT}"}
    async with httpx.AsyncClient(base_url=emulator.openai_url, headers=headers, timeout=60, trust_env=False) as client:
        file = {"file": ("input.jsonl", json.dumps(_LINE).encode())}
        uploaded = (await client.post("/files", data={"purpose": "batch"}, files=file)).json()["id"]
        body = {"input_file_id": uploaded, "endpoint": "/v1/chat/completions", "completion_window": "24h"}

        async def create() -> str:
            async with turns:
                return str((await client.post("/batches", json=body)).raise_for_status().json()["id"])

        return list(await asyncio.gather(*(create() for _ in range(batches))))


def _write_ledger(dsn: str, ids: list[str]) -> None:
    """The attempts as their submission would have left them; the first has the id 1."""
    with psycopg.connect(dsn) as connection, unguarded(connection):
        connection.execute("INSERT INTO nightbatch.run (id) VALUES ('waits')")
        connection.cursor().executemany(
            """INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, state, job_count, uploaded_at,
                 account_fingerprint, payload_sha256, provider_batch_id, intent_at, submitted_at)
               VALUES ('waits', 'openai', 'gpt-4o-mini', 'chat', %s, 'submitted', 1, now(), 'a', '0', %s, now(), now())""",
            list(enumerate(ids, start=1)),
        )


def _end_all(emulator: EmulatorProcess, ids: list[str], begin: float, seconds: float, ends: dict[str, float]) -> None:
    """End the batches one by one, in no order, evenly over so many seconds from a moment on; note when."""
    order = Random(6).sample(ids, len(ids))
    with httpx.Client(base_url=emulator.url, timeout=60, trust_env=False) as client:
        for number, batch_id in enumerate(order):
            time.sleep(max(0.0, begin + seconds * number / len(order) - time.time()))
            ends[batch_id] = time.time()
            client.post(f"/control/batches/{batch_id}/end", json={}).raise_for_status()


async def _wait_for_all(mode: str, batches: int) -> None:
    """The process that is measured. Tells when it began; at the end its events, its CPU by the second, its memory."""
    from nightbatch.airflow import shared
    from nightbatch.airflow.hooks import provider_for
    from nightbatch.airflow.trigger import BatchTrigger
    from nightbatch.postgres import store as _store  # noqa: F401 — imported, like the SDK, before anything is measured

    if mode == "singly":
        vars(shared)["list_pages"] = lambda due, waiting: 0
    provider_for("openai")
    deadline = (datetime.now(UTC) + timedelta(hours=26)).timestamp()
    events: dict[int, float] = {}
    cpu: list[tuple[float, float]] = []

    async def wait(batch_id: int) -> None:
        async for event in BatchTrigger(batch_id, deadline).run():
            assert event.payload["outcome"] == "ended", event
            events[batch_id] = time.time()

    async def watch() -> None:
        while True:
            cpu.append((time.time(), time.process_time() - bare_cpu))
            await asyncio.sleep(1)

    bare_mb, bare_cpu = peak_mb(), time.process_time()
    print(time.time(), flush=True)
    watching = asyncio.create_task(watch())
    await asyncio.gather(*map(wait, range(1, batches + 1)))
    watching.cancel()
    cpu.append((time.time(), time.process_time() - bare_cpu))
    print(json.dumps({"events": events, "cpu": cpu, "peak_mb": peak_mb(), "bare_mb": bare_mb}))


if __name__ == "__main__":
    main()

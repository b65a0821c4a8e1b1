"""Fifty people on the API while a night runs: whether anything fails, and how long an answer takes.

``make bench-api`` runs it on the whole stack: one api-server, Postgres, the emulator and Airflow share this machine.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import httpx

from nightbatch.postgres.store import open_store
from nightbatch_local.stack import Stack

READS = (
    "dashboard", "dashboard/live", "savings", "metrics", "active", "queue/status", "alerts", "report", "results/1", "status/1",
    "jobs/1", "prices", "health",
)  # fmt: skip
_JOB = {"job_type": "creative_scoring", "provider": "openai", "input": {"headline": "Sent while the night runs"}}


def main() -> None:
    options = _options()
    root = Path(tempfile.mkdtemp(prefix="nb-api-"))
    (root / "env").write_text("NIGHTBATCH_MAX_BATCH_JOBS=200\nNIGHTBATCH_POLL_SECONDS=1\n")
    try:
        with Stack(root / "stack", turnaround=15, env_file=root / "env") as stack:
            print(json.dumps(_measure(stack, options.clients, options.seconds), indent=2))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    return parser.parse_args()


def _measure(stack: Stack, clients: int, seconds: float) -> dict[str, object]:
    _queue(stack, 3_000)
    stack.client.call("GET", "/dags")
    token = httpx.post(
        f"{stack.api_url}/auth/token", json={"username": "admin", "password": stack.password()}, trust_env=False
    ).json()["access_token"]
    run_id = stack.trigger("nightbatch")
    _until_batches(stack)
    taken: dict[str, list[float]] = defaultdict(list)
    statuses: Counter[int | str] = Counter()
    end = time.monotonic() + seconds
    people = [
        threading.Thread(target=_person, args=(f"{stack.api_url}/batch/", token, end, taken, statuses))
        for _ in range(clients)
    ]
    for person in people:
        person.start()
    for person in people:
        person.join()
    run = stack.wait_for_run("nightbatch", run_id, 600)
    every = sorted(time_ for times in taken.values() for time_ in times)
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": len(every),
        "by_status": {str(status): count for status, count in sorted(statuses.items(), key=str)},
        "p50_ms": _ms(statistics.median(every)),
        "p95_ms": _ms(statistics.quantiles(every, n=20)[-1]),
        "longest_ms": _ms(every[-1]),
        "p95_ms_by_route": {path: _ms(statistics.quantiles(times, n=20)[-1]) for path, times in sorted(taken.items())},
        "night": run["state"],
    }


def _queue(stack: Stack, count: int) -> None:
    with open_store(stack.dsn) as store:
        for number in range(count):
            provider = ("openai", "anthropic", "gemini")[number % 3]
            store.insert_job("creative_scoring", provider, json.dumps({"headline": f"Headline {number}"}))


def _until_batches(stack: Stack) -> None:
    with open_store(stack.dsn) as store:
        while not store.open_attempts():
            time.sleep(0.5)


def _person(url: str, token: str, end: float, taken: dict[str, list[float]], statuses: Counter[int | str]) -> None:
    """Asks, reads for about a second, and asks again."""
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False) as http:
        while time.monotonic() < end:
            path = random.choice((*READS, "queue"))
            began = time.monotonic()
            try:
                answer = http.post(url + path, json={"jobs": [_JOB]}) if path == "queue" else http.get(url + path)
                statuses[answer.status_code] += 1
            except httpx.HTTPError as error:
                statuses[type(error).__name__] += 1
            taken[path].append(time.monotonic() - began)
            time.sleep(random.uniform(0.5, 1.5))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


if __name__ == "__main__":
    main()

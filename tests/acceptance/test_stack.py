"""The stack as a user of `make up` and the demo knows it: real processes, killed and stopped for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from nightbatch.core.errors import ConfigurationError, NightbatchError
from nightbatch_local.stack import Stack, processes
from nightbatch_local.stack.credentials import Secrets
from nightbatch_local.stack.environment import airflow_environment
from nightbatch_local.stack.ports import Ports
from tests.acceptance.calm import CALM

DAGS = """
from datetime import timedelta
from airflow.sdk import BaseHook, dag, task
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync

# counted from when the wait begins, however long that took
SOON = "{{ (macros.datetime.utcnow() + macros.timedelta(seconds=10)).isoformat() }}"

@dag(schedule=None)
def hosts_and_a_wait():
    @task
    def hosts():
        return {name: BaseHook.get_connection(f"{name}_default").host for name in ("openai", "anthropic", "gemini")}

    @task
    def after(found):
        return found

    found = hosts()
    found >> DateTimeSensorAsync(task_id="wait", target_time=SOON) >> after(found)

@dag(schedule=None)
def slow_task():
    @task(retries=2, retry_delay=timedelta(seconds=0))
    def sleep():
        import time
        time.sleep(4)

    sleep()

hosts_and_a_wait()
slow_task()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "dags").mkdir()
    (folder / "dags" / "small.py").write_text(DAGS)
    with Stack(folder / "root", dags=folder / "dags", turnaround=1, settings=CALM) as stack:
        yield stack


def wait_until(claim: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def left_over(root: Path) -> list[str]:
    """Whatever still runs and has to do with this root, found without the stack's own means."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            words = [*command, process.cwd(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(word.startswith(str(root)) for word in words):
            found.append(" ".join(command))
    return found


def task_state(stack: Stack, dag_id: str, run_id: str, task_id: str) -> str | None:
    instance = stack.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")
    state: str | None = instance["state"]
    return state


def test_a_wait_survives_the_triggerer_being_killed_and_tasks_see_the_emulator_as_their_providers(stack: Stack) -> None:
    run_id = stack.trigger("hosts_and_a_wait")
    wait_until(lambda: task_state(stack, "hosts_and_a_wait", run_id, "wait") == "deferred")
    stack.kill("triggerer")
    stack.start_component("triggerer")
    stack.wait_healthy()
    assert stack.wait_for_run("hosts_and_a_wait", run_id)["state"] == "success"
    entry = f"/dags/hosts_and_a_wait/dagRuns/{run_id}/taskInstances/after/xcomEntries/return_value"
    assert stack.api("GET", entry)["value"] == {
        "openai": f"{stack.emulator_url}/openai/v1",
        "anthropic": f"{stack.emulator_url}/anthropic",
        "gemini": f"{stack.emulator_url}/gemini",
    }


def test_a_pool_for_each_provider_is_there(stack: Stack) -> None:
    pools = {pool["name"]: (pool["slots"], pool["include_deferred"]) for pool in stack.api("GET", "/pools")["pools"]}
    assert {name: pools.get(f"nightbatch_{name}") for name in ("openai", "anthropic", "gemini")} == {
        "openai": (16, False),
        "anthropic": (16, False),
        "gemini": (16, False),
    }


def test_the_product_database_is_migrated_and_apart_from_airflows(stack: Stack) -> None:
    with psycopg.connect(stack.dsn) as connection:
        found = connection.execute(
            "SELECT to_regclass('nightbatch.job') IS NULL, to_regclass('dag_run') IS NULL"
        ).fetchone()
    assert found == (False, True)


def test_secrets_are_for_their_owner_only(stack: Stack) -> None:
    for name in ("secrets.json", "airflow/passwords.json", "postgres/data.password"):
        assert (stack.root / name).stat().st_mode & 0o077 == 0, name


def test_a_run_survives_the_scheduler_and_its_task_being_killed(stack: Stack) -> None:
    run_id = stack.trigger("slow_task")
    wait_until(lambda: task_state(stack, "slow_task", run_id, "sleep") == "running")
    stack.kill("scheduler")
    assert "scheduler" not in stack.status()
    stack.start_component("scheduler")
    stack.wait_healthy()
    assert stack.wait_for_run("slow_task", run_id)["state"] == "success"


def test_a_root_in_use_is_refused(stack: Stack) -> None:
    with pytest.raises(ConfigurationError, match="Another process runs the stack"):
        Stack(stack.root).start()
    stack.wait_healthy()


def test_a_component_that_ended_is_named_with_the_end_of_its_log(stack: Stack) -> None:
    stack.kill("dag-processor")
    with pytest.raises(NightbatchError, match=r"(?s)dag-processor ended. The end of .*dag-processor.log:\n.+"):
        stack.wait_healthy()
    stack.start_component("dag-processor")
    stack.wait_healthy()


def test_up_down_and_status_beside_another_stack(stack: Stack, tmp_path: Path) -> None:
    root = tmp_path / "up"

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nightbatch_local.stack", *words, "--root", str(root)],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    try:
        first = command("up")
        assert first.returncode == 0, first.stderr
        up = Stack(root)
        pids = up.status()
        assert f"Airflow       {up.api_url}   user admin, password {up.password()}" in first.stdout

        os.kill(pids["triggerer"], signal.SIGKILL)
        wait_until(
            lambda: not psutil.pid_exists(pids["triggerer"]) or psutil.Process(pids["triggerer"]).status() == "zombie"
        )
        again = command("up")
        assert again.returncode == 0, again.stderr
        changed = {name for name, pid in up.status().items() if pid != pids[name]}
        assert changed == {"triggerer"}
        assert "triggerer" in command("status").stdout
    finally:
        done = command("down")
    assert (done.returncode, done.stdout) == (0, "Nothing is running.\n")
    assert left_over(root) == []
    stack.wait_healthy()


def test_nothing_outlives_a_killed_foreground_process(tmp_path: Path) -> None:
    root = tmp_path / "root"
    code = f"from pathlib import Path; from nightbatch_local.stack import Stack; Stack(Path({str(root)!r})).start()"
    with subprocess.Popen([sys.executable, "-c", code]) as supervisor:
        wait_until(lambda: "scheduler" in processes.running(root))
        supervisor.kill()
    wait_until(lambda: left_over(root) == [])


def test_a_failed_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "airflow").mkdir(parents=True)
    (root / "airflow" / "airflow.cfg").write_text("this is no configuration\n")
    with pytest.raises(NightbatchError, match=r"(?s)airflow-migration did not succeed.*no section headers"):
        Stack(root).start()
    assert left_over(root) == []


def test_a_process_that_merely_looks_like_ours_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as stranger:
        processes.spawn(tmp_path, "scheduler", ["sleep", "60"], dict(os.environ))
        processes.stop(tmp_path, ["scheduler"])
        assert processes.running(tmp_path) == {}
        assert stranger.poll() is None
        stranger.kill()


def test_children_that_left_the_process_group_are_killed_too(tmp_path: Path) -> None:
    processes.spawn(tmp_path, "scheduler", ["sh", "-c", "setsid sleep 60 & sleep 60"], dict(os.environ))
    wait_until(lambda: len(processes.running(tmp_path).get("scheduler", [])) == 3)
    processes.kill(tmp_path, ["scheduler"])
    assert processes.running(tmp_path) == {}


def environment(**settings: str) -> dict[str, str]:
    return airflow_environment(
        Path("/stack"),
        dags=Path("/dags"),
        ports=Ports(api=1, postgres=2, emulator=3),
        secrets=Secrets(),
        airflow_dsn="postgresql://postgres:secret@127.0.0.1:2/airflow",
        nightbatch_dsn="postgresql://postgres:secret@127.0.0.1:2/nightbatch",
        settings=settings,
    )


def test_a_key_in_the_env_file_makes_its_provider_the_real_one() -> None:
    found = environment(OPENAI_API_KEY="sk-real")
    assert json.loads(found["AIRFLOW_CONN_OPENAI_DEFAULT"]) == {"conn_type": "openai", "password": "sk-real"}
    assert json.loads(found["AIRFLOW_CONN_GEMINI_DEFAULT"]) == {
        "conn_type": "gemini",
        "password": "emu-local",
        "host": "http://127.0.0.1:3/gemini",
    }
    assert "OPENAI_API_KEY" not in found
    assert "NIGHTBATCH_POLL_SECONDS" not in found  # a real provider is not asked every second


def test_nothing_of_the_callers_configuration_reaches_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "AIRFLOW__CORE__LOAD_EXAMPLES", "PGPASSWORD", "PYTHONPATH"):
        monkeypatch.setenv(name, "canary")
    assert "canary" not in environment().values()


def test_a_line_of_the_env_file_wins() -> None:
    assert environment(AIRFLOW__CORE__PARALLELISM="9")["AIRFLOW__CORE__PARALLELISM"] == "9"

"""Use Airflow's REST API v2 as a stack's owner."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import httpx

from nightbatch.core.errors import NightbatchError

_FINISHED = ("success", "failed")


class AirflowApi:
    """A client that logs in by itself. ``path`` is what follows ``/api/v2``, like ``/dags``."""

    def __init__(self, url: str, *, user: str, password: str) -> None:
        self._credentials = {"username": user, "password": password}
        # trust_env off: a proxy of the environment is not meant for this machine
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def request(self, method: str, path: str, json: object = None) -> httpx.Response:
        """Ask any path of the server, with a token; return the answer whatever its status."""
        if "Authorization" not in self._http.headers:
            self._log_in()
        answer = self._http.request(method, path, json=json)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._log_in()
            answer = self._http.request(method, path, json=json)
        return answer

    def _log_in(self) -> None:
        answer = self._http.post("/auth/token", json=self._credentials)
        if not answer.is_success:
            raise NightbatchError(f"Airflow refused the login of {self._credentials['username']}: {answer.text[:500]}")
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def call(self, method: str, path: str, json: object = None) -> Any:
        """Return the decoded answer. Raises `NightbatchError` with Airflow's words if it is not a success."""
        answer = self.request(method, f"/api/v2{path}", json)
        if not answer.is_success:
            raise NightbatchError(f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:2000]}")
        return answer.json() if answer.content else None

    def health(self) -> dict[str, Any] | None:
        """Return what Airflow says of its components; None while the server does not answer. Needs no login."""
        try:
            answer = self._http.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success else None

    def warm_up(self) -> None:
        """Make the server build what tasks talk to: it takes seconds, and the first task would time out on it."""
        self._http.get("/execution/health", timeout=60)

    def is_healthy(self, component: str, *, since: float) -> bool:
        """Return whether a component's heart beat after ``since`` (seconds of the epoch): an older beat is its forerunner's."""
        name = component.replace("-", "_")
        state = (self.health() or {}).get(name) or {}
        beat = state.get(f"latest_{name}_heartbeat")
        return (
            state.get("status") == "healthy" and beat is not None and datetime.fromisoformat(beat).timestamp() > since
        )

    def wait_for_dag(self, dag_id: str, timeout: float) -> None:
        """Wait until the Dag was parsed. Raises `NightbatchError` with the import errors after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while self.request("GET", f"/api/v2/dags/{dag_id}").status_code != httpx.codes.OK:
            if time.monotonic() > deadline:
                errors = [error["stack_trace"] for error in self.call("GET", "/importErrors")["import_errors"]]
                raise NightbatchError(f"Airflow found no Dag {dag_id!r} in {timeout:.0f} s.\n" + "\n".join(errors))
            time.sleep(0.2)

    def trigger(self, dag_id: str, conf: dict[str, Any] | None, timeout: float = 60) -> str:
        """Start a run now, without a data interval; return its run_id. Waits for the Dag to be parsed first."""
        self.wait_for_dag(dag_id, timeout)
        run = self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}})
        return str(run["dag_run_id"])

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float) -> dict[str, Any]:
        """Return the run once it ended, whether well or not. Raises `NightbatchError` after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            run: dict[str, Any] = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
            if run["state"] in _FINISHED:
                return run
            if time.monotonic() > deadline:
                raise NightbatchError(f"Run {run_id} of {dag_id} is still {run['state']} after {timeout:.0f} s.")
            time.sleep(0.5)

    def create_pools(self, slots: dict[str, int]) -> None:
        """Make these pools, or set their slots."""
        entities = [{"name": name, "slots": count, "include_deferred": False} for name, count in slots.items()]
        self.call(
            "PATCH",
            "/pools",
            {"actions": [{"action": "create", "action_on_existence": "overwrite", "entities": entities}]},
        )

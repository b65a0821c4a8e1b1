"""Start runs of the nightly Dag from another run."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseOperator, BaseOperatorLink, TriggerRule, conf
from airflow.sdk.exceptions import AirflowException, AirflowSkipException, DagRunTriggerException

from nightbatch.airflow.hooks import store

_DAG = "nightbatch"
_WAVE = re.compile(r"wave(\d+)_of_(.+)")
_FORM = ("providers", "job_types", "job_ids", "max_jobs", "dry_run")
_DONE, _FAILED = "success", "failed"  # airflow.sdk's DagRunState would have to be imported for them


class StartedRunLink(BaseOperatorLink):
    """Links the task to the run that it started."""

    name = "Started run"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address of the run in Airflow's UI; empty when no run was started."""
        run_id = getattr(operator, "trigger_run_id", None)
        root = conf.get("api", "base_url", fallback="/").rstrip("/")
        return f"{root}/dags/{_DAG}/runs/{quote(run_id)}" if run_id else ""


class _StartingOperator(BaseOperator):
    """Starts a run of the nightly Dag as Airflow's `TriggerDagRunOperator` does, by the same exception.

    The module of that one imports the models of Airflow's database: 0.4 s and 20 MB for every process that parses the Dag.
    """

    operator_extra_links = (StartedRunLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trigger_run_id: str | None = None

    def _start(self, run_id: str, params: dict[str, Any], *, poll_seconds: int | None = None) -> None:
        """Raise `DagRunTriggerException` always. With ``poll_seconds`` the task waits in the triggerer for the run's end."""
        self.trigger_run_id = run_id
        raise DagRunTriggerException(
            trigger_dag_id=_DAG,
            dag_run_id=run_id,
            conf=params,
            logical_date=datetime.now(UTC),
            reset_dag_run=False,
            skip_when_already_exists=True,
            wait_for_completion=poll_seconds is not None,
            allowed_states=[_DONE],
            failed_states=[_FAILED],
            poke_interval=poll_seconds or 0,
            deferrable=poll_seconds is not None,
        )


class NextWaveOperator(_StartingOperator):
    """Start the Dag again with the same params if jobs of this run went back for want of room; skipped otherwise.

    A run that came no further, with nothing loaded and nothing learned, is not followed by another.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trigger_rule=TriggerRule.ALL_DONE, **kwargs)

    def execute(self, context: Any) -> None:
        """Start the next wave. Raises `AirflowSkipException` when all that was planned found room."""
        from nightbatch.postgres import plans

        run_id = context["run_id"]
        with store() as ledger:
            if not plans.wants_another_wave(ledger, run_id):
                raise AirflowSkipException("Everything that was planned found room.")
        self._start(wave_after(run_id), {name: context["params"][name] for name in _FORM if name in context["params"]})


class SendAgainOperator(_StartingOperator):
    """Start the Dag for jobs that are reprocessed, and wait for its end; skipped when this run did so before."""

    def __init__(self, *, poll_seconds: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poll_seconds = poll_seconds

    def execute(self, context: Any) -> None:
        """Raise `DagRunTriggerException`, by which Airflow starts the run."""
        params = {"job_types": ["historical_reprocessing"]}
        self._start(f"again_of_{context['run_id']}", params, poll_seconds=int(max(self.poll_seconds, 1)))

    def execute_complete(self, context: Any, event: tuple[str, dict[str, Any]]) -> None:
        """Read the state of the run that it waited for. Raises `AirflowException` when that has failed."""
        (self.trigger_run_id,) = event[1]["run_ids"]
        if event[1][self.trigger_run_id] != _DONE:
            raise AirflowException(f"The run {self.trigger_run_id} of {_DAG} has failed.")


def wave_after(run_id: str) -> str:
    """Return the id of a run's next wave: ``x`` is followed by ``wave2_of_x``.

    The number is in front, since Airflow keeps ids like ``scheduled__x`` for the scheduler's runs.
    """
    found = _WAVE.fullmatch(run_id)
    number, base = (int(found[1]), found[2]) if found else (1, run_id)
    return f"wave{number + 1}_of_{base}"

"""Another run at once, for what a provider's queue had no room for."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseOperator, BaseOperatorLink, TriggerRule, conf
from airflow.sdk.exceptions import AirflowSkipException, DagRunTriggerException

from nightbatch.airflow.hooks import store

_DAG = "nightbatch"
_WAVE = re.compile(r"wave(\d+)_of_(.+)")


class NextWaveLink(BaseOperatorLink):
    """From the task to the run that it started."""

    name = "Next wave"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Empty when no run was started."""
        run_id = getattr(operator, "trigger_run_id", None)
        root = conf.get("api", "base_url", fallback="/").rstrip("/")
        return f"{root}/dags/{_DAG}/runs/{quote(run_id)}" if run_id else ""


class NextWaveOperator(BaseOperator):
    """Start the Dag again with the same params if jobs of this run went back for want of room; skipped otherwise.

    A run that came no further, with nothing loaded and nothing learned, is not followed by another.
    Airflow's `TriggerDagRunOperator` does the same by the same exception, but its module imports the models of Airflow's
    database: 0.4 s and 20 MB for every process that parses the Dag.
    """

    operator_extra_links = (NextWaveLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trigger_rule=TriggerRule.ALL_DONE, **kwargs)
        self.trigger_run_id: str | None = None

    def execute(self, context: Any) -> None:
        """Raises `AirflowSkipException` when all that was planned found room."""
        from nightbatch.postgres import plans

        run_id = context["run_id"]
        with store() as ledger:
            if not plans.wants_another_wave(ledger, run_id):
                raise AirflowSkipException("Everything that was planned found room.")
        self.trigger_run_id = wave_after(run_id)
        raise DagRunTriggerException(
            trigger_dag_id=_DAG,
            dag_run_id=self.trigger_run_id,
            conf=dict(context["params"]),
            logical_date=datetime.now(UTC),
            reset_dag_run=False,
            skip_when_already_exists=True,
            wait_for_completion=False,
            allowed_states=[],
            failed_states=[],
            poke_interval=60,
            deferrable=False,
        )


def wave_after(run_id: str) -> str:
    """``x`` is followed by ``wave2_of_x``: in front, since Airflow keeps ids like ``scheduled__x`` for the scheduler's runs."""
    found = _WAVE.fullmatch(run_id)
    number, base = (int(found[1]), found[2]) if found else (1, run_id)
    return f"wave{number + 1}_of_{base}"

"""Another run at once, for what a provider's queue had no room for."""

from __future__ import annotations

import re
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowSkipException

from nightbatch.airflow.hooks import store

_WAVE = re.compile(r"wave(\d+)_of_(.+)")


class NextWaveOperator(TriggerDagRunOperator):
    """Start the Dag again with the same params if jobs of this run went back for want of room; skipped otherwise.

    A run that came no further, with nothing loaded and nothing learned, is not followed by another.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            trigger_dag_id="nightbatch", skip_when_already_exists=True, trigger_rule=TriggerRule.ALL_DONE, **kwargs
        )

    def execute(self, context: Any) -> None:
        """Raises `AirflowSkipException` when all that was planned found room."""
        from nightbatch.postgres import plans

        run_id = context["run_id"]
        with store() as ledger:
            if not plans.wants_another_wave(ledger, run_id):
                raise AirflowSkipException("Everything that was planned found room.")
        self.trigger_run_id = wave_after(run_id)
        self.conf = dict(context["params"])
        super().execute(context)


def wave_after(run_id: str) -> str:
    """``x`` is followed by ``wave2_of_x``: in front, since Airflow keeps ids like ``scheduled__x`` for the scheduler's runs."""
    found = _WAVE.fullmatch(run_id)
    number, base = (int(found[1]), found[2]) if found else (1, run_id)
    return f"wave{number + 1}_of_{base}"

"""Wait for one batch of the night: the task ``wait``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from nightbatch.core.errors import Transient
from nightbatch.core.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchSensor(BaseSensorOperator):
    """Wait, without holding a worker, until a provider has ended a batch of the ledger.

    ``batch_id`` is the ledger's id. The deadline counts from the submission, so neither a retry nor a restart moves it.
    A batch that is loaded already needs no wait, one that was given up is skipped.
    """

    template_fields: Sequence[str] = ("batch_id",)
    ui_color = "#e6f1f2"

    def __init__(self, *, batch_id: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id

    def execute(self, context: Context) -> None:
        """Hand the wait to the triggerer."""
        from nightbatch.airflow.hooks import store
        from nightbatch.airflow.trigger import BatchTrigger
        from nightbatch.batches.recovery import overdue_hours

        if self.batch_id is None:
            raise Transient("Which batch to wait for is not known: submit was cleared, and has not run again yet.")
        with store() as ledger:
            batch = ledger.batch(self.batch_id)
        if batch.state == "loaded":
            self.log.info("Batch %s is loaded already.", batch.id)
            return
        if batch.closed_at is not None:
            raise AirflowSkipException(f"Batch {batch.id} was {batch.state}: {batch.error}")
        if batch.submitted_at is None:
            raise AirflowFailException(f"Batch {batch.id} is {batch.state}: there is nothing to wait for yet.")
        deadline = batch.submitted_at + timedelta(hours=overdue_hours(batch.provider, Settings.from_env()))
        self.log.info("Batch %s is with %s as %s.", batch.id, batch.provider, batch.provider_batch_id)
        self.defer(trigger=BatchTrigger(batch.id, deadline.timestamp()), method_name="execute_complete")

    def execute_complete(self, context: Context, event: Any = None) -> None:
        """Go on to the load, or fail with the trigger's reason; the same event again does no harm."""
        match event:
            case {"batch_id": self.batch_id, "outcome": "ended", "says": says}:
                self.log.info("Batch %s has ended: %s.", self.batch_id, says)
            case {"batch_id": self.batch_id, "outcome": "gave_up", "says": says}:
                raise AirflowFailException(
                    f"Batch {self.batch_id}: {says} The batch itself goes on:"
                    " nightbatch_recover loads it when it has ended."
                )
            case None | {"batch_id": int(), "outcome": "ended" | "gave_up"}:
                # Airflow 3.3 resumes a wait that was cleared while it ran with no event, or with the one from before,
                # which may be of an attempt that was replaced since. So the ledger is asked again.
                self.log.warning("Batch %s: resumed by an event that is not its own: %r", self.batch_id, event)
                self.execute(context)
            case _:
                raise AirflowFailException(
                    f"Batch {self.batch_id}: the triggerer sent an event that makes no sense: {event!r}."
                    " Clear this task to wait again; that costs nothing."
                )

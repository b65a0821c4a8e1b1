"""The night at the change of the clocks, with the real Dag in a zone that has one at 02:00."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction

from nightbatch.batches import submission
from nightbatch.core.ledger import RunParams
from nightbatch.core.settings import Settings
from nightbatch.job_types import job_types
from nightbatch.postgres.store import Store, open_store

NIGHTLY = Path(__file__).parents[2] / "dags" / "nightbatch_nightly.py"
BERLIN = ZoneInfo("Europe/Berlin")


def nights(start: datetime, count: int) -> list[datetime]:
    """When the next scheduled runs come, as the scheduler finds out: one after the other."""
    bag = DagBag(str(NIGHTLY))
    assert bag.import_errors == {}
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags["nightbatch"])).timetable
    restriction = TimeRestriction(pendulum.instance(start), None, catchup=True)
    last: DataInterval | None = None
    ends: list[datetime] = []
    for _ in range(count):
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        assert info is not None
        last = info.data_interval
        assert last is not None
        ends.append(last.end)
    return ends


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("noon", "hours"),
    [
        (datetime(2026, 10, 23, 12, tzinfo=UTC), [2, 2, 2, 2]),  # 02:00 comes twice on the 25th
        (datetime(2027, 3, 26, 12, tzinfo=UTC), [2, 3, 2, 2]),  # and not at all on the 28th
    ],
)
def test_every_night_runs_once_and_takes_every_job_once(
    dsn: str, monkeypatch: pytest.MonkeyPatch, noon: datetime, hours: list[int]
) -> None:
    monkeypatch.setenv("NIGHTBATCH_TIMEZONE", "Europe/Berlin")
    ends = nights(noon, 4)
    local = [end.astimezone(BERLIN) for end in ends]
    assert [end.hour for end in local] == hours
    assert [(later.date() - earlier.date()).days for earlier, later in pairwise(local)] == [1, 1, 1]
    with open_store(dsn) as store:
        for end in ends:  # each night has one job just before its end, and leaves one to the next
            queue(store, end - timedelta(minutes=1), end)
        assert [plan(store, end) for end in ends] == [1, 2, 2, 2]


def queue(store: Store, *moments: datetime) -> None:
    for moment in moments:
        store.connection.execute(
            "INSERT INTO nightbatch.job (job_type, provider, input, created_at)"
            " VALUES ('creative_scoring', 'openai', '{\"headline\": \"x\"}', %s)",
            (moment,),
        )


def plan(store: Store, end: datetime) -> int:
    """How many jobs the run of this night takes."""
    batches = submission.plan_run(
        store, job_types(), Settings(), run_id=f"scheduled__{end}", queued_before=end, params=RunParams()
    )
    return sum(batch.job_count for batch in batches)

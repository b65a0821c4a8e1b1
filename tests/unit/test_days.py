"""Days in a time zone: one function for whoever asks for days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from nightbatch.core.days import span


@pytest.mark.parametrize(
    ("first", "last", "hours"),
    [
        (date(2026, 11, 24), date(2026, 11, 24), 24),
        (date(2026, 11, 24), date(2026, 11, 26), 72),
        (date(2026, 3, 29), date(2026, 3, 29), 23),
        (date(2026, 10, 25), date(2026, 10, 25), 25),
    ],
)
def test_both_days_count_and_a_day_is_as_long_as_its_clock_says(first: date, last: date, hours: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    begin, end = span(first, last, zone)
    assert (begin.date(), begin.hour, end.hour, begin.tzinfo, end.tzinfo) == (first, 0, 0, zone, zone)
    assert end.astimezone(UTC) - begin.astimezone(UTC) == timedelta(hours=hours)


def test_a_day_of_utc_begins_at_midnight() -> None:
    begin, end = span(date(2026, 11, 24), date(2026, 11, 24), UTC)
    assert (begin, end) == (datetime(2026, 11, 24, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC))

"""When days and nights begin and end, in the schedule's time zone."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from nightbatch.core.settings import Settings


def span(first: date, last: date, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return when these days begin in a time zone, and when they have ended; ``last`` is one of them."""
    return datetime.combine(first, time(), zone), datetime.combine(last + timedelta(days=1), time(), zone)


def night_of(moment: datetime, settings: Settings) -> datetime:
    """Return when the night began that a moment belongs to: at noon, in the schedule's time zone."""
    local = moment.astimezone(ZoneInfo(settings.timezone))
    day = local.date() if local.time() >= time(12) else local.date() - timedelta(days=1)
    return datetime.combine(day, time(12), local.tzinfo)

"""What a team may set, each by an environment variable ``NIGHTBATCH_<NAME>``. Keys are not settings: they live in connections."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from zoneinfo import ZoneInfo

from nightbatch.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings with their defaults; durations are in seconds unless the name says otherwise."""

    schedule: str = "0 2 * * *"
    timezone: str = "UTC"
    max_batch_jobs: int = 50_000
    """Jobs per provider batch, below the provider's own limit; smaller batches end, and are loaded, one by one."""
    settle_seconds: float = 120.0
    """How long after the fence a create still under way is waited for, before its absence counts."""
    create_seconds: float = 900.0
    """How long a create may take until another process takes it for dead."""
    poll_seconds: float = 60.0
    poll_max_seconds: float = 300.0
    wait_hours: float = 26.0
    """When a batch counts as overdue, from its submission; Gemini's batches live for 48 h, so theirs is at least 50."""
    release_anthropic_after_hours: float = 0.0
    """Send a held Anthropic attempt again after this time. 0: never, since the first may have been paid for unseen."""
    work_dir: str = str(Path(tempfile.gettempdir()) / f"nightbatch-{os.getuid()}")
    """Where input files lie while they are uploaded; they hold prompts."""
    media_dir: str = ""
    """Where the videos and images lie that jobs name; empty: jobs may name none. Every worker needs it."""
    retention_days: int = 0
    """When inputs and outputs of ended jobs are erased, where the job type does not say. 0: they are kept for ever."""
    report_dir: str = ""
    """Where the JSON and Markdown reports go; empty writes none."""
    milestone_usd: float = 1000.0
    """Tell of the savings at each multiple of this, in USD. 0: never."""
    min_success_rate: float = 0.95
    """Tell when fewer of a run's jobs succeeded: 0 (never) to 1."""
    backlog_hours: float = 26.0
    """Tell when jobs wait for longer than this after they were due; the night takes each within 24."""
    notifiers: str = ""
    """Who sends alerts, as JSON; see docs/alerts.md. Empty: nobody, they only stand in the table."""
    allowed_hosts: str = ""
    """Hosts at private or local addresses that may be called, with commas between them."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Return the settings in force. Raises `ConfigurationError` naming the variable that is wrong."""
        values: dict[str, str | int | float] = {}
        for field in fields(cls):
            variable = f"NIGHTBATCH_{field.name.upper()}"
            text = environ.get(variable, "").strip()
            if text:
                values[field.name] = _convert(variable, text, type(field.default))
        settings = cls(**values)  # type: ignore[arg-type]  # the types are the defaults' own
        _check(settings)
        return settings


def database(environ: Mapping[str, str] = os.environ) -> str:
    """Return the database of commands and of Python; the Dags have a connection. Raises `ConfigurationError` without one."""
    if dsn := environ.get("NIGHTBATCH_DSN"):
        return dsn
    raise ConfigurationError("No database: set NIGHTBATCH_DSN, like postgresql://user:password@host:5432/nightbatch.")


def _convert(variable: str, text: str, kind: type) -> str | int | float:
    try:
        value: str | int | float = kind(text)
    except ValueError:
        raise ConfigurationError(f"{variable}={text!r} is not a number.") from None
    return value


def _check(settings: Settings) -> None:
    try:
        ZoneInfo(settings.timezone)
    except (KeyError, ValueError):
        raise ConfigurationError(
            f"NIGHTBATCH_TIMEZONE={settings.timezone!r} is no time zone, like Europe/Berlin."
        ) from None
    if settings.max_batch_jobs < 1:
        raise ConfigurationError("NIGHTBATCH_MAX_BATCH_JOBS must be at least 1.")
    if settings.retention_days < 0:
        raise ConfigurationError("NIGHTBATCH_RETENTION_DAYS must be 0, for ever, or more.")
    if not settings.milestone_usd >= 0:
        raise ConfigurationError("NIGHTBATCH_MILESTONE_USD must be 0, for never, or more.")
    if not 0 <= settings.min_success_rate <= 1:
        raise ConfigurationError("NIGHTBATCH_MIN_SUCCESS_RATE must be from 0 to 1, like 0.95.")
    for name in (
        "settle_seconds", "create_seconds", "poll_seconds", "poll_max_seconds", "wait_hours", "backlog_hours",
    ):  # fmt: skip
        if not getattr(settings, name) > 0:
            raise ConfigurationError(f"NIGHTBATCH_{name.upper()} must be more than 0.")

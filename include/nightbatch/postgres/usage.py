"""How many tokens a call takes, as the last nights showed."""

from __future__ import annotations

from typing import NamedTuple

from nightbatch.postgres.store import Store


class Usual(NamedTuple):
    """Tokens per answered job, on average; ``cached`` is the part of the input that was read from a cache."""

    jobs: int
    input_tokens: float
    cached_tokens: float
    output_tokens: float


def usual(store: Store, job_type: str, provider: str, model: str) -> Usual | None:
    """Of the last 30 days; None when no such job was answered."""
    values = {"job_type": job_type, "provider": provider, "model": model}
    row = store.run("usual", values, file="usage").fetchone()
    return Usual(*row) if row else None

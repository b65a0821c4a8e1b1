"""The nearest neighbours of a job's vectors, by the function ``nightbatch.similar``."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from nightbatch.core.errors import ConfigurationError, NightbatchError
from nightbatch.postgres.store import Store


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One vector near one of the job's own; positions count a job's texts from 0, ``similarity`` is 1 for the same direction."""

    of_position: int
    job_id: int
    position: int
    similarity: float
    labels: dict[str, object]


def nearest(store: Store, job_id: int, at_most: int) -> list[Neighbour]:
    """Return for each vector of the job its ``at_most`` nearest ones of the same model, the nearest first.

    Raises `ConfigurationError` on a server without pgvector, and `NightbatchError` for a job without vectors.
    """
    try:
        rows = store.run("similar", {"job_id": job_id, "at_most": at_most}, file="similarity").fetchall()
    except psycopg.errors.FeatureNotSupported as error:
        raise ConfigurationError(str(error)) from None
    if not rows and store.run("has_vectors", {"job_id": job_id}, file="similarity").fetchone() == (False,):
        raise NightbatchError(
            f"Job {job_id} has no vectors: only embedding_generation jobs whose results were loaded have some."
        )
    return [Neighbour(*row) for row in rows]

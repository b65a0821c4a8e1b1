"""Open the database for a request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends

from nightbatch.airflow import hooks
from nightbatch.postgres.store import Store


def _store() -> Iterator[Store]:
    with hooks.store() as store:
        yield store


OpenStore = Annotated[Store, Depends(_store)]
"""A connection of its own for each request, open until the answer is sent, also where that is streamed."""

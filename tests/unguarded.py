"""Rows in a state that no statement of ours reaches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg


@contextmanager
def unguarded(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Switch off the triggers that hold the protocol, and not the checks, so that a test can begin in the middle."""
    connection.execute("SET session_replication_role = replica")
    yield
    connection.execute("RESET session_replication_role")

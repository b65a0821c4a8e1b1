"""The disk dies: the ledger is put back to its backup, and a person says so and decides what is left to decide."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from nightbatch.batches import decisions, home
from nightbatch.core.models import custom_id
from nightbatch.postgres.store import open_store
from tests.crash import surroundings
from tests.soak.place import Lost, Place
from tests.soak.unrest import Unrest

_BY, _REASON = "the soak", "The disk died."
_PATIENCE_SECONDS = 120.0
"""How long answers that the lost ledger had loaded are looked for, before a person gives them up."""


class Disk:
    """The ledger's, which is backed up and dies."""

    def __init__(self, place: Place, unrest: Unrest) -> None:
        self._place, self._unrest = place, unrest
        self._backup = ""
        self._died_at = 0.0

    def back_up(self) -> None:
        """Copy the ledger while nothing works on it."""
        self._unrest.kill_airflow()
        with self._admin() as admin:
            self._backup = surroundings.back_up(admin, self._place.dsn)

    def restore(self) -> None:
        """Put the copy in the ledger's place, and say so."""
        place = self._place
        self._unrest.kill_airflow()
        lost = _lost(place, self._backup)
        name = place.dsn.rpartition("/")[2]
        with self._admin() as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            admin.execute(f"ALTER DATABASE {self._backup.rpartition('/')[2]} RENAME TO {name}")
        place.lost, self._died_at = lost, time.monotonic()
        place.tally.died = len([job for job in place.tally.jobs if job > lost.newest_job])
        place.tally.jobs = {job for job in place.tally.jobs if job <= lost.newest_job}
        self._say()

    def decide(self) -> None:
        """What a person does after it: says so again when it is asked for, and gives up answers that nobody has any more."""
        place = self._place
        if place.lost is None:
            return
        if place.displaced() and not place.sql("SELECT said FROM nightbatch.installation WHERE said IS NOT NULL"):
            self._say()
        if time.monotonic() - self._died_at > _PATIENCE_SECONDS:
            for (batch_id,) in place.sql(
                "SELECT id FROM nightbatch.batch WHERE state = 'submitted' AND provider_batch_id = ANY (%s)",
                list(place.lost.batches),
            ):
                with open_store(place.dsn) as store:
                    decisions.release(store, batch_id, choice="drop", by=_BY, reason=_REASON)
                place.tally.decisions["give up"] += 1

    def _say(self) -> None:
        with open_store(self._place.dsn) as store:
            home.say(store, "restored", by=_BY, reason=_REASON)
        self._place.tally.decisions["restored"] += 1

    def _admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(make_conninfo(self._place.dsn, dbname="postgres"), autocommit=True)


def _lost(place: Place, backup: str) -> Lost:
    """What this ledger knows and its backup does not."""
    with psycopg.connect(backup) as connection:
        newest = connection.execute("SELECT coalesce(max(id), 0) FROM nightbatch.job").fetchone()
    assert newest is not None  # an aggregate
    loaded = place.sql(
        "SELECT r.job_id, r.batch_id, b.nonce FROM nightbatch.result AS r JOIN nightbatch.batch AS b ON b.id = r.batch_id"
        " WHERE r.billed"
    )
    return Lost(
        newest[0],
        frozenset(nonce for (nonce,) in place.sql("SELECT nonce FROM nightbatch.batch WHERE nonce IS NOT NULL")),
        frozenset(custom_id(*row) for row in loaded),
        frozenset(id_ for (id_,) in place.sql("SELECT provider_batch_id FROM nightbatch.batch WHERE state = 'loaded'")),
    )

"""The person whom a held attempt waits for: looks at what Anthropic really has, and decides."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from nightbatch.batches import decisions
from nightbatch.postgres.store import open_store
from tests.soak.place import Place

_PATIENCE_SECONDS = 25
"""Far longer than a create can be under way here, late deliveries included."""
_DROPPED = 0.1
_ADOPTED = 0.3


def decide(place: Place) -> None:
    """Release every held attempt that has waited long enough; one that exists is mostly left for recovery to find."""
    held = place.sql(
        "SELECT id, nonce FROM nightbatch.batch WHERE state = 'held' AND intent_at < now() - make_interval(secs => %s)",
        _PATIENCE_SECONDS,
    )
    for batch_id, nonce in held:
        existing = _created(place.stack.root / "emulator", nonce)
        if existing is None:
            choice: decisions.Choice = "drop" if place.dice.random() < _DROPPED else "resend"
            _release(place, batch_id, choice, "Anthropic has never created it.")
        elif place.dice.random() < _ADOPTED:
            _release(place, batch_id, "adopt", "It is in Anthropic's console.", existing)


def _release(
    place: Place, batch_id: int, choice: decisions.Choice, reason: str, provider_batch_id: str | None = None
) -> None:
    with open_store(place.dsn) as store:
        decisions.release(
            store, batch_id, choice=choice, by="the soak", reason=reason, provider_batch_id=provider_batch_id
        )
    place.tally.decisions[choice] += 1


def _created(emulator: Path, nonce: str) -> str | None:
    """The Anthropic batch that holds the requests of the attempt with this nonce, read from the emulator's own memory.

    Not over its API: its lists lag and break on our own demand, and a person who is misled does pay twice. Not by the attempt's
    number: another installation may have given it too.
    """
    with closing(sqlite3.connect(f"file:{emulator / 'state.sqlite'}?mode=ro", uri=True, timeout=30)) as memory:
        rows = memory.execute(
            "SELECT b.id, b.input_path, f.path FROM batch AS b LEFT JOIN file AS f ON f.id = b.output_file"
            " WHERE b.provider = 'anthropic'"
        ).fetchall()
    mark = f"_{nonce}".encode()
    return next((id_ for id_, *paths in rows if any(mark in _bytes(path) for path in paths)), None)


def _bytes(path: str | None) -> bytes:
    """A file of the emulator's; its input goes when its output is there."""
    try:
        return Path(path).read_bytes() if path else b""
    except FileNotFoundError:
        return b""

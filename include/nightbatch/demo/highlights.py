"""What the night showed besides its costs: the council's verdicts, old answers beside new, nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from nightbatch.postgres import figures
from nightbatch.postgres.store import Store


@dataclass(frozen=True, slots=True)
class Highlights:
    """Counts, and the same in words."""

    councils: int
    reprocessed: int
    is_more_than_text: bool
    sentences: str


def highlights(store: Store) -> Highlights:
    """Of the whole database: the demo's holds nothing else."""
    councils, spread, dissenter = figures.councils(store)
    again, old_usd, new_usd = figures.reprocessed(store)
    vectors = figures.vectors(store)
    calls, written, cached, thoughts = figures.beyond_text(store)
    sentences = (
        f"  Council: {councils} verdicts are in; the models were at most {_points(spread)} points apart, {dissenter} the furthest"
        " from the middle (view nightbatch.council).\n"
        f"  Reprocessed: {again} answers stand beside new ones, ${new_usd:.4f} instead of ${old_usd:.4f} (view"
        " nightbatch.reprocessed).\n"
        f"  Vectors: {vectors:,} are in nightbatch.embedding; nightbatch.similar finds their neighbours.\n"
        f"  More than text: {calls} answers call a function; {written:,} tokens were written into caches, {cached:,} read from"
        f" them, and {thoughts:,} are thoughts, each at its own price (nightbatch.result, units).\n"
    )
    return Highlights(councils, again, min(calls, written, cached, thoughts) > 0, sentences)


def _points(spread: Decimal | None) -> str:
    return "–" if spread is None else f"{spread:.0f}"

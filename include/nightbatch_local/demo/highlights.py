"""Tell what the night showed besides its costs: the council's verdicts, old answers beside new, nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, LiteralString

from nightbatch.postgres.store import Store

_COUNCILS = """
SELECT count(*), max(spread), (array_agg(dissenter ORDER BY spread DESC NULLS LAST))[1] FROM nightbatch.council WHERE complete
"""
_REPROCESSED = """
SELECT count(*), coalesce(sum(old_batch_cost_usd), 0), coalesce(sum(new_batch_cost_usd), 0) FROM nightbatch.reprocessed
WHERE new_outcome IS NOT NULL
"""
_BEYOND_TEXT = """
SELECT count(*) FILTER (WHERE j.job_type = 'raw' AND r.output -> 'message' IS NOT NULL),
    coalesce(sum((r.units ->> 'cache_write_tokens')::bigint), 0)::bigint, coalesce(sum(r.cached_tokens), 0)::bigint,
    coalesce(sum((r.units ->> 'output_reasoning_tokens')::bigint), 0)::bigint
FROM nightbatch.result AS r JOIN nightbatch.job AS j ON j.id = r.job_id
"""
"""Calls of functions, tokens written into caches and read from them, and thoughts."""


@dataclass(frozen=True, slots=True)
class Highlights:
    """What the night showed, in counts and in words."""

    councils: int
    reprocessed: int
    is_more_than_text: bool
    sentences: str


def highlights(store: Store) -> Highlights:
    """Return the highlights of the whole database: the demo's holds nothing else."""
    councils, spread, dissenter = _row(store, _COUNCILS)
    again, old_usd, new_usd = _row(store, _REPROCESSED)
    (vectors,) = _row(store, "SELECT count(*) FROM nightbatch.embedding")
    calls, written, cached, thoughts = _row(store, _BEYOND_TEXT)
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


def _row(store: Store, query: LiteralString) -> Any:
    return store.connection.execute(query).fetchone()


def _points(spread: Decimal | None) -> str:
    return "–" if spread is None else f"{spread:.0f}"

"""Render jobs of a type with pydantic input, prompt and schema: otherwise as `render_raw`."""

from __future__ import annotations

from tests.bench.stages import Place, jobs, plan
from tests.bench.stages.render_raw import ours, reference, reset

__all__ = ["ours", "prepare", "reference", "reset"]


def prepare(place: Place) -> None:
    plan.insert(place, "creative_scoring", jobs.creative)
    plan.ours(place)

"""`nightbatch similar`: what lies near a job's texts, for a terminal and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from nightbatch.reporting.stats import Neighbour


def to_json(job_id: int, found: Sequence[Neighbour]) -> dict[str, Any]:
    """Return the job, and its neighbours in their order."""
    return {
        "job_id": job_id,
        "neighbours": [{name: getattr(one, name) for name in one.__dataclass_fields__} for one in found],
    }


def table(job_id: int, found: Sequence[Neighbour]) -> Table:
    """Return a table for a terminal; which of the job's texts is meant is only said of a job with several."""
    from rich.table import Table
    from rich.text import Text

    several = len({one.of_position for one in found}) > 1
    made = Table(title=f"Nearest to job {job_id}", title_justify="left", box=None, pad_edge=False)
    for name in (*(["text"] if several else []), "job", "its text", "similarity", "labels"):
        made.add_column(name, justify="left" if name == "labels" else "right")
    for one in found:
        cells = [str(one.of_position)] if several else []
        cells += [str(one.job_id), str(one.position), f"{one.similarity:.4f}", _labels(one.labels)]
        made.add_row(*map(Text, cells))
    return made


def _labels(labels: dict[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))

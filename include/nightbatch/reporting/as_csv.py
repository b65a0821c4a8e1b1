"""Render the report's parts as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from nightbatch.reporting.as_json import to_json
from nightbatch.reporting.reports import AnyReport

_COLUMNS = (
    "jobs", "succeeded", "failed", "requeued", "rejected", "from_cache", "realtime_jobs", "paid_again", "unpriced",
    "input_tokens", "cached_tokens", "output_tokens", "realtime_cost_usd", "batch_cost_usd", "wasted_cost_usd", "savings_usd",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""https://owasp.org/www-community/attacks/CSV_Injection"""


def render_csv(report: AnyReport) -> str:
    """Return a table with a row for the whole and for each part; ``by`` says by what, ``key`` which one.

    Money is in USD, with all digits. A figure that is not known for a part is empty. The last rows hold no figures: each
    ``price``, where it came from, and each ``assumption``. Text that a spreadsheet would take for a formula begins with ``'``.
    """
    written = io.StringIO()
    writer = csv.writer(written)
    found = to_json(report)
    writer.writerow(("by", "key", *_COLUMNS, "priced_with"))
    for by, key, values in _rows(found):
        writer.writerow((by, harmless(key), *(values.get(name, "") for name in _COLUMNS), ""))
    nothing = [""] * len(_COLUMNS)
    for price in found["prices"]:
        source = harmless(price["source"] or "unpriced")
        writer.writerow(("price", harmless(f"{price['provider']}/{price['model']}"), *nothing, source))
    for sentence in found["assumptions"]:
        writer.writerow(("assumption", sentence, *nothing, ""))
    return written.getvalue()


def _rows(values: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    yield "total", values.get("run_id") or f"{values['since']} to {values['until']}", values
    for name, parts in values.items():
        if name.startswith("by_"):
            for key, figures in parts.items():
                yield name.removeprefix("by_"), key, figures


def harmless(text: str) -> str:
    """Return text for a cell that no spreadsheet takes for a formula. Only for text: a negative figure stays a number."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text

"""Report what was sent, paid and saved, in a night or in any range of days, to people and programs.

`run_report` and `range_report` gather the figures; every renderer takes either of them.
"""

from __future__ import annotations

from nightbatch.core.amounts import share, usd
from nightbatch.reporting.as_csv import render_csv
from nightbatch.reporting.as_html import render_html
from nightbatch.reporting.as_json import to_json
from nightbatch.reporting.as_markdown import render_markdown
from nightbatch.reporting.files import keep
from nightbatch.reporting.on_terminal import render_terminal
from nightbatch.reporting.reports import AnyReport, RangeReport, Report, range_report, run_report

__all__ = [
    "AnyReport",
    "RangeReport",
    "Report",
    "keep",
    "range_report",
    "render_csv",
    "render_html",
    "render_markdown",
    "render_terminal",
    "run_report",
    "share",
    "to_json",
    "usd",
]

"""Write the report to files, in every format."""

from __future__ import annotations

import json
import re
from pathlib import Path
from uuid import uuid4

from nightbatch.reporting.as_csv import render_csv
from nightbatch.reporting.as_html import render_html
from nightbatch.reporting.as_json import to_json
from nightbatch.reporting.as_markdown import render_markdown
from nightbatch.reporting.reports import AnyReport


def keep(folder: Path, name: str, report: AnyReport) -> None:
    """Write ``name`` as .md, .json, .csv and .html; what cannot stand in a file's name becomes ``_``. Raises `OSError`.

    A reader sees an old file or a new one, never a part of one.
    """
    pages = {
        "md": render_markdown(report),
        "json": json.dumps(to_json(report), indent=2) + "\n",
        "csv": render_csv(report),
        "html": render_html(report),
    }
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
    for suffix, page in pages.items():
        _replace(folder / f"{stem}.{suffix}", page)


def _replace(file: Path, page: str) -> None:
    unfinished = file.with_name(f".{uuid4().hex}")
    try:
        unfinished.write_text(page, encoding="utf-8", newline="")  # as rendered: a CSV ends its lines itself
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)

"""`nightbatch results`: the answers, on a screen, through a pipe, or as a file of any size."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from nightbatch.cli.files import format_of, whole_file
from nightbatch.cli.options import AsJson
from nightbatch.cli.output import (
    Misuse,
    as_json_text,
    echo,
    fields,
    open_ledger,
    print_json,
    progress,
    report_errors,
    show_table,
)
from nightbatch.core.errors import NightbatchError

if TYPE_CHECKING:
    from nightbatch.postgres.store import Store
    from nightbatch.reporting.stats import ResultRow

_ON_A_SCREEN = 20
_ENDINGS = {".jsonl": "jsonl", ".csv": "csv"}


def results(
    run: Annotated[str | None, typer.Option(help="Only of this run.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Only of this batch.")] = None,
    job_type: Annotated[str | None, typer.Option(help="Only of this job type.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many; 20 if not given, with --output all.")
    ] = None,
    output_format: Annotated[
        Literal["jsonl", "csv"] | None, typer.Option("--format", help="As lines of JSON or of CSV, whole.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the results of a --run or --batch into this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the latest results, or those of a run or a batch.

    The newest come first; those of a batch in the order of its jobs. With --json one object a line, whole, as
    with --format jsonl. A file ends with .jsonl or .csv, or --format says which.
    """
    with report_errors(as_json), open_ledger() as store:
        wanted = format_of(output, "jsonl" if as_json else output_format, _ENDINGS, "table")
        if output is not None and batch is None and run is None and limit is None:
            raise Misuse("Name the --run or the --batch whose results are to be written, or give a --limit.")
        rows = _rows(store, run=run, batch=batch, job_type=job_type, limit=_limit(limit, output))
        if output is not None:
            count = _write(rows, output, wanted)
            echo(f"{count:,} results written to {output}.", error=True)
        elif wanted == "table":
            _show(rows)
        elif wanted == "csv":
            _write_csv(rows, typer.get_text_stream("stdout"))
        else:
            for row in rows:
                print_json(fields(row))


def _limit(given: int | None, output: Path | None) -> int | None:
    return given if given is not None or output is not None else _ON_A_SCREEN


def _rows(
    store: Store, *, run: str | None, batch: int | None, job_type: str | None, limit: int | None
) -> Iterable[ResultRow]:
    """Return the rows of a batch, or of a whole run, a page at a time; else the latest."""
    from nightbatch.batches import decisions
    from nightbatch.reporting import stats

    if batch is not None:
        batches = [decisions.find(store, batch).id]
    elif limit is not None:
        return stats.results(store, run_id=run, job_type=job_type, limit=limit)
    else:
        batches = stats.batches_of(store, run)
        if not batches:
            raise NightbatchError(f"There is no run {run}, or it sent nothing.")
    rows = chain.from_iterable(stats.all_batch_results(store, number) for number in batches)
    return islice((row for row in rows if job_type in (None, row.job_type)), limit)


def _write(rows: Iterable[ResultRow], path: Path, wanted: str) -> int:
    with whole_file(path) as file, progress(path.name, None) as advance:
        if wanted == "csv":
            return _write_csv(_counted(rows, advance), file)
        count = 0
        for row in _counted(rows, advance):
            file.write(as_json_text(fields(row)) + "\n")
            count += 1
        return count


def _counted(rows: Iterable[ResultRow], advance: Any) -> Iterator[ResultRow]:
    for count, row in enumerate(rows, start=1):
        advance(count)
        yield row


def _write_csv(rows: Iterable[ResultRow], file: TextIO) -> int:
    """Write the rows behind a line that names the columns, and return how many."""
    from nightbatch.reporting.stats import ResultRow

    writer, count = csv.writer(file), 0
    writer.writerow(ResultRow.__dataclass_fields__)
    for row in rows:
        writer.writerow(_cell(name, value) for name, value in fields(row).items())
        count += 1
    return count


def _cell(name: str, value: Any) -> Any:
    """Return text as a spreadsheet may read it, an output as JSON, and None for what is not known."""
    from nightbatch.reporting.as_csv import harmless

    if name == "output" and value is not None:
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, Decimal):
        return format(value, "f")
    return harmless(value) if isinstance(value, str) else value


def _show(rows: Iterable[ResultRow]) -> None:
    columns = ("job", "batch", "job type", "provider", "outcome", "paid", "output")
    show_table("Results", columns, [_line(row) for row in rows], figures=("job", "batch", "paid"))


def _line(row: ResultRow) -> tuple[object, ...]:
    paid = "–" if row.batch_cost_usd is None else f"${row.batch_cost_usd:.6f}"
    shown = json.dumps(row.output, ensure_ascii=False) if row.output is not None else row.error or ""
    return row.job_id, row.batch_id, row.job_type, row.provider, row.outcome, paid, shown[:80]

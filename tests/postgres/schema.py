"""The schema as text, for reading and for comparing: ``make schema`` writes it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from itertools import groupby
from pathlib import Path

from nightbatch.postgres.migrate import migrate
from nightbatch_local.postgres.embedded import EmbeddedPostgres, binaries

SCHEMA = Path(__file__).parents[2] / "docs" / "schema.sql"
SCHEMAS = ("nightbatch", "nightbatch_report")


def dump(dsn: str, schemas: tuple[str, ...] = SCHEMAS) -> str:
    """Return what pg_dump says of the schemas (of none: of the whole database), without what differs from call to call."""
    only = [f"--schema={name}" for name in schemas]
    command = [str(binaries() / "pg_dump"), "--schema-only", "--no-owner", *only, dsn]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    kept = [line for line in text.splitlines() if not re.match(r"--|\\(un)?restrict|SET |SELECT pg_catalog", line)]
    return re.sub(r"\n{2,}", "\n\n", "\n".join(_grants_by_name(kept))).strip() + "\n"


def _grants_by_name(lines: list[str]) -> list[str]:
    """Sort the grants of each object: they come in the order in which they were granted, which says nothing."""
    runs = groupby(lines, key=lambda line: line.startswith("GRANT "))
    return [line for granted, run in runs for line in (sorted(run) if granted else run)]


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory(prefix="nb-pg-") as folder,
        EmbeddedPostgres(Path(folder) / "data", fsync=False) as server,
    ):
        migrate(server.dsn())
        SCHEMA.write_text(dump(server.dsn()), encoding="utf-8")

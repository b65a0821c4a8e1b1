"""The schema as text, for reading and for comparing: ``make schema`` writes it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from nightbatch.postgres.embedded import EmbeddedPostgres, binaries
from nightbatch.postgres.migrate import migrate

SCHEMA = Path(__file__).parents[2] / "include" / "nightbatch" / "postgres" / "schema.sql"


def dump(dsn: str) -> str:
    """What pg_dump says of both schemas, without what differs from call to call."""
    command = [
        str(binaries() / "pg_dump"),
        "--schema-only",
        "--no-owner",
        "-n",
        "nightbatch",
        "-n",
        "nightbatch_report",
        dsn,
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    kept = [line for line in text.splitlines() if not re.match(r"--|\\(un)?restrict|SET |SELECT pg_catalog", line)]
    return re.sub(r"\n{2,}", "\n\n", "\n".join(kept)).strip() + "\n"


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory(prefix="nb-pg-") as folder,
        EmbeddedPostgres(Path(folder) / "data", fsync=False) as server,
    ):
        migrate(server.dsn())
        SCHEMA.write_text(dump(server.dsn()), encoding="utf-8")

"""A Postgres for a benchmark: as it comes, with fsync and autovacuum, in a folder that it can read as its own user.

It is reached by its Unix socket: a network would be measured with everything, and with none of the server-side references.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from nightbatch_local.postgres.embedded import EmbeddedPostgres
from tests.bench.stages import Place


@contextmanager
def server() -> Iterator[EmbeddedPostgres]:
    """Gone afterwards, with all that was in it."""
    folder = Path(tempfile.mkdtemp(prefix="nb-bench-"))
    folder.chmod(0o755)
    try:
        with EmbeddedPostgres(folder / "data", die_with_parent=True) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(postgres: EmbeddedPostgres, name: str, jobs: int) -> Iterator[Place]:
    """An empty database and a folder beside the server's, dropped afterwards."""
    told = conninfo_to_dict(postgres.create_database(name))
    dsn = f"postgresql://{told['user']}:{told['password']}@/{name}?host={postgres.data_dir}&port={told['port']}"
    place = Place(dsn, postgres.data_dir.parent / name, jobs)
    place.folder.mkdir(mode=0o755)
    place.folder.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place.folder)
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

"""The providers that the database knows by name: `nightbatch migrate` registers those of the installed packages."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from nightbatch.core.profiles import profiles
from nightbatch.postgres.queries import queries
from nightbatch.postgres.store import Store


def register(connection: Connection[Any]) -> None:
    """Have the database take the name of every provider; those that it took before stay."""
    for name in profiles():
        connection.execute(queries("registered")["register"], {"name": name})


def missing(store: Store) -> list[str]:
    """Return a sentence for each provider whose jobs the database refuses, since it was not registered."""
    known = {name for (name,) in store.run("registered", file="registered")}
    return [
        f"The provider {name} is installed, and this database does not know it: its jobs are refused. Run `nightbatch migrate`."
        for name in profiles()
        if name not in known
    ]

"""Open the store and the providers with Airflow connections. Keys and passwords pass through here and stay nowhere.

Nothing heavy is imported before it is needed: the Dag files import this module each time they are parsed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from nightbatch.core import allowed_hosts
from nightbatch.core.errors import ConfigurationError, DatabaseUnreachable, NightbatchError, Transient
from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import profile
from nightbatch.core.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from nightbatch.core.provider import BatchProvider
    from nightbatch.postgres.store import Store

DATABASE = "nightbatch_db"

_NOT_FOR_LIBPQ = {"cursor", "iam", "aws_conn_id", "azure_conn_id", "sqlalchemy_scheme", "sqlalchemy_query"}
"""Extras of the official Postgres connection that speak to its hook and not to the server."""


@contextmanager
def store() -> Iterator[Store]:
    """Open the store behind ``NIGHTBATCH_DSN`` or, without it, the connection ``nightbatch_db``.

    Raises `Transient` while the server cannot be reached: it may only be restarting. Raises `ConfigurationError` where it
    cannot keep the ledger.
    """
    from nightbatch.postgres.store import open_store

    with ExitStack() as stack:
        dsn = database_dsn()
        try:
            ledger = stack.enter_context(open_store(dsn))
        except DatabaseUnreachable as unreachable:
            raise Transient(str(unreachable)) from None
        yield ledger


def database_dsn() -> str:
    """Return where the nightbatch schema lives, as libpq wants it."""
    return os.environ.get("NIGHTBATCH_DSN") or postgres_dsn(_connection(DATABASE, "postgres"))


def postgres_dsn(connection: Connection) -> str:
    """Return a libpq URI with all parts as parameters, so that a socket directory is as good a host as a name."""
    parts: dict[str, Any] = {
        "host": connection.host,
        "port": connection.port,
        "user": connection.login,
        "password": connection.password,
        "dbname": connection.schema,
        **{name: value for name, value in connection.extra_dejson.items() if name not in _NOT_FOR_LIBPQ},
    }
    given = {name: value for name, value in parts.items() if value not in (None, "")}
    # libpq decodes %20 but takes a plus sign as it is.
    return "postgresql://?" + urlencode(given, quote_via=quote)


def provider_for(name: ProviderName) -> BatchProvider:
    """Return the adapter for the account of a provider's connection (``openai_default`` and so on).

    Raises `ConfigurationError` when the connection, or the key in it, is missing, and for a provider that there is not.
    """
    return provider_of(name, _connection(f"{name}_default", profile(name).connection_type))


def provider_of(name: ProviderName, connection: Connection) -> BatchProvider:
    """Return the adapter for one connection: password is the key, host the base URL; the extras are told in docs/operations.md.

    Raises `ConfigurationError` for an extra that is not known or cannot be meant, and for a base URL or a proxy at a private
    address, unless its host is in ``NIGHTBATCH_ALLOWED_HOSTS``.
    """
    from nightbatch.providers import build
    from nightbatch.providers.extras import read_extras

    extras = read_extras(name, connection.conn_id, connection.extra)
    mask_secret(connection.extra_dejson)
    # The official hooks take key and base URL from the extras too, so a connection that works there works here.
    key = extras.api_key or connection.password
    if not key:
        raise ConfigurationError(f"The Airflow connection {connection.conn_id!r} has no key: put it into the password.")

    return build(
        name,
        api_key=key,
        base_url=extras.base_url or connection.host or None,
        account=extras.account,
        allowed=allowed_hosts.hosts(Settings.from_env().allowed_hosts),
        wire=extras.wire,
    )


def _connection(conn_id: str, conn_type: str) -> Connection:
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"There is no Airflow connection {conn_id!r}. Create it under Admin > Connections, or with: "
            f"airflow connections add {conn_id} --conn-type {conn_type} --conn-host ... --conn-password ..."
        ) from None


class GeminiHook(BaseHook):
    """Google's Gemini Developer API: the connection type that Airflow's official providers lack."""

    conn_name_attr = "gemini_conn_id"
    default_conn_name = "gemini_default"
    conn_type = "gemini"
    hook_name = "Gemini"

    def __init__(self, gemini_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.gemini_conn_id = gemini_conn_id

    def get_conn(self) -> BatchProvider:
        """Return the batch adapter for this connection's account."""
        return provider_of("gemini", _connection(self.gemini_conn_id, "gemini"))

    def test_connection(self) -> tuple[bool, str]:
        """Make one call that costs nothing; Airflow's "Test" button and ``nightbatch doctor`` show the answer."""
        try:
            self.get_conn().check()
        except NightbatchError as error:
            return False, str(error)
        return True, "Gemini answers, and takes the key."

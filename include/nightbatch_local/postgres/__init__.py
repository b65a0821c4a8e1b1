"""A Postgres server from a wheel."""

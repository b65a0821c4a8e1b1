"""Run a Postgres server from a wheel."""

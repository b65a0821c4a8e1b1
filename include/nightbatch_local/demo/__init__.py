"""Run a whole night on embedded parts: real Airflow, real Postgres, real SDKs; only the providers are emulated."""

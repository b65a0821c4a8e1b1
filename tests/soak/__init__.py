"""The soak: real Airflow, and everything in it is killed at random while nights overlap; the provider's bill judges."""

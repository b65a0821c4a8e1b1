"""Give Airflow what it needs to run the night: hooks, the sensor and its trigger, retries, a connection type."""

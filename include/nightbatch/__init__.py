"""nightbatch: LLM work that nobody waits for, at half the price, inside Airflow."""

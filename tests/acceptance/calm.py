"""Longer pauses for an Airflow that tests wait for: its processes are busy while they wait, and the machine has other tests."""

CALM = {
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",  # no file changes here
}

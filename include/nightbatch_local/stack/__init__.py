"""Run the whole of nightbatch on one machine, as real processes on 127.0.0.1: Postgres, the emulator, Airflow."""

from nightbatch_local.stack.stack import Stack

__all__ = ["Stack"]

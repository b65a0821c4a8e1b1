"""Airflow for tests: a home of its own, no examples, and connections from the environment only."""

from __future__ import annotations

import os
import tempfile

# Before the first import of Airflow, which makes its home where it is told.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="nightbatch-airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# The emulator and the receivers of these tests; the tests of what is refused take it away.
os.environ["NIGHTBATCH_ALLOWED_HOSTS"] = "127.0.0.1"

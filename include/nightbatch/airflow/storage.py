"""Open files of jobs in object storage, through Airflow's own way to it and its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightbatch.core.errors import ConfigurationError

if TYPE_CHECKING:
    from nightbatch.jobs.input_formats import Source

_PACKAGES = {
    "s3": "apache-airflow-providers-amazon[s3fs]",
    "gs": "apache-airflow-providers-google",
    "abfs": "apache-airflow-providers-microsoft-azure",
    "abfss": "apache-airflow-providers-microsoft-azure",
    "adl": "apache-airflow-providers-microsoft-azure",
    "hdfs": "apache-airflow-providers-apache-hdfs",
}


def object_at(address: str) -> Source:
    """Return the file at ``s3://bucket/jobs.jsonl``, or at ``s3://connection@bucket/jobs.jsonl``.

    Raises `ConfigurationError` where Airflow has no way to it, or there is no file.
    """
    scheme = address.partition("://")[0]
    try:
        from airflow.sdk import ObjectStoragePath
    except ImportError:
        raise ConfigurationError(f"{scheme}:// needs Airflow's ObjectStoragePath: install apache-airflow.") from None
    try:
        path = ObjectStoragePath(address)
        found = path.is_file()
    except (ImportError, ValueError) as error:
        package = f": install {_PACKAGES[scheme]}" if scheme in _PACKAGES else ""
        raise ConfigurationError(f"Airflow cannot open {scheme}:// here{package} ({type(error).__name__}).") from None
    except Exception as error:  # noqa: BLE001  each store raises errors of its own
        raise ConfigurationError(f"{address} cannot be read: {type(error).__name__}.") from None
    if not found:
        raise ConfigurationError(f"{address} is no file.")
    return path

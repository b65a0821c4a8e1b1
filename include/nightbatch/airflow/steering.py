"""Start and pause the Dag from within the api-server; only there, since it writes to Airflow's own database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.exceptions import DagNotFound, ParamValidationError
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType

from nightbatch.core.errors import ConfigurationError


def start_run(dag_id: str, conf: Mapping[str, Any], *, by: str) -> str:
    """Start the Dag now, and return the run's id.

    Raises `ConfigurationError` for a Dag that is not there, or a form filled in wrongly.
    """
    try:
        run = trigger_dag(
            dag_id, triggered_by=DagRunTriggeredByType.REST_API, triggering_user_name=by, conf=dict(conf) or None
        )
    except DagNotFound:
        raise ConfigurationError(_missing(dag_id)) from None
    except (ParamValidationError, ValueError) as error:
        raise ConfigurationError(str(error)) from None
    if run is None:
        raise ConfigurationError(_missing(dag_id))
    return str(run.run_id)


def pause(dag_id: str, *, paused: bool) -> None:
    """Pause the Dag, or end its pause. No new run begins by itself while it is paused; what is under way goes on.

    Raises `ConfigurationError` for a Dag that is not there.
    """
    with create_session() as session:
        _dag(session, dag_id).is_paused = paused


def is_paused(dag_id: str) -> bool:
    """Return whether the Dag is paused. Raises `ConfigurationError` for a Dag that is not there."""
    with create_session() as session:
        return bool(_dag(session, dag_id).is_paused)


def _dag(session: Any, dag_id: str) -> DagModel:
    found: DagModel | None = session.get(DagModel, dag_id)
    if found is None:
        raise ConfigurationError(_missing(dag_id))
    return found


def _missing(dag_id: str) -> str:
    return f"Airflow has no Dag {dag_id!r} yet: look for import errors under Dags, or wait until it was parsed."

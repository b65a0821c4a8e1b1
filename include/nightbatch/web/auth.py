"""Ask for Airflow's login and permissions; no other module of the web imports Airflow's.

Who may read the Dag ``nightbatch`` may read figures; who may read what its tasks hand on (XComs) may read inputs and outputs
too; who may run it may insert, send and decide; who may edit it may pause it.
"""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import Depends, HTTPException, Request

DAG_ID = "nightbatch"


def by_no_other_site(request: Request) -> None:
    """Refuse with 403 what another site may have sent: it has neither a token nor a header of ours.

    Airflow's cookie also comes along from other sites' forms.
    """
    scheme, _, _ = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" and request.headers.get("x-requested-with") != "nightbatch":
        raise HTTPException(403, "Send a Bearer token, or the header X-Requested-With: nightbatch.")


_may_read = requires_access_dag(method="GET", param_dag_id=DAG_ID)
_may_read_payloads = requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM, param_dag_id=DAG_ID)
_may_run = requires_access_dag(method="POST", access_entity=DagAccessEntity.RUN, param_dag_id=DAG_ID)
_may_edit = requires_access_dag(method="PUT", param_dag_id=DAG_ID)

# The login comes first, so that nobody learns more than that he has none.
LOGGED_IN = Depends(get_user)
READ = [LOGGED_IN, Depends(_may_read)]
READ_PAYLOADS = [*READ, Depends(_may_read_payloads)]
RUN = [*READ, Depends(_may_run), Depends(by_no_other_site)]
EDIT = [*READ, Depends(_may_edit), Depends(by_no_other_site)]


def _name(user: Annotated[BaseUser, LOGGED_IN]) -> str:
    return user.get_name()


def _can_run(user: Annotated[BaseUser, LOGGED_IN]) -> bool:
    details = DagDetails(id=DAG_ID)
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
    )


By = Annotated[str, Depends(_name)]
"""Who asks; it is kept with each decision."""

CanRun = Annotated[bool, Depends(_can_run)]
"""Whether the page offers its buttons."""

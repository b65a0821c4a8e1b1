"""The application that Airflow's api-server mounts under ``/batch``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from nightbatch.airflow import hooks
from nightbatch.web.auth import READ
from nightbatch.web.bounds import BoundedBodies, SafeAnswers
from nightbatch.web.problems import ANY_PROBLEM, tell_problems
from nightbatch.web.routes import alerts, batches, dashboard, jobs, money, queue, runs

_DESCRIPTION = """
LLM work that nobody waits for, at half the price. Log in with a token of Airflow's `POST /auth/token` as
`Authorization: Bearer …`; a browser that is logged in to Airflow needs the header `X-Requested-With: nightbatch` to write.
Who may read the Dag `nightbatch` may read figures, who may read its XComs payloads, who may run it may write. Money is in USD,
as decimal strings; days are those of UTC. Errors are `application/problem+json` and say what to do.
"""


def create_app() -> FastAPI:
    """Make the application: all routes behind Airflow's login, but for `GET health`."""
    app = FastAPI(
        title="nightbatch",
        version="1",
        description=_DESCRIPTION,
        # Their pages load scripts from elsewhere, and would answer without a login: see `openapi` below.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses=ANY_PROBLEM,
    )
    app.add_middleware(BoundedBodies)
    app.add_middleware(SafeAnswers)
    tell_problems(app)
    for routes in (queue, runs, batches, jobs, money, alerts, dashboard):
        app.include_router(routes.router)
    app.include_router(_itself(app))
    return app


def _itself(app: FastAPI) -> APIRouter:
    router = APIRouter(tags=["about"])

    @router.get("/health")
    def health(response: Response) -> dict[str, str]:
        """Say whether the database answers; nothing else, since this needs no login."""
        try:
            with hooks.store() as store:
                store.now()
        except Exception:  # noqa: BLE001  # whatever it is, nobody is told more without a login
            response.status_code = 503
            return {"status": "not ok"}
        return {"status": "ok"}

    @router.get("/openapi.json", dependencies=READ, include_in_schema=False)
    def openapi(request: Request) -> dict[str, Any]:
        """Return this API, as OpenAPI 3.1."""
        return {**app.openapi(), "servers": [{"url": request.scope.get("root_path") or "/"}]}

    return router

"""Serve the REST API under ``/batch``, and the page in Airflow's navigation."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin
from starlette.types import Receive, Scope, Send


class _WhenAsked:
    """The application, built by the first request: every process of Airflow imports its plugins, one serves them."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            from nightbatch.web.app import create_app

            self._app = create_app()
        await self._app(scope, receive, send)


class NightbatchPlugin(AirflowPlugin):
    """The plugin that Airflow loads. See docs/api.md and docs/dashboard.md."""

    name = "nightbatch"
    fastapi_apps: list[Any] = [  # noqa: RUF012  # declared so by the base class
        {"name": "nightbatch", "app": _WhenAsked(), "url_prefix": "/batch"}
    ]
    external_views: list[Any] = [  # noqa: RUF012
        {
            "name": "nightbatch",
            "href": "/batch/dashboard",
            "destination": "nav",
            "url_route": "nightbatch",
            "nav_top_level": True,
        }
    ]

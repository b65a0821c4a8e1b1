"""What Airflow's provider discovery reads: the Gemini connection type and its form, and the webhook for alerts."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any


def get_provider_info() -> dict[str, Any]:
    """See ``airflow/provider_info.schema.json`` in Airflow's own package."""
    return {
        "package-name": "nightbatch",
        "name": "nightbatch",
        "description": "Nightly LLM batches from Postgres at about half the price.",
        "versions": [version("nightbatch")],
        "connection-types": [GEMINI],
        "notifications": ["nightbatch.airflow.notifiers.WebhookNotifier"],
    }


GEMINI: dict[str, Any] = {
    "hook-class-name": "nightbatch.airflow.hooks.GeminiHook",
    "hook-name": "Gemini",
    "connection-type": "gemini",
    "conn-fields": {
        "account": {
            "label": "Account",
            "schema": {"type": ["string", "null"]},
            "description": "A name for who pays. With it a new key of the same project counts as the same account; "
            "without it every key counts as an account of its own.",
        },
    },
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "port", "login"],
        "relabeling": {"password": "API Key", "host": "Base URL"},
        "placeholders": {"host": "empty for Google's own", "account": "our-gemini-project"},
    },
}

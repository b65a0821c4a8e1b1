"""Tell Airflow's provider discovery of the Gemini connection type and its form, and of the webhook for alerts."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return what Airflow's provider discovery reads: see ``airflow/provider_info.schema.json`` in Airflow's own package."""
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
        "headers": {
            "label": "Headers",
            "schema": {"type": ["object", "null"]},
            "description": "Extra headers of every request, as a JSON object. x-goog-user-project is a part of the account.",
        },
        "ca_file": {
            "label": "CA file",
            "schema": {"type": ["string", "null"]},
            "description": "Path of a PEM file: only certificates of the CAs in it are believed. "
            "It must be there on every machine that sends or waits.",
        },
        "proxy": {
            "label": "Proxy",
            "schema": {"type": ["string", "null"], "format": "password"},
            "description": "http://, https://, socks5:// or socks5h://, with user and password if it wants them. "
            "It goes before HTTPS_PROXY, ALL_PROXY and NO_PROXY.",
        },
    },
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "port", "login"],
        "relabeling": {"password": "API Key", "host": "Base URL"},
        "placeholders": {"host": "empty for Google's own", "account": "our-gemini-project"},
    },
}

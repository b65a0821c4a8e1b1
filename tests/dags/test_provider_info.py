"""Airflow discovers the Gemini connection type and its form."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.sdk import Connection
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from nightbatch.airflow.hooks import GeminiHook
from nightbatch.airflow.provider_info import GEMINI, get_provider_info
from nightbatch.providers.extras import Wire, read_extras


def test_the_entry_point_leads_to_the_provider_info() -> None:
    found = {point.value: point for point in entry_points(group="apache_airflow_provider")}
    assert found["nightbatch.airflow.provider_info:get_provider_info"].load() is get_provider_info


def test_the_provider_info_fits_airflows_schema() -> None:
    schema = Path(airflow.__file__).with_name("provider_info.schema.json")
    jsonschema.validate(get_provider_info(), json.loads(schema.read_text()))


def test_the_form_asks_for_a_key_a_base_url_and_an_account() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()  # type: ignore[no-untyped-call]
    assert manager.field_behaviours["gemini"] == {
        "hidden_fields": ["schema", "port", "login"],
        "relabeling": {"password": "API Key", "host": "Base URL"},
        "placeholders": {"host": "empty for Google's own", "extra__gemini__account": "our-gemini-project"},
    }
    fields = [
        found.field_name for found in manager.connection_form_widgets.values() if "Gemini" in found.hook_class_name
    ]
    assert fields == ["account", "headers", "ca_file", "proxy"]
    assert manager.connection_form_widgets["extra__gemini__proxy"].is_sensitive, "a password may stand in it"


def test_the_form_offers_extras_that_are_read_and_no_others() -> None:
    offered: dict[str, Any] = {"account": "a", "headers": {"x-a": "b"}, "ca_file": "/c", "proxy": "http://d"}
    assert offered.keys() == GEMINI["conn-fields"].keys()
    read = read_extras("gemini", "c", json.dumps(offered))
    assert (read.account, read.wire) == ("a", Wire(headers={"x-a": "b"}, ca_file="/c", proxy="http://d"))


def test_a_gemini_connection_gets_the_gemini_hook_and_its_test_button(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    described = ProvidersManagerTaskRuntime().hooks["gemini"]  # type: ignore[no-untyped-call]
    assert described is not None
    assert described.connection_testable
    hook = Connection(conn_id="mine", conn_type="gemini").get_hook()  # type: ignore[no-untyped-call]
    assert isinstance(hook, GeminiHook)
    assert hook.gemini_conn_id == "mine"

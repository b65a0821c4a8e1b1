"""What the OpenAPI page promises holds for whatever anybody sends; no answer is a traceback, no error loses its form."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from nightbatch.web.app import create_app
from tests.web.conftest import Client, World

# Steering asks Airflow's own database, which has no Dag here: tests/acceptance does that on real parts. A bulk is no JSON.
_LEFT_OUT = ["/process", "/process/all", "/scheduler/start", "/scheduler/stop", "/queue/bulk"]

PROMISED = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

schema = schemathesis.openapi.from_dict(create_app().openapi()).exclude(path=_LEFT_OUT)


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_any_request_gets_an_answer_in_the_promised_form(
    case: schemathesis.Case[Any], client: Client, world: World
) -> None:
    case.headers["Authorization"] = client.headers["authorization"]
    answer = client.request(**case.as_transport_kwargs(base_url="http://testserver/batch"))
    case.validate_response(answer, checks=PROMISED)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


def test_each_route_says_what_it_does_and_bodies_have_examples(client: Client) -> None:
    api = client.get("openapi.json").json()
    assert api["servers"] == [{"url": "/batch"}]
    for path, methods in api["paths"].items():
        for method, route in methods.items():
            assert route.get("description"), f"{method} {path}"
    bodies = [schema for schema in api["components"]["schemas"].values() if schema.get("additionalProperties") is False]
    assert [body["title"] for body in bodies if "examples" not in body] == ["NewJobs"]

"""Who may do what, on every route."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from nightbatch.web.app import create_app
from nightbatch_local.stack.environment import PROJECT
from tests.web.conftest import Client

WRITES = ("POST", "PUT", "PATCH", "DELETE")
VALUES = {"{batch_id}": "1", "{job_id}": "1", "{alert_id}": "1", "{file}": "page.css"}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route} is no route of ours"
        path = route.path
        for name, value in VALUES.items():
            path = path.replace(name, value)
        for method in sorted(route.methods):
            yield method, path.removeprefix("/")


ROUTES = sorted(routes(create_app()))
CLOSED = [route for route in ROUTES if route != ("GET", "health")]
WRITING = [route for route in ROUTES if route[0] in WRITES]


def test_every_promised_route_is_there() -> None:
    promised = {
        "POST": "queue queue/bulk process process/all scheduler/start scheduler/stop integrate/creative-scoring"
        " integrate/embeddings estimate batches/1/cancel batches/1/retry batches/1/release",
        "GET": "queue/status status/1 results/1 active metrics dashboard savings report alerts health jobs/1 prices",
        "DELETE": "jobs/1",
    }
    assert {(method, path) for method, paths in promised.items() for path in paths.split()} <= set(ROUTES)


def test_every_route_stands_in_the_documentation() -> None:
    text = (PROJECT / "docs" / "api.md").read_text(encoding="utf-8")
    for route in create_app().routes:
        assert isinstance(route, APIRoute)
        for method in route.methods:
            assert f"`{method} {route.path.removeprefix('/')}`" in text


@pytest.mark.fault(50)
@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_without_a_login_nothing_is_told(client: Client, method: str, path: str) -> None:
    answer = client.as_(None).request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    client.headers["authorization"] = "Bearer nonsense"
    assert client.request(method, path).status_code in (401, 403)


@pytest.mark.fault(50)
@pytest.mark.parametrize(("method", "path"), WRITING)
def test_a_viewer_writes_nothing(client: Client, method: str, path: str) -> None:
    assert client.as_("viewer").request(method, path).status_code == 403


@pytest.mark.parametrize(("method", "path"), WRITING)
def test_a_form_of_another_site_writes_nothing(client: Client, tokens: dict[str, str], method: str, path: str) -> None:
    """The browser sends the cookie along; it cannot be made to send the header."""
    client.as_(None).cookies["_token"] = tokens["admin"]
    assert client.request(method, path).status_code == 403
    known = client.request(method, path, headers={"X-Requested-With": "nightbatch"}).status_code
    assert known not in (401, 403)


def test_health_says_ok_or_not_ok_and_nothing_else(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = client.as_(None).get("health")
    assert (healthy.status_code, healthy.json()) == (200, {"status": "ok"})
    monkeypatch.setenv("NIGHTBATCH_DSN", "postgresql://nobody:secret@127.0.0.1:1/nothing")
    ill = client.get("health")
    assert (ill.status_code, ill.json()) == (503, {"status": "not ok"})


@pytest.mark.parametrize("path", ["savings", "dashboard", "queue/status", "metrics"])
def test_without_its_database_it_says_so_and_keeps_the_password(
    client: Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("NIGHTBATCH_DSN", "postgresql://nobody:canary-password@127.0.0.1:1/nothing")
    answer = client.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert "canary-password" not in answer.text

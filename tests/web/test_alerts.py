"""Alerts through the API."""

from __future__ import annotations

from tests.web.conftest import Client, World


def test_an_alert_is_acknowledged_by_whoever_is_logged_in(client: Client, world: World) -> None:
    world.store.raise_alert("overdue", "1", "Batch 1 is overdue.")
    (alert,) = client.get("alerts").json()["alerts"]
    told = client.post(f"alerts/{alert['id']}/acknowledge")
    assert told.status_code == 200
    (seen,) = client.get("alerts").json()["alerts"]
    assert (seen["acknowledged_by"], seen["resolved_at"]) == ("a-op", None)
    world.store.resolve_alert("overdue", "1")
    assert client.get("alerts").json()["alerts"] == []
    assert len(client.get("alerts?resolved=true").json()["alerts"]) == 1
    assert client.post("alerts/4711/acknowledge").status_code == 404


def test_alerts_come_in_pages(client: Client, world: World) -> None:
    for number in range(5):
        world.store.raise_alert("overdue", str(number), "Overdue.")
    first = client.get("alerts?limit=3").json()
    second = client.get("alerts", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [row["subject"] for row in first["alerts"] + second["alerts"]] == ["4", "3", "2", "1", "0"]
    assert second["next_cursor"] is None

"""The figures: the same on the page, in the report, from the API, in the CLI and in SQL; and no payload among them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from prometheus_client.parser import text_string_to_metric_families

from nightbatch.core.amounts import usd
from nightbatch.core.pricing import rates_for
from tests.web.conftest import Client, World
from tests.web.test_login import ROUTES

CANARY = "canary-in-a-prompt"


def a_night(world: World) -> None:
    world.insert("openai", 4, headline=CANARY, labels=json.dumps({"team": "ads"}))
    world.insert("anthropic", 3, headline=f"{CANARY} [[emulator:misfit]]")
    world.insert("gemini", 2, headline=CANARY)
    world.insert("openai", 1, model="emulator-preview-1")
    world.night("r1")


COUNTED = (
    "jobs", "succeeded", "failed", "input_tokens", "cached_tokens", "output_tokens", "realtime_cost_usd", "batch_cost_usd",
    "wasted_cost_usd", "savings_usd", "unpriced",
)  # fmt: skip


def earlier(world: World, *, days: int) -> None:
    """The nights so far once more, so many days ago."""
    world.store.connection.execute(
        "INSERT INTO nightbatch_report.batch_rollup"
        " SELECT batch_id + 1000 * %(days)s, job_type, run_id, day - %(days)s, provider, model, jobs, succeeded, failed,"
        " requeued, input_tokens, cached_tokens, output_tokens, realtime_cost_usd, batch_cost_usd, wasted_cost_usd, unpriced,"
        " paid_again, realtime_jobs FROM nightbatch_report.batch_rollup WHERE run_id = 'r1' AND batch_id < 1000",
        {"days": days},
    )


def use_formula(world: World, formula: str) -> None:
    """For savings, instead of the product's own."""
    world.store.connection.execute(
        "CREATE OR REPLACE FUNCTION nightbatch_report.savings(realtime_usd numeric, batch_usd numeric, wasted_usd numeric)"
        f" RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN {formula}"
    )


BY_FORMULA = pytest.mark.parametrize(
    "formula", ["realtime_usd - batch_usd - wasted_usd", "realtime_usd * 7 - batch_usd * 2 - wasted_usd / 2"]
)
"""Whoever changes the one function in the database changes every figure that anybody is shown."""


@BY_FORMULA
def test_all_five_ways_to_ask_give_the_same_figures(client: Client, world: World, formula: str) -> None:
    """Of the thirty days that the page shows, with a night before them that only counts for all there ever was."""
    use_formula(world, formula)
    a_night(world)
    for ago in (1, 29, 30):
        earlier(world, days=ago)
    today = datetime.now(UTC).date()
    first = today - timedelta(days=29)
    days = {"from_day": first.isoformat(), "to_day": today.isoformat()}
    sums = ", ".join(f"sum({name})" for name in COUNTED)
    (sql,) = world.rows(f"SELECT {sums} FROM nightbatch_report.savings_daily WHERE day BETWEEN %s AND %s", first, today)
    api = client.get("savings", params=days).json()["total"]
    report = client.get("report", params=days).json()
    table = csv.DictReader(io.StringIO(client.get("report", params={**days, "format": "csv"}).text))
    (total,) = [row for row in table if row["by"] == "total"]
    told = json.loads(command(world, "report", "--last", "30", "--json"))
    page = client.get("dashboard").json()
    for found in (api, report, total, told, page["recent"]["total"]):
        assert tuple(Decimal(str(found[name])) for name in COUNTED) == sql
    wanted = dict(zip(COUNTED, sql, strict=True))
    assert wanted["jobs"] == 30 and wanted["wasted_cost_usd"] > 0 and wanted["unpriced"] == 3
    (ever,) = world.rows("SELECT sum(savings_usd) FROM nightbatch_report.savings_daily")
    month = world.rows(
        "SELECT sum(savings_usd) FROM nightbatch_report.savings_daily WHERE day >= %s", today.replace(day=1)
    )
    html = client.get("dashboard", headers={"Accept": "text/html"}).text
    for name, value in (("total", ever), ("month", month[0]), ("recent", wanted["savings_usd"])):
        assert f'<dd id="saved-{name}">{usd(value)}</dd>' in html
    assert f"<dd>{usd(wanted['batch_cost_usd'])}</dd>" in html
    assert (
        f"{usd(wanted['realtime_cost_usd'])} in realtime; {usd(wanted['wasted_cost_usd'])} wasted; 3 jobs unpriced"
        in html
    )
    assert (Decimal(page["saved_usd"]), Decimal(page["saved_month_usd"])) == (ever, month[0])
    for format_ in ("markdown", "html"):
        assert usd(wanted["savings_usd"]) in client.get("report", params={**days, "format": format_}).text
    assert client.get("report", params={"run_id": "no such run"}).status_code == 404
    assert client.get("savings", params={"from_day": "2026-11-24", "to_day": "2026-11-23"}).status_code == 422


def command(world: World, *arguments: str) -> str:
    done = [sys.executable, "-m", "nightbatch.cli", *arguments]
    environment = {"NIGHTBATCH_DSN": world.dsn}
    return subprocess.run(done, check=True, capture_output=True, text=True, env=environment).stdout


@BY_FORMULA
def test_all_ways_to_ask_give_the_same_savings_of_a_run(client: Client, world: World, formula: str) -> None:
    use_formula(world, formula)
    a_night(world)
    rolled_up = (
        "realtime_cost_usd AS realtime_usd, batch_cost_usd AS batch_usd, wasted_cost_usd AS wasted_usd"
        " FROM nightbatch_report.batch_rollup"
    )
    parts = dict(
        world.rows(f"SELECT provider, sum({formula}) FROM (SELECT provider, {rolled_up}) AS r GROUP BY provider")
    )
    whole = sum(parts.values(), Decimal(0))
    assert whole == world.rows("SELECT savings_usd FROM nightbatch_report.run_summary")[0] != 0
    api = client.get("report", params={"run_id": "r1"}).json()
    told = json.loads(command(world, "report", "r1", "--json"))
    for found in (api, told):
        assert Decimal(found["savings_usd"]) == whole
        assert {key: Decimal(part["savings_usd"]) for key, part in found["by_provider"].items()} == parts
        assert [Decimal(part["savings_usd"]) for part in found["by_job_type"].values()] == [whole]
    table = list(csv.DictReader(io.StringIO(client.get("report", params={"run_id": "r1", "format": "csv"}).text)))
    assert {row["key"]: Decimal(row["savings_usd"]) for row in table if row["by"] == "provider"} == parts
    for format_ in ("markdown", "html"):
        text = client.get("report", params={"run_id": "r1", "format": format_}).text
        assert all(usd(value) in text for value in (whole, *parts.values()))
    assert f"saved {usd(whole)}." in command(world, "status")
    night = client.get("dashboard").json()["night"]["run"]
    assert Decimal(night["savings_usd"]) == whole == Decimal(client.get("metrics").json()["last_run"]["savings_usd"])


def test_prometheus_reads_the_same(client: Client, world: World) -> None:
    a_night(world)
    world.insert("openai", 2)
    text = client.get("metrics", headers={"Accept": "text/plain;version=0.0.4"})
    assert text.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.text)
        for sample in family.samples
    }
    found = client.get("metrics").json()
    for part in found["by_provider"]:
        assert samples["nightbatch_saved_usd", part["key"]] == pytest.approx(float(part["figures"]["savings_usd"]))
        assert samples["nightbatch_jobs_total", part["key"], "succeeded"] == part["figures"]["succeeded"]
    assert sum(value for key, value in samples.items() if key[0] == "nightbatch_queue_jobs") == 2
    assert "# EOF" in client.get("metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}).text


def test_prices_are_those_that_results_are_booked_with(client: Client, world: World) -> None:
    world.rows(
        "INSERT INTO nightbatch.price_override"
        " (provider, model, valid_from, input_usd, output_usd, batch_input_usd, batch_output_usd, note)"
        " VALUES ('openai', 'our-model', '2026-01-01', 4, 8, 1, 2, 'a contract') RETURNING id"
    )
    prices = {(row["provider"], row["model"]): row for row in client.get("prices").json()}
    ours = prices["openai", "our-model"]
    assert (ours["batch_input"], ours["realtime_output"], ours["source"]) == ("1", "8", "a contract")
    rates = rates_for("openai", "gpt-6-luna", at=datetime.now(UTC))
    assert rates and Decimal(prices["openai", "gpt-6-luna"]["batch_output"]) == rates.batch.output.base


def test_the_estimate_sends_and_writes_nothing(client: Client, world: World) -> None:
    world.insert("openai", 5)
    (one,) = client.post("estimate", json={}).json()
    assert one["jobs"] == 5 and Decimal(one["batch_usd"][0]) < Decimal(one["batch_usd"][1])
    assert client.post("estimate", json={"providers": ["gemini"]}).json() == []
    past = client.post("estimate", json={"from_day": "2026-11-01", "to_model": "gpt-6-luna"})
    assert past.json() == []
    assert "5 jobs for" in client.post("dashboard/estimate").text
    assert world.rows("SELECT count(*) FROM nightbatch.batch") == [0] and client.post("estimate", json={}).json() == [
        one
    ]


GETS = [path for method, path in ROUTES if method == "GET" and path not in ("jobs/1", "results/1", "health")]


@pytest.mark.fault(52)
def test_who_sees_figures_only_sees_no_payload_on_any_route(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's own permissions tell the two apart: figures for who reads the Dag, payloads for who reads its XComs."""
    a_night(world)
    everything = SimpleAuthManager.is_authorized_dag

    def figures_only(self, *, method, user, access_entity=None, details=None):  # type: ignore[no-untyped-def]
        reads = method == "GET" and access_entity is not DagAccessEntity.XCOM
        return reads and everything(self, method=method, user=user, access_entity=access_entity, details=details)

    assert CANARY in client.get("jobs/1").text
    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", figures_only)
    for path in GETS:
        for accept in ("application/json", "text/html", "text/plain"):
            answer = client.get(path, headers={"Accept": accept})
            assert answer.status_code == 200, path
            assert CANARY not in answer.text, path
    for path in ("jobs/1", "results/1", "results/1?format=jsonl", "results/1?format=csv"):
        answer = client.get(path)
        assert answer.status_code == 403 and CANARY not in answer.text


def test_the_page_is_drawn_at_every_stage_of_a_night(client: Client, world: World) -> None:
    def shown() -> str:
        answers = [client.get(path, headers={"Accept": "text/html"}) for path in ("dashboard", "dashboard/live")]
        assert [answer.status_code for answer in answers] == [200, 200]
        return " ".join(answers[0].text.split())

    assert "Insert your first job" in shown() and "No run was planned yet." in shown()
    assert world.plan("empty") == []
    assert "UTC</time>: nothing was sent." in shown()
    world.store.insert_job("clairvoyance", "openai", "{}")
    assert world.plan("rejected") == []
    assert "0 of 0 jobs are back; 0 succeeded, 0 failed, 1 rejected." in shown()
    world.insert("openai", 2)
    (batch,) = world.plan("one")
    assert "0 of 2 jobs are back" in shown()
    world.submit_until_certain(batch)
    assert "<strong>submitted</strong>" in shown()
    world.load(batch.id)
    assert "2 of 2 jobs are back; 2 succeeded" in shown()


@pytest.mark.fault(55)
def test_script_from_outside_is_shown_as_text(client: Client, world: World) -> None:
    script = "<script>alert(1)</script>"
    world.insert("openai", 1, model=script, labels=json.dumps({script: script}))
    world.insert("gemini", 1, headline=f"{script} [[emulator:error=400]]")
    world.store.raise_alert("held", script, f"{script} happened")
    world.night("r1")
    world.insert("openai", 1, model=script)
    for path, accept in (
        ("dashboard", "text/html"),
        ("dashboard/live", "text/html"),
        ("report?format=html", "text/html"),
    ):
        answer = client.get(path, headers={"Accept": accept})
        assert script not in answer.text and "&lt;script&gt;" in answer.text
    assert script not in client.get("report?format=markdown").text
    assert client.get("dashboard").headers["content-type"] == "application/json"


@pytest.mark.fault(55)
def test_every_answer_forbids_what_it_does_not_need(client: Client) -> None:
    for method, path in ROUTES:
        policy = client.request(method, path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert client.request(method, path).headers["x-content-type-options"] == "nosniff"


@pytest.mark.fault(56)
def test_a_cell_that_looks_like_a_formula_is_quoted(client: Client, world: World) -> None:
    world.insert("openai", 1, model="=cmd|/C_calc!A0")
    (loaded,) = world.night("r1")
    for path in (f"results/{loaded.batch_id}?format=csv", "report?format=csv"):
        cells = [cell for row in csv.reader(io.StringIO(client.get(path).text)) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t"))]

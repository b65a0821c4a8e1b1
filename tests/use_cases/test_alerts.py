"""Alerts: raised once, resolved by themselves where that can be, acknowledged by a person, sent once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from threading import Barrier
from typing import Any, get_args

import pytest

from nightbatch.batches import loading, troubles
from nightbatch.core.errors import ConfigurationError, NightbatchError
from nightbatch.core.ledger import Alert
from nightbatch.core.settings import Settings
from nightbatch.postgres.store import Store, open_store
from nightbatch.reporting import alerts
from tests.unguarded import unguarded
from tests.use_cases.conftest import World

SETTINGS = Settings()


@pytest.fixture
def store(dsn: str) -> Iterator[Store]:
    with open_store(dsn) as opened:
        yield opened


def rows(store: Store, query: str, *values: Any) -> list[Any]:
    found = store.connection.execute(query, values).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def still_open(store: Store) -> list[tuple[str, str]]:
    return sorted((alert.kind, alert.subject) for alert in store.open_alerts())


def rolled_up(
    store: Store, run_id: str, *, succeeded: int = 0, failed: int = 0, saved: str = "0", day: str = "today"
) -> None:
    """A run that is through, as its loads left it."""
    store.connection.execute("INSERT INTO nightbatch.run (id) VALUES (%s)", (run_id,))
    store.connection.execute(
        "INSERT INTO nightbatch_report.batch_rollup (batch_id, job_type, run_id, day, provider, model, jobs, succeeded,"
        " failed, requeued, input_tokens, cached_tokens, output_tokens, realtime_cost_usd, batch_cost_usd,"
        " wasted_cost_usd, unpriced, paid_again) SELECT (SELECT count(*) FROM nightbatch_report.batch_rollup), 'raw', %s,"
        " (now() AT TIME ZONE 'UTC')::date - CASE %s WHEN 'today' THEN 0 ELSE 4000 END, 'openai', 'm', %s, %s, %s, 0, 0, 0,"
        " 0, %s, 0, 0, 0, 0",
        (run_id, day, succeeded + failed, succeeded, failed, Decimal(saved)),
    )


def only(store: Store, kind: str) -> Alert:
    (found,) = [alert for alert in store.open_alerts() if alert.kind == kind]
    return found


# -- milestones


def test_of_several_milestones_reached_at_once_the_highest_is_told(store: Store) -> None:
    rolled_up(store, "long ago", saved="900", day="long ago")
    assert alerts.check(store, SETTINGS) == []
    rolled_up(store, "r1", saved="1650.5")
    (told,) = alerts.check(store, SETTINGS)
    assert told.startswith("2,550.50 USD are saved since ") and told.endswith(": that is more than 2,000.")
    assert still_open(store) == [("savings_milestone", "2000")]
    assert alerts.check(store, SETTINGS) == []


def test_a_higher_milestone_takes_the_place_of_the_one_before(store: Store) -> None:
    rolled_up(store, "r1", saved="1000")
    alerts.check(store, SETTINGS)
    rolled_up(store, "r2", saved="1000")
    assert len(alerts.check(store, SETTINGS)) == 1
    assert still_open(store) == [("savings_milestone", "2000")]


def test_a_milestone_is_told_once_whatever_becomes_of_it_and_of_the_savings(store: Store) -> None:
    rolled_up(store, "r1", saved="2000")
    alerts.check(store, SETTINGS)
    alerts.acknowledge(store, only(store, "savings_milestone").id, by="ada")
    assert still_open(store) == [], "there is no cause that could go away"
    for saved in ("1500", "2000", "2999"):
        store.connection.execute("UPDATE nightbatch_report.batch_rollup SET realtime_cost_usd = %s", (saved,))
        assert alerts.check(store, SETTINGS) == []
    assert alerts.check(store, replace(SETTINGS, milestone_usd=500.0)) == [
        f"2,999.00 USD are saved since {rows(store, 'SELECT day FROM nightbatch_report.batch_rollup')[0]}:"
        " that is more than 2,500."
    ]


def test_milestones_can_be_turned_off_and_be_small(store: Store) -> None:
    rolled_up(store, "r1", saved="5000.07")
    assert alerts.check(store, replace(SETTINGS, milestone_usd=0.0)) == []
    assert len(alerts.check(store, replace(SETTINGS, milestone_usd=0.05))) == 1
    assert still_open(store) == [("savings_milestone", "5000.05")]


def test_a_loss_is_no_milestone(store: Store) -> None:
    rolled_up(store, "r1")
    store.connection.execute("UPDATE nightbatch_report.batch_rollup SET batch_cost_usd = 5000")
    assert alerts.check(store, SETTINGS) == []


# -- success rate


def test_a_low_success_rate_is_told_and_ends_with_a_good_run(store: Store) -> None:
    rolled_up(store, "good", succeeded=95, failed=5)
    assert alerts.check(store, SETTINGS) == []
    rolled_up(store, "bad", succeeded=94, failed=6)
    (told,) = alerts.check(store, SETTINGS)
    assert told == (
        "Of the 100 jobs that ended in the run bad, 6 failed: 94.0% succeeded, where 95.0% are expected. `nightbatch report`"
        " says why they failed."
    )
    assert alerts.check(store, SETTINGS) == []
    rolled_up(store, "worse", succeeded=10, failed=90)
    assert alerts.check(store, SETTINGS) == [], "it is open already"
    assert "run worse" in only(store, "success_rate_low").message
    rolled_up(store, "good again", succeeded=100)
    alerts.check(store, SETTINGS)
    assert still_open(store) == []


def test_a_run_of_a_few_jobs_neither_raises_nor_resolves(store: Store) -> None:
    rolled_up(store, "few", failed=19)
    assert alerts.check(store, SETTINGS) == []
    rolled_up(store, "bad", failed=20)
    assert len(alerts.check(store, SETTINGS)) == 1
    rolled_up(store, "few again", succeeded=19)
    alerts.check(store, SETTINGS)
    assert still_open(store) == [("success_rate_low", "runs")]


def test_a_run_is_judged_once_it_is_complete(world: World) -> None:
    world.insert("openai", 1)
    (batch,) = world.plan("half")
    world.store.connection.execute(
        "INSERT INTO nightbatch_report.batch_rollup SELECT 0, 'raw', 'half', current_date, 'openai', 'm', 50, 0, 50, 0, 0, 0,"
        " 0, 0, 0, 0, 0, 0"
    )
    assert alerts.check(world.store, SETTINGS) == []
    world.submit(batch)
    world.load(batch.id)
    assert len(alerts.check(world.store, SETTINGS)) == 1


# -- backlog


def test_jobs_that_wait_too_long_are_told_until_they_go(world: World) -> None:
    world.insert("openai", 2, created_at="2026-11-01T00:00Z")
    world.insert("gemini", 1, created_at="2026-11-01T00:00Z")
    world.insert("gemini", 5)
    told = alerts.check(world.store, world.settings)
    assert [one.split(".")[0] for one in told] == [
        "2 jobs for openai have waited for more than 26 hours, the first since 2026-11-01 00:00 UTC",
        "1 jobs for gemini have waited for more than 26 hours, the first since 2026-11-01 00:00 UTC",
    ]
    world.plan("r1", providers=("openai",))
    assert alerts.check(world.store, world.settings) == []
    assert still_open(world.store) == [("queue_backlog", "gemini")]
    world.plan("r2")
    alerts.check(world.store, world.settings)
    assert still_open(world.store) == []


def test_who_wants_to_be_sent_later_is_no_backlog(world: World) -> None:
    old: dict[str, Any] = {"created_at": "2026-11-01T00:00Z"}
    (when,) = world.rows("SELECT now() + interval '1 hour'")
    (lately,) = world.rows("SELECT now() - interval '25 hours'")
    (before,) = world.rows("SELECT now() - interval '27 hours'")
    world.insert("openai", 1, not_before=when, **old)
    world.insert("openai", 1, not_before=lately, **old)
    assert alerts.check(world.store, world.settings) == []
    world.insert("openai", 1, not_before=before, **old)
    assert len(alerts.check(world.store, world.settings)) == 1
    assert only(world.store, "queue_backlog").message.startswith("1 jobs for openai")


def test_a_plan_that_leaves_old_jobs_waiting_does_not_hide_them(world: World) -> None:
    world.insert("openai", 3, created_at="2026-11-01T00:00Z")
    world.plan("r1", max_jobs=1)
    alerts.check(world.store, world.settings)
    assert only(world.store, "queue_backlog").message.startswith("2 jobs for openai")


def test_a_job_that_goes_again_has_waited_since_its_last_answer(world: World) -> None:
    (job,) = world.insert("openai", 1, created_at="2026-11-01T00:00Z")
    (batch,) = world.plan("r1")
    world.submit(batch)
    world.store.connection.execute(
        "INSERT INTO nightbatch.result (job_id, batch_id, outcome, billed) VALUES (%s, %s, 'expired', false)",
        (job, batch.id),
    )
    with unguarded(world.store.connection):
        world.store.connection.execute("UPDATE nightbatch.open_job SET batch_id = NULL")
    assert alerts.check(world.store, world.settings) == []
    world.store.connection.execute("UPDATE nightbatch.result SET finished_at = now() - interval '27 hours'")
    assert len(alerts.check(world.store, world.settings)) == 1
    world.store.record_decision(batch.id, "retry", "ada", "ask again")
    alerts.check(world.store, world.settings)
    assert still_open(world.store) == []


# -- what is raised elsewhere, and resolved here


def test_a_model_without_a_price_is_told_until_a_batch_of_it_has_one(world: World) -> None:
    world.insert("openai", 2, model="emulator-preview-1")
    world.night("r1")
    (told,) = alerts.check(world.store, world.settings)
    assert told.startswith("The price of openai/emulator-preview-1 is not known: 2 requests of batch ")
    assert alerts.check(world.store, world.settings) == []
    world.store.connection.execute(
        "INSERT INTO nightbatch.price_override (provider, model, valid_from, input_usd, output_usd, batch_input_usd,"
        " batch_output_usd, note) VALUES ('openai', 'emulator-preview-1', '2026-01-01', 2, 2, 1, 1, 'a contract')"
    )
    world.insert("openai", 1, model="emulator-preview-1")
    world.night("r2")
    assert alerts.check(world.store, world.settings) == []
    assert still_open(world.store) == []


def test_lost_results_are_no_missing_price(world: World) -> None:
    world.insert("openai", 2)
    (batch,) = world.plan("r1")
    world.submit(batch)
    loading.give_results_up(world.store, batch.id, "They are gone.")
    assert alerts.check(world.store, world.settings) == []
    assert still_open(world.store) == [("lost_results", str(batch.id))]
    alerts.acknowledge(world.store, only(world.store, "lost_results").id, by="ada")
    assert still_open(world.store) == [], "lost money stays until a person has seen it"


def test_a_budget_that_is_gone_takes_its_alerts_along(store: Store) -> None:
    (kept,) = rows(store, "INSERT INTO nightbatch.budget (usd_per_night) VALUES (1) RETURNING id")
    for kind in ("budget_reached", "price_missing"):
        store.raise_alert(kind, str(kept), "It is spoken for.")
        store.raise_alert(kind, "999", "It is spoken for.")
    alerts.check(store, SETTINGS)
    assert still_open(store) == [("budget_reached", str(kept)), ("price_missing", str(kept))]


def test_a_refused_account_is_no_trouble_once_another_has_taken_its_place(world: World) -> None:
    world.insert("openai", 1)
    (batch,) = world.plan("r1")
    world.submit(batch)
    refused = world.provider("openai").account
    world.store.raise_alert("account_refused", refused, "openai refuses the account.")
    world.insert("openai", 1)
    (later,) = world.plan("r2")
    world.submit(later, account="another")
    alerts.check(world.store, world.settings)
    assert still_open(world.store) == [("account_refused", refused)], "a batch of it is still out"
    world.load(batch.id)
    alerts.check(world.store, world.settings)
    assert still_open(world.store) == []


def test_a_refused_account_stays_told_while_no_other_was_used(world: World) -> None:
    world.insert("openai", 1)
    (batch,) = world.plan("r1")
    world.submit(batch)
    world.load(batch.id)
    world.store.raise_alert("account_refused", world.provider("openai").account, "openai refuses the account.")
    alerts.check(world.store, world.settings)
    assert [kind for kind, _ in still_open(world.store)] == ["account_refused"]


# -- the promise of 24 hours


def test_a_late_night_is_told_until_all_of_it_is_through(world: World) -> None:
    world.insert("openai", 3)
    (batch,) = world.plan("r1")
    world.submit(batch)
    told = alerts.night_late(world.store, "r1", 24)
    assert told and told.startswith(
        "The run r1 was queued more than 24 hours ago, and 3 jobs in 1 batches are still out."
    )
    alerts.check(world.store, world.settings)
    assert still_open(world.store) == [("night_late", "r1")]
    world.load(batch.id)
    alerts.check(world.store, world.settings)
    assert still_open(world.store) == []
    assert alerts.night_late(world.store, "r1", 24) is None
    assert still_open(world.store) == []


def test_a_night_that_was_never_planned_is_told_until_a_later_one_was(world: World) -> None:
    told = alerts.night_late(world.store, "r1", 24)
    assert told and "it has not even planned its batches" in told
    alerts.check(world.store, world.settings)
    assert still_open(world.store) == [("night_late", "r1")]
    world.plan("r2")
    alerts.check(world.store, world.settings)
    assert still_open(world.store) == []


# -- acknowledging


def test_an_acknowledged_alert_stays_open_until_its_cause_is_gone(store: Store) -> None:
    store.raise_alert("overdue", "7", "Batch 7 is overdue.")
    alert = only(store, "overdue")
    assert alerts.acknowledge(store, alert.id, by=" ada ") == (
        f"Alert {alert.id} (overdue) is acknowledged: it is not sent again, and goes when its cause is gone."
    )
    (seen,) = store.open_alerts()
    assert seen.acknowledged_by == "ada" and seen.acknowledged_at
    assert not store.raise_alert("overdue", "7", "Batch 7 is overdue.")


def test_the_first_acknowledgement_counts(store: Store) -> None:
    store.raise_alert("savings_milestone", "1000", "Saved.")
    store.raise_alert("overdue", "7", "Batch 7 is overdue.")
    for alert in store.open_alerts():
        alerts.acknowledge(store, alert.id, by="ada")
        for by in ("ada", "bob"):
            told = alerts.acknowledge(store, alert.id, by=by)
            assert told.startswith(f"Alert {alert.id} ({alert.kind}) was acknowledged by ada before, 20")
            assert told.endswith(" UTC. That stays.")
    assert rows(store, "SELECT DISTINCT acknowledged_by FROM nightbatch.alert") == ["ada"]


def test_what_cannot_be_acknowledged_says_why(store: Store) -> None:
    with pytest.raises(NightbatchError, match=r"^There is no alert 7\.$"):
        alerts.acknowledge(store, 7, by="ada")
    store.raise_alert("overdue", "7", "Batch 7 is overdue.")
    (alert,) = store.open_alerts()
    with pytest.raises(NightbatchError, match=r"^Say who acknowledges the alert\.$"):
        alerts.acknowledge(store, alert.id, by=" ")
    store.resolve_alert("overdue", "7")
    with pytest.raises(NightbatchError, match=rf"^Alert {alert.id} \(overdue\) is resolved: there is nothing"):
        alerts.acknowledge(store, alert.id, by="ada")


# -- sending


def test_every_alert_is_sent_once_by_every_sender(store: Store) -> None:
    sent: list[tuple[str, str]] = []
    senders: dict[str, alerts.Sender] = {
        name: lambda alert, name=name: sent.append((name, alert.subject))  # type: ignore[misc]
        for name in ("mail", "chat")
    }
    store.raise_alert("overdue", "1", "Batch 1 is overdue.")
    store.raise_alert("overdue", "2", "Batch 2 is overdue.")
    assert len(alerts.send(store, senders)) == 4
    assert sent == [("mail", "1"), ("mail", "2"), ("chat", "1"), ("chat", "2")]
    store.raise_alert("overdue", "1", "Batch 1 is still overdue.")
    assert alerts.send(store, senders) == []
    store.resolve_alert("overdue", "1")
    store.raise_alert("overdue", "1", "Batch 1 is overdue once more.")
    assert len(alerts.send(store, senders)) == 2, "it went away and came again"


def test_nothing_is_sent_of_what_is_over_or_was_seen(store: Store) -> None:
    sent: list[str] = []
    store.raise_alert("overdue", "1", "Batch 1 is overdue.")
    store.raise_alert("overdue", "2", "Batch 2 is overdue.")
    store.raise_alert("overdue", "3", "Batch 3 is overdue.")
    store.resolve_alert("overdue", "1")
    (second,) = rows(store, "SELECT id FROM nightbatch.alert WHERE subject = '2'")
    alerts.acknowledge(store, second, by="ada")
    alerts.send(store, {"mail": lambda alert: sent.append(alert.subject)})
    assert sent == ["3"]


def test_a_sender_that_always_fails_neither_stops_nor_repeats_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[str] = []
    tried: list[str] = []

    def broken(alert: Alert) -> None:
        tried.append(alert.subject)
        raise RuntimeError("POST https://hooks.example.com/canary-4711 failed")

    store.raise_alert("overdue", "1", "Batch 1 is overdue.")
    store.raise_alert("overdue", "2", "Batch 2 is overdue.")
    for _ in range(3):
        alerts.send(store, {"broken": broken, "mail": lambda alert: sent.append(alert.subject)})
    assert sent == ["1", "2"]
    assert tried == ["1", "2"] * 3
    first = rows(store, "SELECT min(id) FROM nightbatch.alert")[0]
    assert f"Alert {first} (overdue) was not sent by broken, and is tried again in an hour: RuntimeError" in caplog.text
    assert "canary" not in caplog.text


def test_what_we_say_ourselves_of_a_failure_is_told(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def unfinished(alert: Alert) -> None:
        raise ConfigurationError("there is no Airflow connection 'hook'")

    store.raise_alert("overdue", "1", "Batch 1 is overdue.")
    assert alerts.send(store, {"webhook": unfinished}) == []
    assert (
        "was not sent by webhook, and is tried again in an hour: there is no Airflow connection 'hook'" in caplog.text
    )


def test_a_process_that_dies_while_it_sends_loses_nothing(store: Store) -> None:
    class Killed(BaseException):
        pass

    def dies(alert: Alert) -> None:
        raise Killed

    sent: list[str] = []
    store.raise_alert("overdue", "1", "Batch 1 is overdue.")
    with pytest.raises(Killed):
        alerts.send(store, {"mail": dies})
    alerts.send(store, {"mail": lambda alert: sent.append(alert.subject)})
    assert sent == ["1"]


def at_once(dsn: str, what: Callable[[Store], Any], times: int = 4) -> list[Any]:
    """The same thing by several connections, begun together."""
    ready = Barrier(times)

    def one(_: int) -> Any:
        with open_store(dsn) as mine:
            ready.wait(timeout=60)
            return what(mine)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def test_checks_at_once_raise_each_alert_once(dsn: str, store: Store) -> None:
    rolled_up(store, "bad", succeeded=80, failed=20, saved="1234")
    told = at_once(dsn, lambda mine: alerts.check(mine, SETTINGS))
    assert sorted(len(one) for one in told) == [0, 0, 0, 2]
    assert still_open(store) == [("savings_milestone", "1000"), ("success_rate_low", "runs")]


def test_of_two_that_send_at_once_one_does(dsn: str, store: Store) -> None:
    sent: list[str] = []

    def slowly(alert: Alert) -> None:
        time.sleep(0.3)
        sent.append(alert.subject)

    for number in range(3):
        store.raise_alert("overdue", str(number), "A batch is overdue.")
    at_once(dsn, lambda mine: alerts.send(mine, {"mail": slowly}))
    assert sorted(sent) == ["0", "1", "2"]


def test_when_the_one_that_sends_fails_the_one_that_waits_sends(dsn: str, store: Store) -> None:
    tried: list[str] = []

    def fails_first(alert: Alert) -> None:
        time.sleep(0.3)
        tried.append(alert.subject)
        if len(tried) == 1:
            raise RuntimeError

    store.raise_alert("overdue", "1", "Batch 1 is overdue.")
    at_once(dsn, lambda mine: alerts.send(mine, {"mail": fails_first}), times=2)
    assert tried == ["1", "1"]
    assert len(rows(store, "SELECT * FROM nightbatch.alert_sent")) == 1


# -- who may, and what is set


def test_the_workers_role_may_do_all_of_it(store: Store) -> None:
    rolled_up(store, "bad", succeeded=80, failed=20, saved="1234")
    store.connection.execute("SET ROLE nightbatch_worker")
    assert len(alerts.check(store, SETTINGS)) == 2
    assert len(alerts.send(store, {"mail": lambda alert: None})) == 2
    alerts.night_late(store, "r1", 24)
    for alert in store.open_alerts():
        alerts.acknowledge(store, alert.id, by="ada")
    assert [kind for kind, _ in still_open(store)] == ["night_late", "success_rate_low"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MILESTONE_USD", "-1"), ("MILESTONE_USD", "nan"), ("MILESTONE_USD", "much"), ("MIN_SUCCESS_RATE", "95"),
        ("MIN_SUCCESS_RATE", "nan"), ("BACKLOG_HOURS", "0"),
    ],
)  # fmt: skip
def test_a_setting_that_makes_no_sense_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"NIGHTBATCH_{name}"):
        Settings.from_env({f"NIGHTBATCH_{name}": value})


def test_the_docs_tell_of_every_kind_and_of_no_other() -> None:
    root = Path(__file__).parents[2]
    code = "".join(path.read_text() for path in (root / "include" / "nightbatch").rglob("*.py"))
    raised = set(re.findall(r'raise_alert\(\s*"(\w+)"', code)) | alerts.GOOD_NEWS | set(get_args(troubles.Kind))
    told, _, _ = (root / "docs" / "alerts.md").read_text().partition("**To acknowledge**")
    assert set(re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE)) == raised

"""The soak's judge has to turn red for every promise that is broken."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from nightbatch_local.stack import Stack
from tests.soak.judge import judge
from tests.soak.place import Lost, Place

COST = Decimal("0.000123")


@dataclass(frozen=True, slots=True)
class Books:
    """What the judge reads of a stack."""

    dsn: str
    billing_log: Path


@pytest.fixture
def place(dsn: str, tmp_path: Path) -> Place:
    """One job that was sent once, billed once and loaded once."""
    found = Place(cast(Stack, Books(dsn, tmp_path / "billing.jsonl")), random.Random(1))
    found.sql(  # the books are put into states here that the triggers would not let pass
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET session_replication_role = replica', current_database()); END $$"
    )
    found.sql(
        "INSERT INTO nightbatch.job (job_type, provider, input, labels)"
        " VALUES ('creative_scoring', 'openai', '{}', '{\"good\": true}')"
    )
    found.sql("INSERT INTO nightbatch.run (id) VALUES ('r')")
    found.sql(
        "INSERT INTO nightbatch.batch (run_id, provider, model, endpoint, part, job_count, state, provider_batch_id,"
        " account_fingerprint, payload_sha256, uploaded_at, intent_at, submitted_at, closed_at)"
        " VALUES ('r', 'openai', 'm', 'chat', 1, 1, 'loaded', 'batch_1', 'a', 'h', now(), now(), now(), now())"
    )
    found.sql("INSERT INTO nightbatch.batch_job VALUES (1, 1)")
    found.sql(
        "INSERT INTO nightbatch.result (job_id, batch_id, outcome, billed, output, realtime_cost_usd, batch_cost_usd,"
        " price_source) VALUES (1, 1, 'succeeded', true, '{}', %s, %s, 'test')",
        *(COST * 2, COST),
    )
    found.sql(
        "INSERT INTO nightbatch_report.batch_rollup VALUES"
        " (1, 'creative_scoring', 'r', current_date, 'openai', 'm', 1, 1, 0, 0, 1, 0, 1, %s, %s, 0, 0, 0)",
        *(COST * 2, COST),
    )
    found.tally.jobs.add(1)
    charge(found, "j1_a1")
    return found


def charge(place: Place, *custom_ids: str) -> None:
    lines: list[dict[str, Any]] = [{"custom_id": name, "cost_usd": f"{COST}"} for name in custom_ids]
    place.stack.billing_log.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_night_in_order_passes(place: Place) -> None:
    verdict = judge(place)
    assert (verdict.billed, verdict.twice, verdict.lost, verdict.wrong) == (1, 0, 0, [])


def test_a_job_billed_twice_is_told(place: Place) -> None:
    charge(place, "j1_a1", "j1_a2")
    verdict = judge(place)
    assert verdict.twice == 1
    assert "j1 was paid 2 times: j1_a1, j1_a2" in verdict.wrong
    assert "j1_a2 was paid and is neither a result nor in quarantine" in verdict.wrong
    assert f"the bill says {COST * 2} USD, nightbatch.result {COST}" in verdict.wrong


def test_a_paid_answer_that_is_nowhere_is_lost_and_one_in_quarantine_is_not(place: Place) -> None:
    place.sql("DELETE FROM nightbatch.result")
    verdict = judge(place)
    assert verdict.lost == 2  # the answer, and the job that waits again
    assert "j1_a1 was paid and is neither a result nor in quarantine" in verdict.wrong
    assert "job 1 is queued at rest: None" in verdict.wrong
    place.sql("INSERT INTO nightbatch.reject (batch_id, reason, raw) VALUES (1, 'torn', '{\"custom_id\": \"j1_a1\"')")
    assert judge(place).lost == 1


def test_what_is_booked_and_not_on_the_bill_is_told(place: Place) -> None:
    charge(place)
    assert "j1_a1 is booked as billed, and is not on the bill" in judge(place).wrong


def test_a_confirmed_job_that_vanished_is_lost(place: Place) -> None:
    place.tally.jobs.add(2)
    verdict = judge(place)
    assert (verdict.lost, verdict.wrong) == (1, ["job 2 was inserted, confirmed, and is not there any more"])


def test_a_good_job_that_failed_is_lost_unless_a_person_dropped_it(place: Place) -> None:
    place.sql("UPDATE nightbatch.result SET outcome = 'missing', error = 'no line'")
    assert judge(place).wrong == ["job 1 had every reason to succeed and is failed: no line"]
    place.sql("INSERT INTO nightbatch.dismissed (job_id, state, reason) VALUES (1, 'cancelled', 'dropped')")
    assert len(judge(place).wrong) == 1
    place.sql("INSERT INTO nightbatch.decision (batch_id, choice, decided_by, reason) VALUES (1, 'drop', 'a', 'b')")
    assert judge(place).wrong == []


def test_an_open_attempt_and_a_report_that_lags_are_told(place: Place) -> None:
    place.sql("UPDATE nightbatch.batch SET state = 'submitted', closed_at = NULL")
    place.sql("DELETE FROM nightbatch_report.batch_rollup")
    assert judge(place).wrong == [
        f"the bill says {COST} USD, nightbatch_report.savings_daily 0",
        "attempt 1 is submitted at rest",
    ]


OURS, THEIRS = "0123456789abcdef", "fedcba9876543210"


def asked_with(place: Place, nonce: str) -> None:
    place.sql("UPDATE nightbatch.batch SET nonce = %s", nonce)


def test_a_bill_is_split_by_installation(place: Place) -> None:
    asked_with(place, OURS)
    charge(place, f"j1_a1_{OURS}", f"j1_a1_{THEIRS}")
    assert judge(place).twice == 1  # what no installation owns up to is everybody's
    place.others = frozenset({THEIRS[:8]})
    verdict = judge(place)
    assert (verdict.billed, verdict.twice, verdict.lost, verdict.wrong) == (1, 0, 0, [])


def test_a_job_that_died_with_the_disk_is_not_the_one_that_has_its_number_now(place: Place) -> None:
    asked_with(place, OURS)
    charge(place, f"j1_a1_{OURS}", f"j1_a1_{THEIRS}")
    place.lost = Lost(newest_job=0, nonces=frozenset({THEIRS}), loaded=frozenset())
    assert judge(place).wrong == []
    place.lost = Lost(newest_job=1, nonces=frozenset({THEIRS}), loaded=frozenset())
    assert judge(place).twice == 1


def test_an_answer_that_only_the_lost_ledger_had_is_gone_and_what_it_never_loaded_is_lost(place: Place) -> None:
    charge(place, f"j1_a1_{THEIRS}")
    place.sql("DELETE FROM nightbatch.result")
    place.sql("DELETE FROM nightbatch_report.batch_rollup")
    place.sql(
        "INSERT INTO nightbatch.dismissed (job_id, state, reason) VALUES (1, 'cancelled', 'The database was restored, and so on')"
    )
    place.lost = Lost(newest_job=1, nonces=frozenset({THEIRS}), loaded=frozenset({f"j1_a1_{THEIRS}"}))
    verdict = judge(place)
    assert (verdict.gone, verdict.cancelled, verdict.lost, verdict.wrong) == (1, 1, 0, [])
    place.lost = Lost(newest_job=1, nonces=frozenset({THEIRS}), loaded=frozenset())
    assert judge(place).lost == 1
    charge(place, f"j1_a1_{THEIRS}", f"j1_a2_{OURS}")
    place.lost = Lost(newest_job=1, nonces=frozenset({THEIRS}), loaded=frozenset({f"j1_a1_{THEIRS}"}))
    assert judge(place).twice == 1


def test_a_job_whose_lost_answer_a_person_gave_up_may_fail(place: Place) -> None:
    place.sql(
        "UPDATE nightbatch.result SET outcome = 'missing', error = 'given up', batch_cost_usd = NULL,"
        " realtime_cost_usd = NULL, price_source = NULL"
    )
    place.sql("DELETE FROM nightbatch_report.batch_rollup")
    place.lost = Lost(newest_job=1, nonces=frozenset(), loaded=frozenset({"j1_a1"}))
    verdict = judge(place)
    assert (verdict.gone, verdict.lost, verdict.wrong) == (1, 0, [])
    place.lost = Lost(newest_job=1, nonces=frozenset(), loaded=frozenset())
    assert "job 1 had every reason to succeed and is failed: given up" in judge(place).wrong

"""The verdict: the providers' bill against the books, once all is at rest."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from nightbatch.core.models import custom_id, parse_custom_id
from tests.soak.place import Place

_FINAL = {"succeeded", "failed", "rejected", "cancelled"}


@dataclass(slots=True)
class Verdict:
    """``wrong`` is empty when the promise was kept.

    After a restore ``gone`` are the paid answers that the lost ledger had loaded and that are nowhere else, and ``cancelled``
    the jobs that ended because such an answer may have been theirs.
    """

    billed: int = 0
    twice: int = 0
    lost: int = 0
    gone: int = 0
    cancelled: int = 0
    wrong: list[str] = field(default_factory=list)


def judge(place: Place) -> Verdict:
    """Nothing paid twice, nothing lost, every cent accounted for."""
    bill = _bill(place)
    verdict = Verdict(billed=len(bill))
    _no_job_was_paid_twice(bill, verdict)
    died = _died_with_the_disk(place)
    bill = [line for line in bill if line["custom_id"] not in died]
    verdict.gone = verdict.billed - len(bill)
    _no_paid_answer_was_lost(place, bill, died, verdict)
    _every_job_came_to_its_end(place, died, verdict)
    _every_cent_is_booked(place, bill, verdict)
    _every_attempt_is_closed(place, verdict)
    return verdict


def _bill(place: Place) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in place.stack.billing_log.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if _is_of(place, line["custom_id"])]


def _is_of(place: Place, name: str) -> bool:
    """Whether it was asked for a job of this ledger; what nobody asked for is everybody's to account for."""
    request = parse_custom_id(name)
    if request is None or request.nonce is None:
        return True
    if request.nonce[:8] in place.others:
        return False
    lost = place.lost
    return lost is None or request.job_id <= lost.newest_job or request.nonce not in lost.nonces


def _died_with_the_disk(place: Place) -> set[str]:
    """The answers that the lost ledger had loaded and whose jobs have ended without one, by their custom_ids."""
    if place.lost is None:
        return set()
    unanswered = {
        job
        for (job,) in place.sql(
            "SELECT job_id FROM nightbatch.job_status WHERE state = 'cancelled'"
            " UNION SELECT job_id FROM nightbatch.result WHERE outcome = 'missing'"
        )
    }
    return {name for name in place.lost.loaded if (ids := parse_custom_id(name)) and ids.job_id in unanswered}


def _no_job_was_paid_twice(bill: list[dict[str, Any]], verdict: Verdict) -> None:
    for job, times in Counter(line["custom_id"].partition("_")[0] for line in bill).items():
        if times > 1:
            verdict.twice += 1
            lines = [line["custom_id"] for line in bill if line["custom_id"].startswith(f"{job}_")]
            verdict.wrong.append(f"{job} was paid {times} times: {', '.join(lines)}")


def _no_paid_answer_was_lost(place: Place, bill: list[dict[str, Any]], died: set[str], verdict: Verdict) -> None:
    booked = Counter(
        name
        for row in place.sql(
            "SELECT r.job_id, coalesce(b.sent_as, r.batch_id), b.nonce FROM nightbatch.result AS r"
            " LEFT JOIN nightbatch.batch AS b ON b.id = r.batch_id WHERE r.billed"
        )
        if (name := custom_id(*row)) not in died
    )
    quarantined = b"\n".join(bytes(raw) for (raw,) in place.sql("SELECT raw FROM nightbatch.reject"))
    charged = Counter(line["custom_id"] for line in bill)
    for name in charged - booked:
        if f'"{name}"'.encode() not in quarantined:
            verdict.lost += 1
            verdict.wrong.append(f"{name} was paid and is neither a result nor in quarantine")
    verdict.wrong += [f"{name} is booked as billed, and is not on the bill" for name in booked - charged]


def _every_job_came_to_its_end(place: Place, died: set[str], verdict: Verdict) -> None:
    rows = place.sql(
        "SELECT s.job_id, s.state, (j.labels ->> 'good')::boolean, s.error,"
        " EXISTS (SELECT FROM nightbatch.decision AS d JOIN nightbatch.batch_job AS m USING (batch_id)"
        "         WHERE m.job_id = s.job_id AND d.choice = 'drop')"
        " FROM nightbatch.job_status AS s JOIN nightbatch.job AS j ON j.id = s.job_id"
    )
    given_up = {ids.job_id for name in died if (ids := parse_custom_id(name))}
    gone = place.tally.jobs - {row[0] for row in rows}
    verdict.wrong += [f"job {job} was inserted, confirmed, and is not there any more" for job in sorted(gone)]
    verdict.lost += len(gone)
    for job, state, good, error, dropped in rows:
        if state not in _FINAL:
            verdict.wrong.append(f"job {job} is {state} at rest: {error}")
        elif place.lost and state == "cancelled" and (error or "").startswith("The database was restored"):
            verdict.cancelled += 1
            continue
        elif job in given_up and state == "failed":
            continue
        elif good and state != "succeeded" and not (dropped and state == "cancelled"):
            verdict.wrong.append(f"job {job} had every reason to succeed and is {state}: {error}")
        else:
            continue
        verdict.lost += 1


def _every_cent_is_booked(place: Place, bill: list[dict[str, Any]], verdict: Verdict) -> None:
    charged = sum((Decimal(line["cost_usd"]) for line in bill if line["cost_usd"] is not None), Decimal(0))
    for table in ("nightbatch.result", "nightbatch_report.savings_daily"):
        ((booked,),) = place.sql(f"SELECT coalesce(sum(batch_cost_usd), 0) FROM {table}")
        if booked != charged:
            verdict.wrong.append(f"the bill says {charged} USD, {table} {booked}")


def _every_attempt_is_closed(place: Place, verdict: Verdict) -> None:
    for batch, state in place.sql("SELECT id, state FROM nightbatch.batch WHERE closed_at IS NULL"):
        verdict.wrong.append(f"attempt {batch} is {state} at rest")
    for job, batch in place.sql("SELECT job_id, batch_id FROM nightbatch.open_job"):
        verdict.wrong.append(f"job {job} still belongs to attempt {batch} at rest")

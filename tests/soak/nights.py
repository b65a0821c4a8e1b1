"""What people and providers do meanwhile: producers insert, runs overlap and are cleared, requests go wrong."""

from __future__ import annotations

import json
from typing import Any

from nightbatch.core.models import ProviderName
from nightbatch.core.profiles import BUILT_IN
from tests.crash.surroundings import gateways
from tests.soak.place import LAG_SECONDS, Place

_MARKS = ("refusal", "truncate", "misfit", "error=400", "error=500")
_RUNS_AT_ONCE = 3
_FAULTS_AT_ONCE = 4
_CALLS = ("batch_create", "batch_get", "batch_list", "file_download")
_FILE_CALLS = ("file_upload", "file_delete")  # not at Anthropic


def insert_jobs(place: Place) -> None:
    """A producer's few rows, each a transaction of its own."""
    for _ in range(place.dice.randint(1, 5)):
        kind, provider, text, good = _job(place)
        ((job_id,),) = place.sql(
            "INSERT INTO nightbatch.job (job_type, provider, input, priority, labels)"
            " VALUES (%s, %s, %s, %s, %s) RETURNING id",
            *(kind, provider, json.dumps(text), place.dice.randint(1, 10), json.dumps({"good": good})),
        )
        place.tally.jobs.add(job_id)


def _job(place: Place) -> tuple[str, str, dict[str, Any], bool]:
    """Job type, provider, input, and whether nothing of its own keeps it from succeeding."""
    provider, number = place.dice.choice(place.providers), place.dice.randrange(10**9)
    if provider != "anthropic" and place.dice.random() < 0.25:
        return "embedding_generation", provider, {"text": f"Text {number}", "dimensions": 256}, True
    chance = place.dice.random()
    if chance < 0.02:
        return "creative_scoring", provider, {"headline": ""}, False
    mark = f" [[emulator:{place.dice.choice(_MARKS)}]]" if chance < 0.12 else ""
    return "creative_scoring", provider, {"headline": f"Creative {number}{mark}"}, not mark


def start_night(place: Place) -> None:
    """One more run beside those under way."""
    if len(place.active("nightbatch")) < _RUNS_AT_ONCE:
        place.trigger("nightbatch")


def start_recovery(place: Place) -> None:
    """`nightbatch_recover`, which goes every hour otherwise."""
    if not place.active("nightbatch_recover"):
        place.trigger("nightbatch_recover")


def clear_a_run(place: Place) -> None:
    """A person clears a run that has ended: the whole of it, or what failed."""
    if len(place.active("nightbatch")) < _RUNS_AT_ONCE and (over := place.over("nightbatch")):
        run = place.dice.choice(over)
        only_failed = run["state"] == "failed" and place.dice.random() < 0.5
        what = {"dry_run": False, "dag_run_id": run["dag_run_id"], "only_failed": only_failed, "reset_dag_runs": True}
        place.stack.api("POST", "/dags/nightbatch/clearTaskInstances", what)
        place.tally.clears += 1


def make_a_fault(place: Place) -> None:
    """The next call of some kind goes wrong; a few such rules wait at a time."""
    if sum(rule["hits"] < rule["times"] for rule in place.control("GET", "faults")) >= _FAULTS_AT_ONCE:
        end_faults(place)  # their calls did not come: others may
    provider = place.dice.choice(BUILT_IN)
    place.control("POST", "faults", {"provider": provider, **_fault(place, provider)})


def _fault(place: Place, provider: ProviderName) -> dict[str, Any]:
    if place.surrounding == "gateway" and place.dice.random() < 0.5:
        return place.dice.choice(gateways())
    chance = place.dice.random()
    if chance < 0.08:
        return {"operation": "batch_list", "fault": "list_lag", "delay_seconds": LAG_SECONDS, "times": 4}
    if chance < 0.16:
        return {"operation": "file_download", "fault": "truncate"}
    if chance < 0.26:
        return {"operation": "batch_create", "fault": "deliver_late", "delay_seconds": LAG_SECONDS}
    if chance < 0.60:
        return {
            "operation": "batch_create",
            "fault": place.dice.choice(("lose_answer", "error_after", "gateway_after")),
        }
    calls = _CALLS if provider == "anthropic" else _CALLS + _FILE_CALLS
    fault = place.dice.choice(("reset", "lose_answer", "error_after", "rate_limit", "refuse"))
    return {"operation": place.dice.choice(calls), "fault": fault, "retry_after": 2}


def count_faults(place: Place) -> None:
    """Before the emulator forgets its rules: how often each kind has struck."""
    for rule in place.control("GET", "faults"):
        place.tally.faults[rule["fault"]] += rule["hits"]


def end_faults(place: Place) -> None:
    """Every provider works from now on."""
    count_faults(place)
    place.control("DELETE", "faults")

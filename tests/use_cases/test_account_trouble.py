"""Trouble of an account, an address or a provider ends no job: one alert says what to mend, and the next night sends all."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest

from nightbatch.batches import loading, recovery, submission
from nightbatch.core.errors import NightbatchError
from nightbatch.core.models import ProviderName
from nightbatch.job_types import job_types
from nightbatch.providers import build
from tests.use_cases.conftest import World
from tests.use_cases.retold import Change, Instead, batch_object, both, lines, retold
from tests.use_cases.steps import alerts, recover, wait_for_end


@dataclass
class Way:
    """One way in which an account fails: how its provider tells of it."""

    provider: ProviderName
    name: str
    change: Change = lambda method, path, status, body: None
    instead: Instead = lambda method, path: None


def failed(provider: ProviderName, name: str, error: dict[str, Any] | None) -> Way:
    """The batch was taken, and nothing of it was run."""

    def edit(shown: dict[str, Any]) -> None:
        if provider == "openai":
            shown |= {"status": "failed", "output_file_id": None, "error_file_id": None, "usage": None}
            shown["request_counts"] = {"total": 0, "completed": 0, "failed": 0}
            shown["errors"] = {"object": "list", "data": [error]} if error else None
        else:
            shown["metadata"] |= {"state": "BATCH_STATE_FAILED", "batchStats": {}}
            shown["metadata"].pop("output", None)
            shown.pop("response", None)
            shown.pop("error", None)
            shown |= {"error": error} if error else {}

    return Way(provider, name, batch_object(edit))


def answered(provider: ProviderName, name: str, error: Any) -> Way:
    """Every line says so, and nothing was billed."""

    def line(came: bytes) -> bytes:
        found = orjson.loads(came)
        if provider == "openai":
            return orjson.dumps(
                {**found, "response": {"status_code": error[0], "request_id": "r", "body": {"error": error[1]}}}
            )
        if provider == "anthropic":
            return orjson.dumps({**found, "result": {"type": "errored", "error": {"type": "error", "error": error}}})
        return orjson.dumps({"key": found["key"], "error": error})

    def none_done(shown: dict[str, Any]) -> None:
        if provider == "gemini":
            total = shown["metadata"]["batchStats"]["requestCount"]
            shown["metadata"]["batchStats"] = {"requestCount": total, "failedRequestCount": total}
            return
        told = shown["request_counts"]
        shown["request_counts"] = (
            {"total": told["total"], "completed": 0, "failed": told["total"]}
            if provider == "openai"
            else {**told, "succeeded": 0, "errored": told["succeeded"]}
        )
        shown.pop("usage", None)

    def swapped(shown: dict[str, Any]) -> None:
        if provider == "openai" and shown.get("output_file_id"):
            shown |= {"error_file_id": shown["output_file_id"], "output_file_id": None}

    every = lines(lambda came: [line(one) for one in came])
    return Way(provider, name, both(batch_object(none_done), batch_object(swapped), every))


def refused(provider: ProviderName, name: str, path: str, status: int, error: dict[str, Any]) -> Way:
    """A POST to this path is refused, in the provider's own envelope."""
    body = {"type": "error", "error": error, "request_id": "req_1"} if provider == "anthropic" else {"error": error}

    def instead(method: str, asked: str) -> tuple[int, bytes] | None:
        return (status, orjson.dumps(body)) if method == "POST" and asked.partition("?")[0].endswith(path) else None

    return Way(provider, name, instead=instead)


def said_by_openai(message: str, **more: Any) -> dict[str, Any]:
    return {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}


def said_by_gemini(code: int, status: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "status": status}


def openai_error(code: str, message: str = "m") -> dict[str, Any]:
    return {"code": code, "message": message, "line": None, "param": None}


WAYS = [
    failed("openai", "no credit", openai_error("billing_hard_limit_reached")),
    failed("openai", "quota", openai_error("insufficient_quota")),
    failed("openai", "server error", openai_error("server_error")),
    failed("openai", "a code that nobody knows", openai_error("something_new")),
    failed("openai", "no reason", None),
    failed("openai", "server error at a line", {**openai_error("server_error"), "line": 2}),
    failed("gemini", "internal", {"code": 13, "message": "Internal error."}),
    failed("gemini", "no error", None),
    failed("gemini", "unknown", {"code": 2, "message": "?"}),
    failed("gemini", "location", {"code": 9, "message": "User location is not supported for the API use."}),
    failed("gemini", "permission", {"code": 7, "message": "The caller does not have permission"}),
    failed("gemini", "billing", {"code": 3, "message": "Enable billing on the project to go on."}),
    answered(
        "openai",
        "quota in lines",
        (429, {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}),
    ),
    answered(
        "openai", "key in lines", (401, {"message": "key", "type": "invalid_request_error", "code": "invalid_api_key"})
    ),
    answered("openai", "region in lines", (403, said_by_openai("m", code="unsupported_country_region_territory"))),
    answered("openai", "permission in lines", (403, said_by_openai("No.", type="permission_error"))),
    answered("openai", "spent in words", (400, said_by_openai("Billing hard limit has been reached"))),
    answered("openai", "organization in lines", (400, said_by_openai("m", code="organization_deactivated"))),
    answered(
        "anthropic",
        "organization in lines",
        {"type": "permission_error", "message": "m", "details": {"error_code": "organization_disabled"}},
    ),
    answered(
        "anthropic",
        "limit of the workspace",
        {"type": "rate_limit_error", "message": "m", "details": {"error_code": "workspace_spend_limit_reached"}},
    ),
    answered("anthropic", "on hold in lines", {"type": "invalid_request_error", "message": "It is on hold."}),
    answered("gemini", "region in lines", {"code": 9, "message": "The region is not supported."}),
    answered("gemini", "prepaid in lines", {"code": 8, "message": "Your prepayment is used up."}),
    answered("gemini", "key in lines", {"code": 3, "message": "m", "details": [{"reason": "API_KEY_INVALID"}]}),
    answered("gemini", "nobody in lines", {"code": 16, "message": "m"}),
    answered("anthropic", "billing in lines", {"type": "billing_error", "message": "m"}),
    answered(
        "anthropic", "credit in lines", {"type": "invalid_request_error", "message": "Your credit balance is too low"}
    ),
    answered("gemini", "permission in lines", {"code": 7, "message": "The caller does not have permission"}),
    answered("gemini", "billing in lines", {"code": 9, "message": "billing is not enabled"}),
    refused("openai", "no such address for files", "/files", 404, said_by_openai("Invalid URL (POST /files)")),
    refused("openai", "no such address", "/batches", 404, said_by_openai("Invalid URL (POST /batches)")),
    refused("openai", "billing limit", "/batches", 400, said_by_openai("m", code="billing_hard_limit_reached")),
    refused("openai", "region", "/batches", 403, said_by_openai("Country not supported", type="request_forbidden")),
    refused("openai", "a 400 that names nothing", "/batches", 400, said_by_openai("Something new.")),
    refused(
        "anthropic",
        "disabled",
        "/batches",
        400,
        {"type": "invalid_request_error", "message": "This organization has been disabled."},
    ),
    refused(
        "anthropic",
        "spent, as a 429",
        "/batches",
        429,
        {"type": "rate_limit_error", "message": "You have reached the spend limit"},
    ),
    refused("anthropic", "billing", "/batches", 402, {"type": "billing_error", "message": "spend limit"}),
    refused(
        "anthropic", "a 400 that names nothing", "/batches", 400, {"type": "invalid_request_error", "message": "New."}
    ),
    refused(
        "gemini", "key", ":batchGenerateContent", 400, said_by_gemini(400, "INVALID_ARGUMENT", "API key not valid.")
    ),
    refused(
        "gemini",
        "location at the create",
        ":batchGenerateContent",
        400,
        said_by_gemini(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
    ),
    refused(
        "gemini",
        "leaked key",
        ":batchGenerateContent",
        403,
        said_by_gemini(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."),
    ),
]


def night(world: World, way: Way, run_id: str) -> None:
    """A run while the account fails, as the Dag does it; its batches, two of them, one after the other."""
    with retold(getattr(world.emulator, f"{way.provider}_url"), way.change, instead=way.instead) as url:
        adapter = build(way.provider, api_key=f"emu-{world.account}", base_url=url, account=world.account)
        for batch in world.plan(run_id):
            with suppress(NightbatchError):
                sent = submission.submit_batch(world.store, adapter, job_types(), world.settings, batch.id)
                if sent is not None:
                    wait_for_end(world, sent, adapter)
                    loading.load_batch(world.store, adapter, job_types(), sent)
        recovery.settle_run(world.store, run_id)


@pytest.mark.fault(64)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.provider}: {way.name}")
def test_trouble_of_an_account_ends_no_job_and_the_next_night_sends_all(world: World, way: Way) -> None:
    world.settings = replace(world.settings, max_batch_jobs=2)
    jobs = world.insert(way.provider, 4)
    for run_id in ("r1", "r2"):
        night(world, way, run_id)
        assert {job: state for job, state in world.states().items() if state != "queued"} == {}
        assert [kind for kind in alerts(world) if kind in ("account_refused", "batch_refused")] == alerts(world)
        assert len(alerts(world)) == 1
    world.night("mended")
    recover(world)
    assert [world.states()[job] for job in jobs] == ["succeeded"] * 4


OWN = [
    answered("openai", "internal", (500, {"message": "m", "type": "server_error"})),
    answered("openai", "too many", (429, {"message": "m", "type": "requests", "code": "rate_limit_exceeded"})),
    answered("anthropic", "overloaded", {"type": "overloaded_error", "message": "Overloaded"}),
    answered("anthropic", "internal", {"type": "api_error", "message": "Internal server error"}),
    answered("anthropic", "a kind that nobody knows", {"type": "something_new", "message": "m"}),
    answered("anthropic", "no kind", {"message": "m"}),
    answered("gemini", "overloaded", {"code": 14, "message": "The model is overloaded."}),
    answered("gemini", "unavailable by its status", {"code": 503, "message": "m", "status": "UNAVAILABLE"}),
    answered("gemini", "no code", {"message": "m"}),
    answered("gemini", "a text", "Internal error encountered."),
]


@pytest.mark.fault(64)
@pytest.mark.parametrize("way", OWN, ids=lambda way: f"{way.provider}: {way.name}")
def test_trouble_of_the_provider_in_a_line_is_tried_again_as_often_as_the_type_says(world: World, way: Way) -> None:
    (job,) = world.insert(way.provider, 1)
    seen = []
    for number in range(4):
        night(world, way, f"r{number}")
        seen.append(world.states()[job])
    assert seen == ["queued", "queued", "failed", "failed"]
    assert alerts(world) == []
    assert world.bill() == [] or world.rows("SELECT count(*) FROM nightbatch.result WHERE billed") == [0]


FAULTS = [
    answered("openai", "bad request", (400, said_by_openai("m", code="invalid_value"))),
    answered("openai", "no such model", (403, said_by_openai("m", code="model_not_found"))),
    answered("anthropic", "bad request", {"type": "invalid_request_error", "message": "max_tokens: too many"}),
    answered("anthropic", "no such model", {"type": "not_found_error", "message": "model: x"}),
    answered("gemini", "bad request", {"code": 3, "message": "m"}),
    answered("gemini", "bad request by its status", {"code": 400, "message": "m"}),
]


@pytest.mark.fault(64)
@pytest.mark.parametrize("way", FAULTS, ids=lambda way: f"{way.provider}: {way.name}")
def test_a_fault_of_the_request_in_a_line_ends_the_job_at_once(world: World, way: Way) -> None:
    (job,) = world.insert(way.provider, 1)
    night(world, way, "r1")
    assert (world.states()[job], alerts(world)) == ("failed", [])

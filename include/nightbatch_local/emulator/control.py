"""Serve what a test or the demo can ask of the emulator itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields
from inspect import isawaitable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nightbatch_local.emulator.accounts import revoke
from nightbatch_local.emulator.export import billing_rows
from nightbatch_local.emulator.faults import Faults, Rule
from nightbatch_local.emulator.http import Emulator, json_response

_RULE_FIELDS = {field.name for field in fields(Rule)} - {"matches", "hits"}
_SHARES = {"completed": 1.0, "failed": 0.0, "expired": 0.5, "cancelled": 0.5}

Control = Callable[[Emulator, Faults, dict[str, Any], Request], Any]


def health(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Answer as soon as the emulator can work."""
    return {"status": "ok"}


def set_turnaround(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Set `{"seconds", "spread"?}` for new batches, and for the open ones that nobody has told to end."""
    emulator.turnaround, emulator.spread = float(body["seconds"]), float(body.get("spread", 0))
    for batch in emulator.state.open_batches():
        if batch.ending is None:
            emulator.state.update_batch(batch.id, {"due_at": emulator.due_at(batch.created_at, batch.seq)})
    emulator.worker.wake()
    return {"seconds": emulator.turnaround, "spread": emulator.spread}


def end_batch(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """End a batch now: `{"as": outcome, "finished"?: share, "error"?}`."""
    batch = emulator.state.batch_by_id(request.path_params["id"])
    outcome = body.get("as", "completed")
    if batch is None or batch.outcome is not None or outcome not in _SHARES:
        raise ValueError("There is no open batch of this id, or no such outcome.")
    changes = {
        "ending": outcome,
        "finished": body.get("finished", _SHARES[outcome]),
        "due_at": emulator.state.now(),
    }
    if outcome == "failed":
        error = {"code": "server_error", "line": None, "message": "The batch failed.", "param": None}
        changes["errors"] = orjson.dumps([body.get("error") or error]).decode() if batch.provider == "openai" else None
    emulator.state.update_batch(batch.id, changes)
    emulator.worker.wake()
    return {"id": batch.id, "as": outcome}


def age_batch(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Move an ended batch and the files that it made into the past by `{"days"}`, as if all had happened so much earlier."""
    batch = emulator.state.batch_by_id(request.path_params["id"])
    if batch is None or batch.outcome is None:
        raise ValueError("There is no ended batch of this id.")
    emulator.state.age(batch, float(body["days"]) * 86400)
    return {"id": batch.id, "days": body["days"]}


def advance_clock(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Move the emulator's clock on: `{"advance": seconds}`."""
    emulator.state.advance(float(body["advance"]))
    emulator.worker.wake()
    return {"now": emulator.state.now()}


def add_fault(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Add a rule, see `faults.Rule`."""
    if unknown := set(body) - _RULE_FIELDS:
        raise ValueError(f"A fault rule has no {', '.join(sorted(unknown))}.")
    faults.rules.append(Rule(**body))
    return faults.shown()


def show_faults(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Return the rules with how often each has matched and acted."""
    return faults.shown()


def clear_faults(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Take all rules away."""
    faults.rules.clear()
    return []


async def deliver_late(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Let what `deliver_late` holds up arrive now, of `{"account"?}`; it is done when this is answered."""
    return {"arrived": await faults.let_the_late_arrive(body.get("account"))}


def revoke_key(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Answer `{"key"}` with 401 from now on."""
    revoke(emulator.state, body["key"])
    return {"revoked": True}


def set_limit(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Set the enqueued-token limit: `{"provider", "account", "tokens"}`; null takes it away."""
    who = (body["provider"], body["account"])
    emulator.state.db.execute("DELETE FROM token_limit WHERE provider = ? AND account = ?", who)
    if body.get("tokens") is not None:
        emulator.state.db.execute("INSERT INTO token_limit VALUES (?, ?, ?)", (*who, body["tokens"]))
    return body


def show_log(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Return the provider requests since the start, oldest first; with `?account=` those of one account."""
    account = request.query_params.get("account")
    return [asdict(seen) for seen in faults.log if account in (None, seen.account)]


def show_billing(emulator: Emulator, faults: Faults, body: dict[str, Any], request: Request) -> Any:
    """Return every charged request, as in the billing log; with `?account=` those of one account."""
    return list(billing_rows(emulator.state, request.query_params.get("account")))


_CONTROLS: tuple[tuple[str, str, Control], ...] = (
    ("GET", "/health", health),
    ("POST", "/control/turnaround", set_turnaround),
    ("POST", "/control/batches/{id:path}/end", end_batch),
    ("POST", "/control/batches/{id:path}/age", age_batch),
    ("POST", "/control/clock", advance_clock),
    ("POST", "/control/faults", add_fault),
    ("GET", "/control/faults", show_faults),
    ("DELETE", "/control/faults", clear_faults),
    ("POST", "/control/late", deliver_late),
    ("POST", "/control/keys/revoke", revoke_key),
    ("POST", "/control/limits", set_limit),
    ("GET", "/control/log", show_log),
    ("GET", "/control/billing", show_billing),
)


def control_routes(faults: Callable[[], Faults]) -> list[Route]:
    """Return the routes; `faults` is asked for when a call comes, for it wraps the app that has these routes."""
    return [Route(path, _endpoint(control, faults), methods=[method]) for method, path, control in _CONTROLS]


def _endpoint(control: Control, faults: Callable[[], Faults]) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        try:
            raw = await request.body()
            told = control(request.app.state.emulator, faults(), orjson.loads(raw or b"{}"), request)
            return json_response(await told if isawaitable(told) else told)
        except (ValueError, TypeError, KeyError) as error:
            return json_response({"error": f"{type(error).__name__}: {error}"}, 400)

    return serve

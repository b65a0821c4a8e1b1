"""Put the parts of the emulator together and serve them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nightbatch_local.emulator.anthropic.lines import AnthropicLines
from nightbatch_local.emulator.anthropic.routes import ROUTES as ANTHROPIC
from nightbatch_local.emulator.control import control_routes
from nightbatch_local.emulator.dialect import Dialect
from nightbatch_local.emulator.errors import ApiError, Provider
from nightbatch_local.emulator.export import BillingLog
from nightbatch_local.emulator.faults import Faults
from nightbatch_local.emulator.gemini.files import UPLOAD_ROUTES as GEMINI_UPLOAD
from nightbatch_local.emulator.gemini.lines import GeminiLines
from nightbatch_local.emulator.gemini.routes import ROUTES as GEMINI
from nightbatch_local.emulator.http import Emulator, error_response, provider_routes
from nightbatch_local.emulator.openai.lines import OpenAILines
from nightbatch_local.emulator.openai.routes import ROUTES as OPENAI
from nightbatch_local.emulator.settings import EmulatorSettings
from nightbatch_local.emulator.state import State
from nightbatch_local.emulator.worker import Worker

_DIALECTS: dict[Provider, Dialect] = {
    "openai": OpenAILines(),
    "anthropic": AnthropicLines(),
    "gemini": GeminiLines(),
}
_GEMINI_VERSIONS = ("v1", "v1beta")
_SWITCH_SECONDS = 0.001  # the worker's thread lets go of the interpreter soon, so that requests are answered meanwhile


def run_emulator(settings: EmulatorSettings) -> None:
    """Serve until SIGINT or SIGTERM. Return when the worker has stopped and the billing log is complete."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    state = State(settings.state)
    worker = Worker(state, BillingLog(state, settings.billing_path), _DIALECTS, settings.seed)
    emulator = Emulator(settings, state, worker, settings.turnaround, settings.spread)
    listener = socket.create_server((settings.host, settings.port), backlog=512)
    _tell_port(settings, listener)
    if settings.exit_with_stdin:
        threading.Thread(target=_exit_with_stdin, daemon=True).start()
    _ignore_signals()
    worker.start()
    try:
        _server(build_app(emulator)).run(sockets=[listener])
    finally:
        worker.stop()


def _ignore_signals() -> None:
    """Ignore SIGINT and SIGTERM wherever uvicorn does not handle them.

    It closes on them, then raises them again; the worker must still be stopped after that.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)


def build_app(emulator: Emulator) -> Faults:
    """Return the ASGI app: the providers' routes and the control routes, behind the faults."""
    routes = [*control_routes(lambda: faults), *provider_routes("openai", "/openai/v1", OPENAI)]
    routes += provider_routes("anthropic", "/anthropic", ANTHROPIC)
    for version in _GEMINI_VERSIONS:
        routes += provider_routes("gemini", f"/gemini/upload/{version}", GEMINI_UPLOAD)
        routes += provider_routes("gemini", f"/gemini/{version}", GEMINI)
    app = Starlette(routes=[*routes, Route("/{path:path}", _unknown, methods=["GET", "POST", "PUT", "DELETE"])])
    app.state.emulator = emulator
    faults = Faults(app, emulator.state.now)
    return faults


async def _unknown(request: Request) -> Response:
    provider = request.url.path.split("/")[1]
    shape: Provider = provider if provider in _DIALECTS else "openai"
    return error_response(shape, ApiError(404, f"Unknown request URL: {request.method} {request.url.path}."), "")


def _server(app: Faults) -> uvicorn.Server:
    # proxy_headers off: `faults` needs uvicorn's own `send`
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        lifespan="off",
        # A busy machine pauses for longer than uvicorn's 5 seconds, and a request on a closing connection is in doubt.
        timeout_keep_alive=3600,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def _tell_port(settings: EmulatorSettings, listener: socket.socket) -> None:
    """Write the port that was picked, all at once, so that a reader never sees half of it."""
    port = listener.getsockname()[1]
    if settings.port_file is not None:
        draft = settings.port_file.with_suffix(".draft")
        draft.write_text(f"{port}\n")
        draft.replace(settings.port_file)


def _exit_with_stdin() -> None:
    """Stop when the process that started the emulator is gone, however it went.

    A pipe rather than PR_SET_PDEATHSIG: that one fires when the *thread* that started a child ends.
    """
    while os.read(0, 1024):  # not sys.stdin: its lock must be free when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)

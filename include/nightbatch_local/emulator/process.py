"""Run the emulator as a child process, for tests and the demo."""

from __future__ import annotations

import atexit
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

_START_SECONDS = 300.0  # of a machine that does much else
_STOP_SECONDS = 10.0


class EmulatorProcess:
    """An emulator on a free port, while `with EmulatorProcess(folder, turnaround=0.5) as emulator:` lasts.

    `options` are the fields of `EmulatorSettings` other than `state`. The child ends with this process, however this
    one ends. Raises `RuntimeError` when it does not come up.
    """

    def __init__(self, state_dir: Path | str, **options: Any) -> None:
        self.state_dir = Path(state_dir)
        self.port = int(options.pop("port", 0))
        self._options = options
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Return scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """Return the OpenAI SDK's `base_url`."""
        return f"{self.url}/openai/v1"

    @property
    def anthropic_url(self) -> str:
        """Return the Anthropic SDK's `base_url`."""
        return f"{self.url}/anthropic"

    @property
    def gemini_url(self) -> str:
        """Return the base URL for `HttpOptions` of google-genai."""
        return f"{self.url}/gemini"

    @property
    def billing_path(self) -> Path:
        """Return the path of the billing log."""
        return Path(self._options.get("billing_log") or self.state_dir / "billing.jsonl")

    def start(self) -> None:
        """Start the emulator and wait until it answers; after the first time on the same port."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        port_file = self.state_dir / "port"
        port_file.unlink(missing_ok=True)
        self._child = subprocess.Popen(self._command(port_file), stdin=subprocess.PIPE)
        atexit.register(self.stop)
        self._wait_until_healthy(port_file)

    def kill(self) -> None:
        """Send SIGKILL, as the crash tests need it."""
        if self._child is not None:
            self._child.kill()
            self._reap()

    def restart(self) -> None:
        """Kill the emulator if it runs, and start it on the same port and state."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Ask the emulator to end, and see to it that it does."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._reap()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Make a control call, such as `control("POST", "faults", {...})`. Raises `httpx.HTTPStatusError`."""
        answer = self._ask(method, f"/control/{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def billing(self, account: str | None = None) -> list[dict[str, Any]]:
        """Return every charged request so far, or one account's."""
        return list(self.control("GET", f"billing?account={account}" if account else "billing"))

    def log(self, account: str | None = None) -> list[dict[str, Any]]:
        """Return the provider requests since the last start, or one account's."""
        return list(self.control("GET", f"log?account={account}" if account else "log"))

    def fault(self, provider: str, operation: str, fault: str, **details: Any) -> None:
        """Add a rule, see `nightbatch_local.emulator.faults.Rule`."""
        self.control("POST", "faults", {"provider": provider, "operation": operation, "fault": fault, **details})

    def let_the_late_arrive(self, account: str | None = None) -> int:
        """Deliver what the fault `deliver_late` holds up; returns how many requests that were, when they are done."""
        return int(self.control("POST", "late", {"account": account})["arrived"])

    def _ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        """Send a request without TLS, so without certificates: to read them takes ten times as long as to ask."""
        return httpx.request(method, f"{self.url}{path}", trust_env=False, verify=False, **how)

    def _command(self, port_file: Path) -> list[str]:
        command = [
            sys.executable,
            "-m",
            "nightbatch_local.emulator",
            "--exit-with-stdin",
            "--state",
            str(self.state_dir),
        ]
        command += ["--port", str(self.port), "--port-file", str(port_file)]
        for name, value in self._options.items():
            if value is None:
                continue
            flag = "turnaround-spread" if name == "spread" else name.replace("_", "-")
            command += [f"--{flag}", str(value)]
        return command

    def _wait_until_healthy(self, port_file: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._child is None or self._child.poll() is not None:
                raise RuntimeError("The emulator ended while starting; its message is on standard error.")
            if port_file.exists():
                self.port = int(port_file.read_text())
                self._ask("GET", "/health", timeout=_START_SECONDS).raise_for_status()
                return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"The emulator did not come up within {_START_SECONDS:g} seconds.")

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait()
            if self._child.stdin is not None:
                self._child.stdin.close()
            self._child = None
        atexit.unregister(self.stop)

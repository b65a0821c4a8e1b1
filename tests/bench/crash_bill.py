"""What the provider knows of an account, asked of the emulator: the judge of `crash_peers` and `peers`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import httpx

_PATIENCE = 120.0  # seconds; the machine may be busy
_LISTS = {
    "openai": "/openai/v1/batches",
    "anthropic": "/anthropic/v1/messages/batches",
    "gemini": "/gemini/v1beta/batches",
}


def until(done: Callable[[], bool], what: str, *, patience: float = _PATIENCE) -> None:
    """Wait for it. Raises `TimeoutError` after so many seconds, two minutes if not told."""
    deadline = time.monotonic() + patience
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {patience:g} s")
        time.sleep(0.02)


class Place(Protocol):
    """An account at the emulator."""

    @property
    def provider(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def key(self) -> str: ...


class Judge:
    """What the provider knows, asked of the emulator."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=60)

    def turnaround(self, seconds: float) -> None:
        """How long batches take from now on, the open ones too."""
        self._http.post("/control/turnaround", json={"seconds": seconds}).raise_for_status()

    def hold_back_the_answer(self, place: Place) -> None:
        """The account's next create is done, and answered long after its sender is dead."""
        rule = {"provider": place.provider, "account": place.account, "operation": "batch_create"}
        fault = {"fault": "delay_after", "delay_seconds": 10 * _PATIENCE}
        self._http.post("/control/faults", json=rule | fault).raise_for_status()

    def batches(self, place: Place) -> int:
        """How many batches the provider lists for the account."""
        keys = {"Authorization": f"Bearer {place.key}", "x-api-key": place.key, "x-goog-api-key": place.key}
        answer = self._http.get(_LISTS[place.provider], headers=keys | {"anthropic-version": "2023-06-01"})
        listed = answer.raise_for_status().json()
        return len(listed.get("operations" if place.provider == "gemini" else "data", []))

    def looks(self, place: Place) -> int:
        """How often the account asked for the state of a batch."""
        log = self._http.get("/control/log").raise_for_status().json()
        return sum(seen["account"] == place.account and seen["operation"] == "batch_get" for seen in log)

    def final_bill(self, place: Place, lines: int) -> list[dict[str, Any]]:
        """The account's lines in the billing log, once all its batches have ended."""

        def bill() -> list[dict[str, Any]]:
            billed = self._http.get("/control/billing").raise_for_status().json()
            return [line for line in billed if line["account"] == place.account]

        until(lambda: len(bill()) >= lines, "the end of all batches")
        return bill()

"""What a contender is given, in its own environment: the standard library only."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.stages.child import peak_mb

_SOON = 0.05  # seconds until a batch ends, once it may
_RUNNING = ("validating", "in_progress", "finalizing")
_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Work:
    """One life's work. ``url`` is the emulator's, ``dsn`` empty where no database is used; ``again``: it died before."""

    url: str
    account: str
    folder: str
    jobs: int
    dsn: str = ""
    again: bool = False
    provider: str = "openai"

    @property
    def key(self) -> str:
        """The account's key."""
        return f"emu-{self.account}"

    @property
    def openai_url(self) -> str:
        """The OpenAI SDK's base URL."""
        return f"{self.url}/openai/v1"

    def path(self, name: str) -> Path:
        """A file in a folder that outlasts the life."""
        return Path(self.folder) / name

    def common(self) -> dict[str, Any]:
        """What all requests share: ``model, system, schema, schema_name, max_tokens``."""
        common: dict[str, Any] = json.loads(self.path("common.json").read_text())
        return common

    def prompts(self) -> Iterator[tuple[str, str]]:
        """An id and the user's message for each job."""
        with self.path("prompts.jsonl").open() as lines:
            for line in lines:
                key, user = json.loads(line)
                yield key, user

    def batches(self) -> list[dict[str, Any]]:
        """What the provider lists for the account."""
        request = urllib.request.Request(f"{self.openai_url}/batches?limit=100")
        request.add_header("Authorization", f"Bearer {self.key}")
        with _HTTP.open(request, timeout=60) as answer:
            listed: list[dict[str, Any]] = json.load(answer)["data"]
        return listed

    def end_all(self) -> None:
        """Let the provider's night pass: returns when every batch of the account has ended."""
        body = json.dumps({"seconds": _SOON}).encode()
        with _HTTP.open(f"{self.url}/control/turnaround", data=body, timeout=60):
            pass
        while any(batch["status"] in _RUNNING for batch in self.batches()):
            time.sleep(0.1)


class Clock:
    """Wall seconds of the two halves, and the memory: made when all is imported, before the work begins."""

    def __init__(self, work: Work) -> None:
        self._work, self._began, self._night_is_over = work, 0.0, False
        self.figures = {"bare_mb": peak_mb()}

    def start(self) -> None:
        """The work begins."""
        self._began = time.perf_counter()

    def night(self, _seconds: float = 0) -> None:
        """All is sent: the provider's night passes, uncounted. Also for a peer that asks for a function to sleep with."""
        if self._night_is_over:
            raise RuntimeError("All batches had ended, and it waits again: it has sent something twice.")
        self._told("send_seconds")
        self._work.end_all()
        self._night_is_over = True
        self.start()

    def stop(self) -> None:
        """The answers are stored."""
        self._told("fetch_seconds")
        self.figures["peak_mb"] = peak_mb()

    def _told(self, name: str) -> None:
        self.figures[name] = round(time.perf_counter() - self._began, 3)

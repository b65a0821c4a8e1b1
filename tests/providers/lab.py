"""An adapter at the emulator, on an account of its own."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from nightbatch.core.models import (
    EmbeddingInput,
    Endpoint,
    Prompt,
    ProviderName,
    ProviderState,
    Request,
    ResultLine,
    Submission,
    UnreadableLine,
    custom_id,
)
from nightbatch.core.provider import BatchProvider
from nightbatch.providers import build
from nightbatch_local.emulator.process import EmulatorProcess
from tests.providers.bodies import EMBEDDING_MODELS, MODELS

Line = ResultLine | UnreadableLine


@dataclass
class Lab:
    """One provider's adapter on an account that nobody else uses."""

    emulator: EmulatorProcess
    name: ProviderName
    folder: Path
    account: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        self.provider = self.adapter()

    def adapter(self, key: str | None = None) -> BatchProvider:
        """An adapter as another process would make it."""
        url = cast(str, getattr(self.emulator, f"{self.name}_url"))
        return build(self.name, api_key=key or f"emu-{self.account}", base_url=url)

    def job(self, requests: Sequence[Request | str], endpoint: Endpoint = "chat") -> tuple[Submission, Path]:
        """A submission and its input file, not uploaded yet; jobs are numbered from 1."""
        model = EMBEDDING_MODELS[self.name] if endpoint == "embeddings" else MODELS[self.name]
        path = self.folder / f"{uuid.uuid4().hex}.jsonl"
        with path.open("wb") as file:
            for number, request in enumerate(requests, start=1):
                prompt = Prompt(request) if isinstance(request, str) else request
                file.write(self.provider.render(custom_id(number, 7, None), model, endpoint, prompt) + b"\n")
        tag = f"nb-{uuid.uuid4().hex}"
        return Submission(7, tag, model, endpoint, len(requests), intent_at=datetime.now(UTC)), path

    def uploaded(
        self, requests: Sequence[Request | str] = ("One.", "Two."), endpoint: Endpoint = "chat"
    ) -> tuple[Submission, Path]:
        """The same, with the input at the provider."""
        submission, path = self.job(requests, endpoint)
        return replace(submission, input_file=self.provider.upload(submission, path)), path

    def send(self, *requests: Request | str, endpoint: Endpoint = "chat") -> str:
        """Upload and create; the provider's batch id."""
        return self.provider.submit(*self.uploaded(requests, endpoint))

    def state(self, batch_id: str) -> ProviderState:
        """As synchronous callers ask for it."""
        return asyncio.run(self.provider.get_state(batch_id))

    def wait(self, batch_id: str) -> ProviderState:
        """The state once the batch is over."""
        deadline = time.monotonic() + 60
        while (state := self.state(batch_id)).phase == "running":
            assert time.monotonic() < deadline, state
            time.sleep(0.02)
        return state

    def end(self, batch_id: str, outcome: str = "completed", **how: Any) -> ProviderState:
        """Let a batch end now, and wait until the provider says so."""
        self.emulator.control("POST", f"batches/{batch_id}/end", {"as": outcome, **how})
        return self.wait(batch_id)

    def age(self, batch_id: str, days: float) -> None:
        """As if an ended batch had been sent so many days earlier."""
        self.emulator.control("POST", f"batches/{batch_id}/age", {"days": days})

    def results(self, *requests: Request | str, endpoint: Endpoint = "chat") -> list[Line]:
        """All lines of a batch that was sent and has ended."""
        batch_id = self.send(*requests, endpoint=endpoint)
        self.end(batch_id)
        return self.lines(batch_id)

    def lines(self, batch_id: str) -> list[Line]:
        """The readable ones in the order of their jobs, then the others."""
        found = list(self.provider.iter_results(batch_id))
        return sorted(found, key=lambda line: line.custom_id if isinstance(line, ResultLine) else "~")

    def fault(self, operation: str, fault: str, **details: Any) -> None:
        """Only for this account."""
        self.emulator.fault(self.name, operation, fault, account=self.account, **details)

    def posts(self, operation: str = "batch_create") -> list[int | None]:
        """The statuses of the requests that reached the provider, oldest first."""
        return [seen["status"] for seen in self.emulator.log(self.account) if seen["operation"] == operation]

    def billed(self) -> list[str]:
        """The custom ids that this account was charged for."""
        return [row["custom_id"] for row in self.emulator.billing(self.account)]


def readable(line: Line) -> ResultLine:
    """The line, which has to be one that could be read."""
    assert isinstance(line, ResultLine), line
    return line


def ids(lines: Sequence[Line]) -> list[str]:
    """The custom ids of the readable ones."""
    return [line.custom_id for line in lines if isinstance(line, ResultLine)]


def texts(count: int) -> list[str]:
    """So many prompts."""
    return [f"Describe the harbour of town {number}." for number in range(count)]


def embeddings(*given: str) -> list[EmbeddingInput]:
    """A request of 8 dimensions for each text."""
    return [EmbeddingInput((text,), dimensions=8) for text in given]

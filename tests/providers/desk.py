"""An account at the emulator."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nightbatch.emulator.process import EmulatorProcess
from nightbatch.models import Prompt, ProviderName, Submission
from nightbatch.provider import BatchProvider
from tests.providers.bodies import MODELS


@dataclass
class Desk:
    """One account of one provider, and the adapter under test."""

    emulator: EmulatorProcess
    name: ProviderName
    account: str
    folder: Path
    provider: BatchProvider

    def prepare(self, *texts: str) -> tuple[Submission, Path]:
        """A rendered input file and its submission, not uploaded yet."""
        path = self.folder / "input.jsonl"
        model = MODELS[self.name]
        rendered = [
            self.provider.render(f"j{place}_a1", model, "chat", Prompt(text))
            for place, text in enumerate(texts, start=1)
        ]
        path.write_bytes(b"".join(line + b"\n" for line in rendered))
        return Submission(1, f"nb-1-{self.account}", model, "chat", len(texts), intent_at=datetime.now(UTC)), path

    def ready(self, *texts: str) -> tuple[Submission, Path]:
        """Rendered and uploaded."""
        submission, path = self.prepare(*texts)
        return replace(submission, input_file=self.provider.upload(submission, path)), path

    def fault(self, operation: str, fault: str, **details: Any) -> None:
        self.emulator.fault(self.name, operation, fault, account=self.account, **details)

    def end(self, batch_id: str) -> None:
        """The batch ends now, with everything done."""
        self.emulator.control("POST", f"batches/{batch_id}/end", {})
        deadline = time.monotonic() + 20
        while (state := asyncio.run(self.provider.get_state(batch_id))).phase == "running":
            assert time.monotonic() < deadline, f"still {state.status}"
            time.sleep(0.02)

    def requests(self, operation: str) -> int:
        """How often the emulator was asked for it by this account."""
        seen = self.emulator.log()
        return sum(one["account"] == self.account and one["operation"] == operation for one in seen)


def base_url(emulator: EmulatorProcess, name: ProviderName) -> str:
    """Where the emulator speaks as this provider."""
    return {"openai": emulator.openai_url, "anthropic": emulator.anthropic_url, "gemini": emulator.gemini_url}[name]

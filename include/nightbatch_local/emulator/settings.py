"""The settings that an emulator is started with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EmulatorSettings:
    """Settings of an emulator; `port` 0 picks a free one.

    `turnaround` is the seconds from a batch's creation to its end, `spread` how many more or less.
    Raises `ValueError` for a host that is not loopback: the emulator checks no passwords.
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = 0
    turnaround: float = 2.0
    spread: float = 0.0
    seed: int = 0
    billing_log: Path | None = None
    port_file: Path | None = None
    exit_with_stdin: bool = False

    def __post_init__(self) -> None:
        if self.host != "localhost" and not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError(f"The emulator listens on loopback only, not on {self.host}.")

    @property
    def billing_path(self) -> Path:
        """Return where the billing log goes: `billing.jsonl` in the state folder unless told otherwise."""
        return self.billing_log or self.state / "billing.jsonl"

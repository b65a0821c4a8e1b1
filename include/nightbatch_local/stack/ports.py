"""Choose the TCP ports of 127.0.0.1 that a stack serves on."""

from __future__ import annotations

import json
import socket
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from nightbatch.core.errors import ConfigurationError
from nightbatch_local.postgres.embedded import HOST, check_free, free_port


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a stack: one for Airflow's UI and API, one for Postgres, one for the emulator."""

    api: int
    postgres: int
    emulator: int

    @classmethod
    def load(cls, root: Path) -> Self | None:
        """Return the ports of the last start, if there was one."""
        try:
            return cls(**json.loads((root / "ports.json").read_text()))
        except FileNotFoundError:
            return None

    @classmethod
    def choose(cls, root: Path, given: Mapping[str, int | None], ours: Collection[str]) -> Self:
        """Take the ports given, else those of the last start if free or held by ourselves (``ours``), else free ones.

        They are remembered. Raises `ConfigurationError` when a given one is taken.
        """
        last = cls.load(root)
        ports = cls(
            **{name: _choose(given.get(name), getattr(last, name, None), name in ours) for name in cls.__slots__}
        )
        (root / "ports.json").write_text(json.dumps(asdict(ports)) + "\n")
        return ports


def is_free(port: int) -> bool:
    """Return whether nobody holds the port."""
    with suppress(ConfigurationError):
        check_free(port)
        return True
    return False


def answers(port: int) -> bool:
    """Return whether somebody accepts connections on the port."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _choose(given: int | None, last: int | None, ours: bool) -> int:
    if given:
        if not (ours and given == last):
            check_free(given)
        return given
    return last if last and (ours or is_free(last)) else free_port()

"""Keep the secrets of a stack in a file under its folder."""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64encode
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

USERS = {"admin": "admin", "viewer": "viewer"}
"""The people who can log in, with their roles."""


def _token() -> str:
    return secrets.token_urlsafe(32)


def _fernet_key() -> str:
    return urlsafe_b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of a stack. They are made at the first start, 0600, and kept: sessions and encrypted rows outlive a restart."""

    fernet_key: str = field(default_factory=_fernet_key)
    jwt_secret: str = field(default_factory=_token)
    session_key: str = field(default_factory=_token)
    passwords: dict[str, str] = field(default_factory=lambda: {user: secrets.token_hex(8) for user in USERS})

    @classmethod
    def of(cls, root: Path) -> Self:
        """Return the secrets of this stack, made now if there are none."""
        path = root / "secrets.json"
        if not path.exists():
            made = cls()
            write_private(path, json.dumps(asdict(made)))
            return made
        return cls(**json.loads(path.read_text()))


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner only, which appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)

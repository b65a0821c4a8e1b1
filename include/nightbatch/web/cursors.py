"""Write where a page ended, as a word that clients hand back unread."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

from fastapi import HTTPException


def write_cursor(last: int) -> str:
    """Return the cursor of the page behind the row of this id."""
    return urlsafe_b64encode(str(last).encode()).decode()


def place(cursor: str | None, start: int) -> int:
    """Return the id that a cursor stands for; ``start`` without one. Raises 422 for what was never given out."""
    if cursor is None:
        return start
    try:
        found = int(urlsafe_b64decode(cursor))
    except ValueError:
        found = -1
    if not 0 < found < 2**63:
        raise HTTPException(422, "That is no cursor: hand back `next_cursor` as it came, or leave it out.")
    return found

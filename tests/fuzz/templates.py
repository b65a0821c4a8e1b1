"""Templates and their values, right and wrong."""

from __future__ import annotations

from random import Random
from typing import Any

_PIECES = (
    "Is this ",
    "a complaint? ",
    "$text ",
    "${name} ",
    "$$5 ",
    "{{text}} ",
    "%s ",
    "größe ☕ ",
    "\n",
    '"',
    "\\",
    "$",
    "$1 ",
)
_VALUES: tuple[Any, ...] = ("The coffee was cold.", "", "$name", 3, 2.5, True, "\u2028", "x" * 300, 0, -1)


def template(random: Random) -> dict[str, Any]:
    """Return the template and the values of a job; now and then they do not fit together."""
    pieces = [random.choice(_PIECES[:9] if random.random() < 0.95 else _PIECES) for _ in range(random.randint(1, 6))]
    text = "Judge: " + "".join(pieces)
    values = {name: random.choice(_VALUES) for name in ("text", "name") if f"${name}" in text or f"{{{name}}}" in text}
    if random.random() < 0.03:
        values.popitem() if values else values.update(unused="x")
    return {"template": text, "values": values}

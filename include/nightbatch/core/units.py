"""The units that providers bill, by the names and in the order of genai-prices: tokens of every kind, searches, seconds.

Nothing is listed here by hand: a new unit of the library is one here too (tests say which ones the schema knows).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from types import MappingProxyType

from genai_prices.data_units import unit_data

PLAIN = frozenset({"input_tokens", "cache_read_tokens", "output_tokens"})
"""The units that have database columns of their own."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of billing. ``price_key`` names its price, which is for ``per`` of the unit.

    A unit whose ``dimensions`` include all of another's is a part of that other unit.
    """

    name: str
    price_key: str
    per: int
    dimensions: frozenset[tuple[str, str]]

    @property
    def is_tokens(self) -> bool:
        """Return whether the unit is a kind of token."""
        return ("family", "tokens") in self.dimensions


UNITS: Mapping[str, Unit] = MappingProxyType(
    {
        name: Unit(name, raw["price_key"], raw["per"], frozenset(raw["dimensions"].items()))
        for name, raw in unit_data.items()
    }
)
BY_PRICE_KEY: Mapping[str, Unit] = MappingProxyType({unit.price_key: unit for unit in UNITS.values()})


@lru_cache(maxsize=1024)
def wholes(name: str) -> frozenset[str]:
    """Return the units that contain this one, itself among them; empty for an unknown name."""
    found = UNITS.get(name)
    if found is None:
        return frozenset()
    return frozenset(other.name for other in UNITS.values() if other.dimensions <= found.dimensions)


@lru_cache(maxsize=1024)
def is_untold(name: str, told: frozenset[str]) -> bool:
    """Return whether a usage must have some of this unit, by the other units that it names, without saying how much.

    That is so when it names a part of the unit, or two units whose overlap the unit is: audio, and tokens read from a cache.
    """
    unit = UNITS[name]
    others = [UNITS[other] for other in told if other in UNITS and other != name]
    if any(unit.dimensions < other.dimensions for other in others):
        return True
    return any(_meet_in(unit, one, other) for one, other in combinations(others, 2))


def _meet_in(unit: Unit, one: Unit, other: Unit) -> bool:
    nested = one.dimensions <= other.dimensions or other.dimensions <= one.dimensions
    return not nested and unit.dimensions == one.dimensions | other.dimensions


@lru_cache(maxsize=256)
def finest_first(names: frozenset[str]) -> tuple[tuple[Unit, tuple[str, ...]], ...]:
    """Return the units, each with the names of its parts among them, in such an order that every part comes before its whole."""
    units = sorted((UNITS[name] for name in names), key=lambda unit: (-len(unit.dimensions), unit.name))
    return tuple((unit, tuple(_parts(unit, units))) for unit in units)


def _parts(whole: Unit, units: Iterable[Unit]) -> Iterable[str]:
    return (part.name for part in units if whole.dimensions < part.dimensions)

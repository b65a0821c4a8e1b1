"""Amounts, shares and times as people read them."""

from __future__ import annotations

from decimal import Decimal

NOTHING = "–"


def decimal(value: Decimal) -> str:
    """Write a number for programs: all digits, no exponent."""
    return format(value.normalize(), "f") if value else "0"


def usd(value: Decimal) -> str:
    """Write an amount in USD for people: two decimals, or four for an amount below a dollar."""
    return f"${value:,.2f}" if abs(value) >= 1 or not value else f"${value:.4f}"


def share(value: Decimal, of: Decimal) -> str:
    """Write a value as a percentage of another, or as a dash where there is nothing to compare with."""
    return f"{value / of:.0%}" if of else NOTHING


def percent(value: Decimal | None) -> str:
    """Write a part of 1 as a percentage with one decimal, or as a dash for None."""
    return NOTHING if value is None else f"{value:.1%}"


def duration(seconds: float) -> str:
    """Write seconds in their two largest units: ``45 s``, ``12 min 5 s``, ``3 h 7 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

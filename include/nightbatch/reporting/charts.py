"""Draw charts as SVG, on the server, by pygal: no script, no style, nothing that is loaded from elsewhere.

Colours and fonts come from ``charts.css`` (`CHART_CSS`), which a page gives along: a strict content security policy allows no
styles inside an SVG. A chart is 400 units wide, so that its text is as large as it says on the smallest screen. Each function
returns None when there is nothing to draw. Text from outside becomes text, whatever it holds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pygal
from pygal.style import Style

from nightbatch.core.amounts import duration, percent, usd
from nightbatch.reporting.stats import Days, Figures, Slice, Turnaround

# Its finder for map plugins, which we have none of, is of a kind that Python 3.12 dropped: whoever asks each finder stumbles.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

CHART_CSS = Path(__file__).with_name("charts.css").read_text(encoding="utf-8")

_SVG = "http://www.w3.org/2000/svg"
_WIDTH, _HEIGHT, _ROW = 400, 220, 26
_FONT = 12  # as in charts.css: pygal leaves room for text of this size
_MAX_BARS = 31
_MAX_ROWS = 9
_MAX_LETTERS = 28
_DATES = 4
_ZERO = Decimal(0)


def savings_by_day(days: Days, by_day: Sequence[Slice]) -> str | None:
    """Draw a bar for each day; for a long range, one for each week, month or year."""
    periods = _periods(days, by_day)
    values = [sum((one.savings_usd for one in figures), _ZERO) for figures in periods.values()]
    if not any(values):
        return None
    title = f"Saved by {_unit(days)}, USD"
    return _dated(pygal.Bar, title, dict(zip(periods, values, strict=True)), _axis_usd, usd)


def running_total(days: Days, by_day: Sequence[Slice], totals: Sequence[Decimal]) -> str | None:
    """Draw how the savings since the beginning grew; ``totals`` are those after each of the days in ``by_day``."""
    after = dict(zip((part.key for part in by_day), totals, strict=True))
    if not any(totals):
        return None
    reached: dict[str, Decimal | None] = {}
    last = totals[0] - by_day[0].figures.savings_usd
    for day in _each(days):
        reached[_period(day, _unit(days))] = last = after.get(day.isoformat(), last)
    return _dated(pygal.Line, "Saved since the beginning, USD", reached, _axis_usd, usd, include_x_axis=True)


def success_by_day(days: Days, by_day: Sequence[Slice]) -> str | None:
    """Draw how many of the jobs that ended succeeded, in percent; a gap where none ended."""
    rates = {name: _success(figures) for name, figures in _periods(days, by_day).items()}
    if all(rate is None for rate in rates.values()):
        return None
    title = f"Success rate by {_unit(days)}"
    return _dated(
        pygal.Line, title, rates, _axis_percent, percent,
        range=(0, 1), y_labels=(0, 0.25, 0.5, 0.75, 1), allow_interruptions=True,
    )  # fmt: skip


def share_by(what: str, saved: Mapping[str, Decimal]) -> str | None:
    """Draw the USD saved by provider, model or job type: the largest first, and all that are small together."""
    ordered = sorted(((key, value) for key, value in saved.items() if value), key=lambda row: -row[1])
    if not ordered:
        return None
    if len(ordered) > _MAX_ROWS:
        others = ordered[_MAX_ROWS - 1 :]
        ordered = [*ordered[: _MAX_ROWS - 1], (f"{len(others)} others", sum((value for _, value in others), _ZERO))]
    names, values = zip(*ordered, strict=True)
    return _rows(f"Saved by {what}, USD", names, {"": values}, usd)


def turnaround(rows: Sequence[Turnaround]) -> str | None:
    """Draw within which time half, and nine in ten, of the batches ended, for the models with the most batches."""
    shown = sorted(rows, key=lambda row: -row.batches)[: _MAX_ROWS - 3]
    if not shown:
        return None
    names = [f"{row.provider}/{row.model}" for row in shown]
    series = {
        "half in": [Decimal(str(row.p50_seconds)) for row in shown],
        "90 % in": [Decimal(str(row.p90_seconds)) for row in shown],
    }
    return _rows("Turnaround", names, series, lambda value: duration(float(value)))


def _success(figures: Sequence[Figures]) -> Decimal | None:
    succeeded = sum(one.succeeded for one in figures)
    ended = succeeded + sum(one.failed for one in figures)
    return Decimal(succeeded) / ended if ended else None


def _periods(days: Days, by_day: Iterable[Slice]) -> dict[str, list[Figures]]:
    """Return the figures of each day, week, month or year of the range, also of those without any."""
    unit = _unit(days)
    periods: dict[str, list[Figures]] = {_period(day, unit): [] for day in _each(days)}
    for part in by_day:
        periods[_period(date.fromisoformat(part.key), unit)].append(part.figures)
    return periods


def _each(days: Days) -> Iterable[date]:
    return (days.since + timedelta(days=number) for number in range(len(days)))


def _unit(days: Days) -> str:
    """Return the smallest unit of time that makes few enough bars."""
    units = {"day": 1, "week": 7, "month": 30}
    return next((unit for unit, length in units.items() if len(days) <= length * _MAX_BARS), "year")


def _period(day: date, unit: str) -> str:
    match unit:
        case "day":
            return day.isoformat()
        case "week":
            return (day - timedelta(days=day.weekday())).isoformat()
        case "month":
            return f"{day:%Y-%m}"
        case _:
            return str(day.year)


def _dated(
    kind: type[Any], title: str, values: Mapping[str, Decimal | None],
    axis: Callable[[float], str], tell: Callable[[Decimal], str], **more: Any,
) -> str:  # fmt: skip
    """Draw values along the days; few of these are named, so that the names have room."""
    names = list(values)
    chart = kind(
        **_config(title, _HEIGHT), show_legend=False, x_labels=names, x_labels_major=names[:: -(-len(names) // _DATES)],
        show_minor_x_labels=False, value_formatter=axis, dots_size=2.5, min_scale=2, max_scale=5, **more,
    )  # fmt: skip
    told = {name: f"{name}: {tell(value)}" for name, value in values.items() if value is not None}
    chart.add(title, [{"value": value, "tooltip": told.get(name)} for name, value in values.items()])
    return _bare(chart, title, told.values())


def _rows(
    title: str, names: Sequence[str], series: Mapping[str, Sequence[Decimal]], tell: Callable[[Decimal], str]
) -> str:
    """Draw a row for each name, the first on top; each value is written behind its bar, and has room there."""
    every = [value for values in series.values() for value in values]
    low, high = float(min(*every, _ZERO)), float(max(*every, _ZERO))
    several = len(series) > 1
    room = (0.6 if several else 0.4) * (high - low)
    chart = pygal.HorizontalBar(
        **_config(title, 40 + len(names) * (_ROW + 12 * several) + 24 * several), show_legend=several,
        x_labels=[_short(name) for name in reversed(names)], show_x_labels=False, show_y_guides=False,
        range=(low - room * (low < 0), high + room), print_values=True, print_values_position="top",
        formatter=lambda value: tell(Decimal(str(value))),
    )  # fmt: skip
    told = []
    for kind, values in series.items():
        said = [
            f"{' '.join((_clean(name), kind)).strip()}: {tell(value)}"
            for name, value in zip(names, values, strict=True)
        ]
        bars = [{"value": value, "tooltip": text} for value, text in zip(values, said, strict=True)]
        chart.add(kind, bars[::-1])  # pygal begins at the bottom
        told += said
    return _bare(chart, title, told)


def _config(title: str, height: int) -> dict[str, Any]:
    sizes = dict.fromkeys(("label", "major_label", "value", "legend", "title"), _FONT)
    style = Style(font_family="sans-serif", **{f"{name}_font_size": size for name, size in sizes.items()})
    return {
        "title": title, "width": _WIDTH, "height": height, "style": style, "classes": ("chart",), "js": (), "css": (),
        "no_prefix": True, "truncate_label": -1, "truncate_legend": -1, "legend_at_bottom": True, "margin": 8, "spacing": 6,
        "legend_box_size": 10, "show_x_guides": False,
        "margin_right": 30,
    }  # fmt: skip


def _axis_usd(value: float) -> str:
    """Write USD in three digits: ``$0.002``, ``$450``, ``$1.2k``."""
    size, unit = next(((size, unit) for size, unit in ((1e6, "M"), (1e3, "k")) if abs(value) >= size), (1.0, ""))
    digits = format(Decimal(f"{abs(value) / size:.3g}"), "f")
    return f"{'-' if value < 0 else ''}${digits}{unit}"


def _axis_percent(value: float) -> str:
    return f"{value:.0%}"


def _short(name: str) -> str:
    """Shorten a name to its beginning and its end, which tell models apart."""
    text = _clean(name)
    half = _MAX_LETTERS // 2
    return text if len(text) <= _MAX_LETTERS else f"{text[:half]}…{text[1 - half :]}"


def _clean(text: str) -> str:
    """Replace the characters that XML cannot hold by spaces."""
    return re.sub("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", " ", text)


def _bare(chart: Any, title: str, told: Iterable[str]) -> str:
    """Return the SVG without what only pygal's script and style would use, and with its values for those who cannot see it."""
    root = ET.fromstring(chart.render())  # pygal's own, which has escaped all text
    for parent in list(root.iter()):
        parent.attrib.pop("id", None)
        for child in list(parent):
            if _unused(child, parent):
                parent.remove(child)
    root.set("role", "img")
    root.set("aria-label", f"{title}. {'; '.join(told)}")
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")


def _unused(node: ET.Element, parent: ET.Element) -> bool:
    tag = node.tag.removeprefix(f"{{{_SVG}}}")
    of_axis = tag == "title" and "guides" in parent.get("class", "")  # it says where on the axis a label stands
    return tag in ("defs", "desc") or of_axis or "tooltip-overlay" in node.get("class", "")
